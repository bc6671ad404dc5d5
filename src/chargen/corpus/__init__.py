"""Text files become ids on disk, in pieces; no text is in memory as a whole.

- `files`: find the files of a text: a file, a folder, a glob.
- `sources`: download a text.
- `text_files`: the files of a text: their digest, their encodings and their articles.
- `reader`: read the articles of a file, and clean them.
- `records`: articles from tables and JSON.
- `documents`: text of .html, .epub and .docx files.
- `decoding`: decode the bytes of a file.
- `encodings`: find the encoding of a file.
- `languages`: the characters of languages.
- `repeated_lines`: leave out lines that a text repeats often.
- `code_points`: decode UTF-8, count symbols and look up their ids.
- `tokenizer`: symbols to ids and back.
- `split`: where a corpus is cut in two.
- `encoded_folder`: the folder of an encoded text.
- `encoded`: the corpus, encoded once and mapped into memory.
- `contexts`: what a model reads before it begins to write.
- `cache`: remove encoded texts and downloads.
- `progress`: a progress bar over bytes.
"""
