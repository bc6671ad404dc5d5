"""How well a text is predicted, and how much of it was copied."""
