"""Text files become ids on disk, in pieces; no text is in memory as a whole.

- `sources`: find the files of a text, or download them.
- `reader`: decode and clean the articles of a file.
- `code_points`: decode UTF-8, count symbols and look up their ids.
- `tokenizer`: symbols to ids and back.
- `encoded`: the corpus, encoded once and mapped into memory.
- `progress`: a progress bar over bytes.
"""
