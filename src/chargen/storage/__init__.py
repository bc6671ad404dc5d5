"""Files of a run: written atomically, read safely, each format with one owner."""
