"""Text files become ids on disk, in pieces; no text is in memory as a whole.

- `files`: find the files of a text: a file, a folder, a glob.
- `sources`: download a text.
- `reader`: decode and clean the articles of a file.
- `code_points`: decode UTF-8, count symbols and look up their ids.
- `tokenizer`: symbols to ids and back.
- `split`: where a corpus is cut in two.
- `encoded_folder`: the folder of an encoded text.
- `encoded`: the corpus, encoded once and mapped into memory.
- `contexts`: what a model reads before it begins to write.
- `cache`: remove encoded texts and downloads.
- `progress`: a progress bar over bytes.
"""
