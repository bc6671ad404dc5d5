"""A corpus: a text as ids on disk, encoded once, split in two and mapped into memory.

A corpus is a sequence of articles with one end-of-article id between two of them. The text is read twice in pieces,
once to count its symbols and once to encode them; neither the text nor its ids are in memory as a whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from chargen.config import CorpusConfig
from chargen.corpus.code_points import NUM_CODE_POINTS, count_code_points
from chargen.corpus.encoded_folder import (
    ENCODED,
    NAME_LENGTH,
    EncodedText,
    described,
    find_encoded,
    key_of,
    load_encoded,
)
from chargen.corpus.encodings import AUTO
from chargen.corpus.files import find_files
from chargen.corpus.progress import Advance, byte_progress
from chargen.corpus.reader import Article, Cleaning, Findings
from chargen.corpus.split import BLOCK_IDS, num_train
from chargen.corpus.text_files import TextFiles, absence, find_source
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer, Unit
from chargen.errors import ChangedTextError, ConfigError, TextError
from chargen.storage.atomic import atomic_write, write_text
from chargen.storage.locks import folder_lock
from chargen.storage.run_folder import load_model


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
        note: what the user should know about where the text was found and how it was read, in lines; "" if there is
            nothing to say.
        encodings: the encoding of each file.
    """

    name: str
    ids: np.memmap
    tokenizer: Tokenizer
    sha256: str
    num_articles: int
    num_train: int
    note: str = ""
    encodings: tuple[str, ...] = ()

    @property
    def train(self) -> np.ndarray:
        """The ids for training, (num_train,)."""
        return self.ids[: self.num_train]

    @property
    def validation(self) -> np.ndarray:
        """The last id for training followed by the held-out ids, so that each held-out id has a predecessor."""
        return self.ids[self.num_train - 1 :]

    @property
    def line_end(self) -> str:
        """How most lines of the training text end: LF or CRLF."""
        newline, carriage_return = (int(id) for id in self.tokenizer.encode("\n\r"))
        ids = self.train[:BLOCK_IDS]
        places = np.flatnonzero(ids[1:] == newline)
        num_pairs = int((ids[places] == carriage_return).sum())
        return "\r\n" if UNKNOWN_ID not in (newline, carriage_return) and 2 * num_pairs > len(places) else "\n"

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


def load_corpus(
    config: CorpusConfig,
    data_dir: Path,
    *,
    expected_sha256: str | None = None,
    encodings: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
) -> Corpus:
    """Find the text of a corpus, encode it unless that was done before, and map its ids into memory.

    Args:
        config: the text, how to clean it, and where to split it.
        data_dir: the folder of downloads and encoded corpora.
        expected_sha256: digest of the text that a run has learned from. A text with another digest is not encoded.
        encodings: the encoding of each file, if they are known; for `corpus.encoding=auto`.
        tokenizer: of the run, if the text has to be encoded with it; otherwise `corpus.vocabulary` names its run.

    Raises:
        FileError: the run that `corpus.vocabulary` names cannot be read.
        ConfigError: a setting of the corpus is missing, unknown, or does not fit its text.
        TextError: the text cannot be found, fetched or read, has another digest, or is too short.
    """
    cleaning = _cleaning_of(config)
    vocabulary = _vocabulary_of(config, tokenizer)
    source = find_source(config, data_dir)
    stamps = source.stamps()
    # Every byte is read for the digest, to count and to encode; and to find encodings, and to count lines.
    num_readings = 3 + (cleaning.encoding == AUTO) + (cleaning.drop_repeated_lines is not None)
    with byte_progress(f"encoding {config.name}", sum(size for size, _ in stamps)) as advance_bar:

        def advance(num_bytes: int) -> None:
            advance_bar(num_bytes / num_readings)

        digest = source.sha256(advance)
        if expected_sha256 not in (None, digest):
            raise ChangedTextError(
                f"the text of corpus {config.name} has changed since the run, or is another one"
                f"{f' ({config.path})' if isinstance(config.path, str) else ''}: start a new run"
            )

        def key_and_folder(names: Sequence[str]) -> tuple[str, Path]:
            text = described(digest, source.suffixes(), cleaning, names, vocabulary)
            key = key_of(text, config.min_count)
            return key, data_dir / ENCODED / key[:NAME_LENGTH]

        num_files = len(stamps)
        if cleaning.encoding == AUTO and len(encodings) != num_files:  # UTF-8 first: no file is read to find it
            encodings = ("utf-8",) * num_files
            key, folder = key_and_folder(encodings)
            if load_encoded(folder, key) is None:
                encodings = ()
        source = replace(source, encodings=tuple(encodings)) if encodings else source.with_encodings(cleaning, advance)
        key, folder = key_and_folder(source.encodings)
        encoded = load_encoded(folder, key)
        if encoded is None:
            with folder_lock(folder, wait=True, say=lambda text: print(f"chargen: {text}", file=sys.stderr)):
                encoded = load_encoded(folder, key)  # another process may have written it in the meantime
                if encoded is None:
                    (folder / "manifest.json").unlink(missing_ok=True)
                    sizes = _write_ids(source, cleaning, folder, config, advance, vocabulary=vocabulary)
                    if not source.has(stamps):
                        raise TextError(f"the text of corpus {config.name} changed while it was read: try again")
                    text = described(digest, source.suffixes(), cleaning, source.encodings, vocabulary)
                    manifest = {"key": key, "name": config.name, "sha256": digest, **text, **sizes}
                    if source.download is not None:
                        manifest["download"] = source.download
                    write_text(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False))
                    encoded = load_encoded(folder, key)
            assert encoded is not None, f"{folder} was written and cannot be read"
    notes = (*source.notes, *encoded.notes) if expected_sha256 is None else ()  # a run has said them once
    return replace(_corpus(config, encoded, digest, "\n".join(notes)), encodings=source.encodings)


def load_stored_corpus(
    config: CorpusConfig,
    data_dir: Path,
    sha256: str,
    encodings: Sequence[str] = (),
    tokenizer: Tokenizer | None = None,
) -> Corpus | None:
    """Map the ids of a text that is not where it was, but was encoded before.

    Args:
        config: the text, how it was cleaned, and where it was split.
        data_dir: the folder of downloads and encoded corpora.
        sha256: digest of the text.
        encodings: the encoding of each file, if they are known.
        tokenizer: as in `load_corpus`.

    Returns:
        None if there is a text where it was, whether or not it is the same, or if its ids are not in `data_dir`.

    Raises:
        ConfigError: a setting of the corpus is unknown.
    """
    problem = absence(config, data_dir, sha256)
    if not problem:
        return None
    vocabulary = _vocabulary_of(config, tokenizer)
    encoded = find_encoded(data_dir, sha256, _cleaning_of(config), config.min_count, encodings, vocabulary=vocabulary)
    if encoded is None:
        return None
    corpus = _corpus(config, encoded, sha256, f"{problem}; its ids are in {data_dir}")
    return replace(corpus, encodings=tuple(encodings))


def _cleaning_of(config: CorpusConfig) -> Cleaning:
    unit = cast(Unit, config.unit)
    return Cleaning(
        config.encoding, unit, config.normalize_newlines, config.normalize_unicode, config.errors,
        config.drop_repeated_lines, config.field,
    )  # fmt: skip


def _vocabulary_of(config: CorpusConfig, tokenizer: Tokenizer | None) -> Tokenizer | None:
    """Return the tokenizer that the text is encoded with; None if the text has its own characters.

    Raises:
        ConfigError: it is one of bytes, and the text is one of characters, or the reverse.
    """
    if config.vocabulary is None:
        return None
    tokenizer = tokenizer or Tokenizer.from_json(load_model(config.vocabulary).tokenizer)
    if tokenizer.unit != config.unit:
        raise ConfigError(
            f"corpus.vocabulary={config.vocabulary}: it is one of {tokenizer.unit}s; write corpus.unit={tokenizer.unit}"
        )
    return tokenizer


def _corpus(config: CorpusConfig, encoded: EncodedText, digest: str, note: str) -> Corpus:
    ids, tokenizer, num_articles, _ = encoded
    return Corpus(config.name, ids, tokenizer, digest, num_articles, num_train(ids, config), note)


def encode_file(
    path: str, tokenizer: Tokenizer, cleaning: Cleaning, say: Callable[[str], object] = lambda _: None
) -> np.ndarray:
    """Encode the articles of a file, a folder or a glob with an existing tokenizer.

    Args:
        path: as in `find_files`.
        tokenizer: its unit must be that of `cleaning`.
        cleaning: how to decode and clean the files.
        say: called with what the user should know about their encodings.

    Returns:
        (N,) ids, of the tokenizer's `dtype`, with `END_ID` between two articles.

    Raises:
        TextError: the text cannot be found or read.
        ValueError: the units differ.
    """
    if cleaning.unit != tokenizer.unit:
        raise ValueError(f"cleaning.unit is {cleaning.unit}, but the tokenizer's unit is {tokenizer.unit}")
    text = TextFiles(tuple(find_files(path))).with_encodings(cleaning)
    lines = text.count_lines(cleaning) if cleaning.drop_repeated_lines is not None else None
    findings = Findings(lines)
    with closing(text.articles(cleaning, findings=findings)) as articles:
        pieces = list(_encode(articles, tokenizer))
    for note in (*text.notes, *text.misread(cleaning)):
        say(note)
    if findings.damage.num_bytes:
        say(findings.damage.note(cleaning.errors))
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=tokenizer.dtype)


# ------------------------------------------------------------------------------- encoded folder


def _write_ids(
    source: TextFiles,
    cleaning: Cleaning,
    folder: Path,
    config: CorpusConfig,
    advance: Advance,
    *,
    vocabulary: Tokenizer | None,
) -> dict[str, Any]:
    """Read the articles twice and write `ids.bin` and `tokenizer.json`. Return what the manifest says about the ids."""
    lines = source.count_lines(cleaning, advance) if cleaning.drop_repeated_lines is not None else None
    findings = Findings(lines)
    counts = np.zeros(NUM_CODE_POINTS, dtype=np.int64)
    with closing(source.articles(cleaning, advance, findings)) as opened:
        for symbols in (piece for article in opened for piece in article):
            count_code_points(symbols, counts)
    if not counts.any():
        raise TextError(f"the corpus {config.name} is empty: give a text with characters in it")
    known = map(chr, np.flatnonzero(counts >= max(config.min_count, 1)))
    tokenizer = vocabulary or Tokenizer(known, cast(Unit, config.unit))
    if not tokenizer.symbols:
        raise ConfigError(
            f"corpus.min_count={config.min_count}: no character occurs that often; the most common one occurs "
            f"{counts.max()} times"
        )
    num_ids, num_articles = 0, 1
    articles = source.articles(cleaning, advance, Findings(lines))
    with atomic_write(folder / "ids.bin") as temporary, open(temporary, "wb") as stream, closing(articles) as opened:
        for ids in _encode(opened, tokenizer):
            stream.write(ids.data)
            num_ids += len(ids)
            num_articles += int(ids[0] == END_ID)  # no symbol of a text has this id
    write_text(folder / "tokenizer.json", tokenizer.to_json())
    sizes: dict[str, Any] = {"dtype": tokenizer.dtype.name, "num_ids": num_ids, "num_articles": num_articles}
    notes = [*source.misread(cleaning), *_notes(counts, findings, config)]
    if vocabulary is not None and (unknown := counts.sum() - counts[[ord(c) for c in vocabulary.symbols]].sum()):
        notes.append(
            f"corpus.vocabulary does not have {unknown:,} of the {counts.sum():,} characters: they are unknown"
        )
    return {**sizes, "notes": notes} if notes else sizes


def _notes(counts: np.ndarray, findings: Findings, config: CorpusConfig) -> list[str]:
    """Return what the user should know about how a text was read."""
    notes = []
    if findings.damage.num_bytes:
        notes.append(findings.damage.note(config.errors))
    if config.unit == "character":
        if counts[ord("\r")] and counts[ord("\n")]:
            notes.append("lines end with CRLF, and samples too; corpus.normalize_newlines=true turns it into LF")
        if config.errors != "replace" and counts[0xFFFD]:
            notes.append(f"U+FFFD occurs {counts[0xFFFD]:,} times: the text was decoded wrongly before it was saved")
    return notes


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
