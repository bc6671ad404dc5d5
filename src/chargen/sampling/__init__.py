"""From a trained model to text, without torch."""
