"""Reports and figures about texts and runs.

- `text_profile`: what a text contains, before training on it.
- `figures`: draw learning curves.
"""
