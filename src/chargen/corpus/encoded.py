"""A corpus: a text as ids on disk, encoded once, split in two and mapped into memory.

A corpus is a sequence of articles with one end-of-article id between two of them. The text is read twice in pieces,
once to count its symbols and once to encode them; neither the text nor its ids are in memory as a whole.

An encoded folder holds `ids.bin`, the ids in the smallest sufficient unsigned integer, `tokenizer.json` and
`manifest.json`. Its name is a hash of the text's bytes and of every setting that changes the ids, so that another text
or setting has another folder. The manifest is written last: a folder without one was interrupted and is written again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from chargen.config import CorpusConfig
from chargen.corpus.code_points import NUM_CODE_POINTS, code_points_of, count_code_points
from chargen.corpus.progress import Advance, byte_progress
from chargen.corpus.reader import Article, Cleaning, read_articles
from chargen.corpus.sources import fetch, find_files, python_reference, reading
from chargen.corpus.tokenizer import END_ID, Tokenizer, Unit
from chargen.errors import ConfigError, TextError
from chargen.storage.atomic import atomic_write, write_text
from chargen.storage.checksum import sha256_of
from chargen.storage.locks import folder_lock

FORMAT_VERSION = 1

BLOCK_IDS = 1 << 20
"""Ids that are read at a time."""

PYTHON_REFERENCE = "python_reference"
"""Name of the corpus that needs no file: the Python language reference."""


@dataclass(frozen=True)
class Corpus:
    """A text as ids, split into a part for training and a held-out part for validation.

    Attributes:
        name: the name of the corpus.
        ids: (N,) unsigned integers on disk, mapped into memory.
        tokenizer: the tokenizer of these ids.
        sha256: digest of the text's bytes; for a single file, the SHA-256 of that file.
        num_articles: the number of articles.
        num_train: the number of ids for training, from the first one on. The rest is held out.
    """

    name: str
    ids: np.memmap
    tokenizer: Tokenizer
    sha256: str
    num_articles: int
    num_train: int

    @property
    def train(self) -> np.ndarray:
        """The ids for training, (num_train,)."""
        return self.ids[: self.num_train]

    @property
    def validation(self) -> np.ndarray:
        """The last id for training followed by the held-out ids, so that each held-out id has a predecessor."""
        return self.ids[self.num_train - 1 :]

    @property
    def start_id(self) -> int:
        """The id that a model reads before the first character of a new article.

        It is the end-of-article id if the corpus has several articles. In a corpus of one article a model never sees
        that id, so it is a newline, or the most common symbol if there is no newline.
        """
        if self.num_articles > 1:
            return END_ID
        newline = int(self.tokenizer.encode("\n")[0])
        return newline or int(np.bincount(self.train[:BLOCK_IDS]).argmax())


class EncodedText(NamedTuple):
    """The content of an encoded folder.

    Attributes:
        ids: (N,) unsigned integers on disk, mapped into memory.
        tokenizer: the tokenizer of these ids.
        num_articles: the number of articles.
    """

    ids: np.memmap
    tokenizer: Tokenizer
    num_articles: int


def load_corpus(config: CorpusConfig, data_dir: Path, *, expected_sha256: str | None = None) -> Corpus:
    """Find the text of a corpus, encode it unless that was done before, and map its ids into memory.

    Args:
        config: the text, how to clean it, and where to split it.
        data_dir: the folder of downloads and encoded corpora.
        expected_sha256: digest of the text that a run has learned from. A text with another digest is not encoded.

    Raises:
        ConfigError: a setting of the corpus is missing, unknown, or does not fit its text.
        TextError: the text cannot be found, fetched or read, has another digest, or is too short.
    """
    unit = cast(Unit, config.unit)
    cleaning = Cleaning(config.encoding, unit, config.normalize_newlines, config.normalize_unicode)
    source = _Source(_files_of(config, data_dir))
    stamps = source.stamps()
    with byte_progress(f"encoding {config.name}", sum(size for size, _ in stamps)) as advance_bar:

        def advance(num_bytes: int) -> None:
            advance_bar(num_bytes / 3)  # every byte is read three times: for the digest, to count and to encode

        digest = source.sha256(advance)
        if expected_sha256 not in (None, digest):
            raise TextError(f"the text of corpus {config.name} has changed since the run: start a new run")
        shape = {"version": FORMAT_VERSION, "text": digest, "kinds": source.suffixes(), **asdict(cleaning)}
        key = hashlib.sha256(json.dumps({**shape, "min_count": config.min_count}).encode()).hexdigest()
        folder = data_dir / "encoded" / key[:20]
        encoded = load_encoded(folder, key)
        if encoded is None:
            with folder_lock(folder, wait=True, say=lambda text: print(f"chargen: {text}", file=sys.stderr)):
                encoded = load_encoded(folder, key)  # another process may have written it in the meantime
                if encoded is None:
                    (folder / "manifest.json").unlink(missing_ok=True)
                    sizes = _write_ids(lambda: source.articles(cleaning, advance), folder, config)
                    if not source.has(stamps):
                        raise TextError(f"the text of corpus {config.name} changed while it was read: try again")
                    manifest = {"key": key, "name": config.name, "sha256": digest, **shape, **sizes}
                    write_text(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False))
                    encoded = load_encoded(folder, key)
            assert encoded is not None, f"{folder} was written and cannot be read"
    num_train = _num_train(encoded.ids, config)
    return Corpus(config.name, encoded.ids, encoded.tokenizer, digest, encoded.num_articles, num_train)


def encode_file(path: str, tokenizer: Tokenizer, cleaning: Cleaning) -> np.ndarray:
    """Encode the articles of a file, a folder or a glob with an existing tokenizer.

    Args:
        path: as in `find_files`.
        tokenizer: its unit must be that of `cleaning`.
        cleaning: how to decode and clean the files.

    Returns:
        (N,) ids, of the tokenizer's `dtype`, with `END_ID` between two articles.

    Raises:
        TextError: the text cannot be found or read.
        ValueError: the units differ.
    """
    if cleaning.unit != tokenizer.unit:
        raise ValueError(f"cleaning.unit is {cleaning.unit}, but the tokenizer's unit is {tokenizer.unit}")
    with closing(_Source(find_files(path)).articles(cleaning)) as articles:
        pieces = list(_encode(articles, tokenizer))
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=tokenizer.dtype)


# ------------------------------------------------------------------------------- source


@dataclass(frozen=True)
class _Source:
    """The text of a corpus: files, or the Python language reference if `files` is None."""

    files: Sequence[Path] | None

    def stamps(self) -> list[tuple[int, int]]:
        """Return size and modification time of each file."""
        stamps = []
        for file in self.files or ():
            with reading(file):
                status = file.stat()
            stamps.append((status.st_size, status.st_mtime_ns))
        return stamps

    def has(self, stamps: list[tuple[int, int]]) -> bool:
        """Tell whether the files are unchanged since `stamps` was returned."""
        try:
            return self.stamps() == stamps
        except TextError:
            return False

    def sha256(self, advance: Advance) -> str:
        """Return the digest of the text: that of its only file, or of the list of digests of several files."""
        if self.files is None:
            return hashlib.sha256("\0".join(python_reference()).encode()).hexdigest()
        digests = []
        for file in self.files:
            with reading(file):
                digests.append(sha256_of(file, advance))
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

    def suffixes(self) -> list[str]:
        """Return the last two suffixes of each file: they decide how it is read."""
        return ["".join(file.suffixes[-2:]) for file in self.files or ()]

    def articles(self, cleaning: Cleaning, advance: Advance = lambda _: None) -> Generator[Article, None, None]:
        """Yield the articles, as `read_articles` does."""
        if self.files is None:
            for text in python_reference():
                yield [code_points_of(text if cleaning.unit == "character" else text.encode())]
        else:
            for file in self.files:
                yield from read_articles(file, cleaning, advance)


def _files_of(config: CorpusConfig, data_dir: Path) -> list[Path] | None:
    """Return the files of a corpus after fetching them if necessary; None for the Python language reference."""
    if config.url is not None:
        if config.file is None or config.size is None or config.sha256 is None:
            raise ConfigError(f"corpus.url={config.url}: set corpus.file, corpus.size and corpus.sha256 too")
        return [fetch(config.url, data_dir / config.file, config.size, config.sha256)]
    if config.path is not None:
        return find_files(config.path)
    if config.name != PYTHON_REFERENCE:
        raise ConfigError(f"corpus={config.name} needs a text: corpus.path=FILE, FOLDER or 'GLOB'")
    return None


# ------------------------------------------------------------------------------- encoded folder


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
    return EncodedText(ids, tokenizer, num_articles)


def _write_ids(
    articles: Callable[[], Generator[Article, None, None]], folder: Path, config: CorpusConfig
) -> dict[str, Any]:
    """Read the articles twice and write `ids.bin` and `tokenizer.json`. Return what the manifest says about the ids."""
    counts = np.zeros(NUM_CODE_POINTS, dtype=np.int64)
    with closing(articles()) as opened:
        for symbols in (piece for article in opened for piece in article):
            count_code_points(symbols, counts)
    if not counts.any():
        raise TextError(f"the corpus {config.name} is empty: give a text with characters in it")
    tokenizer = Tokenizer(map(chr, np.flatnonzero(counts >= max(config.min_count, 1))), cast(Unit, config.unit))
    if not tokenizer.symbols:
        raise ConfigError(
            f"corpus.min_count={config.min_count}: no character occurs that often; the most common one occurs "
            f"{counts.max()} times"
        )
    num_ids, num_articles = 0, 1
    with atomic_write(folder / "ids.bin") as temporary, open(temporary, "wb") as stream, closing(articles()) as opened:
        for ids in _encode(opened, tokenizer):
            stream.write(ids.data)
            num_ids += len(ids)
            num_articles += int(ids[0] == END_ID)  # no symbol of a text has this id
    write_text(folder / "tokenizer.json", tokenizer.to_json())
    return {"dtype": tokenizer.dtype.name, "num_ids": num_ids, "num_articles": num_articles}


def _encode(articles: Iterable[Article], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Yield ids in pieces, with a piece of one `END_ID` between two articles. Empty articles are skipped."""
    separator = np.array([END_ID], dtype=tokenizer.dtype)
    is_first_article = True
    for article in articles:
        is_new = True
        for symbols in filter(len, article):
            if is_new and not is_first_article:
                yield separator
            is_new = is_first_article = False
            yield tokenizer.encode_code_points(symbols)


# ------------------------------------------------------------------------------- split


def _num_train(ids: np.memmap, config: CorpusConfig) -> int:
    num_train = int(len(ids) * (1 - config.validation_fraction))
    if config.split == "article":
        end = find_article_end(ids, num_train)
        if end is None:
            raise ConfigError("corpus.split=article needs several articles, and this corpus is one: write contiguous")
        num_train = end
    if num_train < 2 or len(ids) - num_train < 1:
        raise TextError(
            f"the corpus has {len(ids)} characters, too few to train on and to hold some out: add more text"
        )
    return num_train


def find_article_end(ids: np.memmap, position: int, *, block_ids: int = BLOCK_IDS) -> int | None:
    """Find the boundary between two articles that is closest to `position` from above, or else the last one below it.

    The ids are read from their file in blocks, because what is read through the map stays in memory.

    Args:
        ids: (N,) ids, mapped from a file.
        position: an index from 0 to N.
        block_ids: how many ids are read at a time.

    Returns:
        The index that follows an `END_ID`; None if there is none.
    """
    first = max(position - 1, 0)  # an END_ID here is followed by `position`
    forward = range(first, len(ids), block_ids)
    backward = (max(stop - block_ids, 0) for stop in range(first, 0, -block_ids))
    for starts, which in ((forward, 0), (backward, -1)):
        for start in starts:
            block = np.fromfile(str(ids.filename), ids.dtype, block_ids, offset=start * ids.itemsize)
            ends = np.flatnonzero(block == END_ID)
            if len(ends):
                return start + int(ends[which]) + 1
    return None
