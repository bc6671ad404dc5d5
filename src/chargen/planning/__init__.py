"""How long a run is and how large a model may be: arithmetic, without torch."""
