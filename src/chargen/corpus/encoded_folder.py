"""The folder of an encoded text: its name, and how its ids are read.

It holds `ids.bin`, the ids in the smallest sufficient unsigned integer, `tokenizer.json` and `manifest.json`. Its name
is a hash of the text's bytes and of every setting that changes the ids, so that another text or setting has another
folder. The manifest is written last: a folder without one was interrupted and is written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chargen.corpus.documents import DOCUMENTS
from chargen.corpus.encodings import AUTO
from chargen.corpus.reader import Cleaning, kind_of
from chargen.corpus.records import DEFAULT_FIELD, TABLES
from chargen.corpus.tokenizer import Tokenizer

FORMAT_VERSION = 1

ENCODED = "encoded"
"""The folder of encoded texts in the data folder."""

NAME_LENGTH = 20
"""Digits of the hash that are the name of an encoded folder."""


_LATER_SETTINGS = {"errors": "strict", "drop_repeated_lines": None, "field": DEFAULT_FIELD}
"""Settings of later versions. With these values or None, a text of the kinds that earlier versions read has the folder
that they gave it."""


class EncodedText(NamedTuple):
    """The content of an encoded folder.

    Attributes:
        ids: (N,) unsigned integers on disk, mapped into memory.
        tokenizer: the tokenizer of these ids.
        num_articles: the number of articles.
        notes: what the user should know about how the text was read.
    """

    ids: np.memmap
    tokenizer: Tokenizer
    num_articles: int
    notes: tuple[str, ...] = ()


def described(
    sha256: str,
    suffixes: list[str],
    cleaning: Cleaning,
    encodings: Sequence[str] = (),
    vocabulary: Tokenizer | None = None,
) -> dict[str, Any]:
    """Return what decides which ids a text has, apart from `min_count`.

    Args:
        sha256: digest of the text.
        suffixes: of its files.
        cleaning: how it is cleaned.
        encodings: the encoding of each file; one name stands for files that all have the same.
        vocabulary: the tokenizer, if it is not made from the text.
    """
    names = list(encodings) if len(set(encodings)) > 1 else next(iter(encodings), cleaning.encoding)
    settings = {**asdict(cleaning), "encoding": names}
    has_new_kinds = any(kind_of(Path(f"a{suffix}")) in (*TABLES, *DOCUMENTS) for suffix in suffixes)
    for key, default in _LATER_SETTINGS.items():
        if settings[key] in (default, None) and not (has_new_kinds and settings[key] == DEFAULT_FIELD):
            del settings[key]
    if vocabulary is not None:
        settings["vocabulary"] = hashlib.sha256(vocabulary.to_json().encode()).hexdigest()
    return {"version": FORMAT_VERSION, "text": sha256, "kinds": suffixes, **settings}


def key_of(text: dict[str, Any], min_count: int) -> str:
    """Return the hash of a described text and the last setting that changes its ids."""
    return hashlib.sha256(json.dumps({**text, "min_count": min_count}).encode()).hexdigest()


def find_encoded(
    data_dir: Path,
    sha256: str,
    cleaning: Cleaning,
    min_count: int,
    encodings: Sequence[str] = (),
    *,
    vocabulary: Tokenizer | None = None,
) -> EncodedText | None:
    """Find the ids of a text by its digest, whatever its files were called.

    Args:
        data_dir: the folder of downloads and encoded corpora.
        sha256: digest of the text.
        cleaning: how it was cleaned.
        min_count: rarer characters are unknown.
        encodings: the encoding of each file; if they are not known and are to be found, any will do.
        vocabulary: the tokenizer, if it is not made from the text.

    Returns:
        None if it was not encoded with these settings.
    """
    for manifest in sorted((data_dir / ENCODED).glob("*/manifest.json")):
        try:
            if not manifest.is_file():  # a pipe would block
                continue
            stored = json.loads(manifest.read_text(encoding="utf-8"))
            names = stored["encoding"] if cleaning.encoding == AUTO and not encodings else encodings
            names = [names] if isinstance(names, str) else names
            key = key_of(described(sha256, stored["kinds"], cleaning, names, vocabulary), min_count)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        if (encoded := load_encoded(manifest.parent, key)) is not None:
            return encoded
    return None


def load_encoded(folder: Path, key: str) -> EncodedText | None:
    """Map the ids of an encoded folder into memory.

    Args:
        folder: the folder.
        key: the hash of the text and its settings.

    Returns:
        None if the folder is missing, incomplete, damaged, or has another key.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_json((folder / "tokenizer.json").read_text(encoding="utf-8"))
        num_ids, num_articles, dtype = manifest["num_ids"], manifest["num_articles"], tokenizer.dtype
        if not (isinstance(num_ids, int) and isinstance(num_articles, int)):
            return None
        is_complete = (folder / "ids.bin").stat().st_size == num_ids * dtype.itemsize
        if manifest["key"] != key or manifest["dtype"] != dtype.name or not is_complete:
            return None
        ids = np.memmap(folder / "ids.bin", dtype=dtype, mode="r", shape=(num_ids,))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    notes = manifest.get("notes", [])
    return EncodedText(ids, tokenizer, num_articles, tuple(map(str, notes)) if isinstance(notes, list) else ())
