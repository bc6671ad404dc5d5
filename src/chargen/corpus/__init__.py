"""Text files become ids on disk: find, fetch, read, tokenize, encode."""
