"""The files of a text: their digest, their encodings and their articles."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from chargen.config import CorpusConfig
from chargen.corpus.code_points import code_points_of
from chargen.corpus.decoding import blocks_of
from chargen.corpus.encodings import AUTO, SAMPLE_SIZE, better_encoding, decoded_twice, detect_encodings
from chargen.corpus.files import find_files, find_text
from chargen.corpus.progress import Advance
from chargen.corpus.reader import Article, Cleaning, Findings, is_encoded, read_articles
from chargen.corpus.repeated_lines import LineCounts
from chargen.corpus.sources import fetch, is_downloaded, python_reference, reading
from chargen.errors import ConfigError, TextError
from chargen.storage.checksum import sha256_of

PYTHON_REFERENCE = "python_reference"
"""Name of the corpus that needs no file: the Python language reference."""

NUM_NAMED = 3
"""How many files a note names."""

NUM_EXAMINED = 50
"""How many files are examined for text that was decoded wrongly."""


@dataclass(frozen=True)
class TextFiles:
    """The files of a text.

    Attributes:
        files: the files; None for the Python language reference.
        download: the name of the download that they come from; None for files of the user.
        notes: what the user should know about them.
        encodings: the encoding of each file; empty as long as they are not known.
    """

    files: tuple[Path, ...] | None
    download: str | None = None
    notes: tuple[str, ...] = ()
    encodings: tuple[str, ...] = field(default=())

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

    def sha256(self, advance: Advance = lambda _: None) -> str:
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

    # --------------------------------------------------------------------------- encodings

    def with_encodings(self, cleaning: Cleaning, advance: Advance = lambda _: None) -> TextFiles:
        """Find the encoding of each file, if it is not set, and note what is unusual.

        A file that has none keeps `utf-8`, so that the error of reading it says where it is not.
        """
        files = self.files or ()
        if cleaning.encoding != AUTO:
            return replace(self, encodings=(cleaning.encoding,) * len(files))
        texts = [file for file in files if is_encoded(file, cleaning)]
        found = dict(zip(texts, detect_encodings(texts, lambda file: blocks_of(file, advance)), strict=True))
        encodings = tuple(found[file].encoding or "utf-8" if file in found else "utf-8" for file in files)
        unsure = [file for file in texts if found[file].encoding and not found[file].certain]
        notes = self.notes
        if set(encodings) - {"utf-8"}:
            notes += (f"encodings: {_by_encoding(files, encodings)}",)
        if unsure:
            notes += (f"too short to be sure of the encoding: {_named(unsure)}; corpus.encoding=NAME sets it",)
        return replace(self, encodings=encodings, notes=notes)

    def misread(self, cleaning: Cleaning) -> tuple[str, ...]:
        """Return notes about files that look as if they were decoded wrongly."""
        notes: list[str] = []
        for file, encoding in islice(zip(self.files or (), self.encodings, strict=True), NUM_EXAMINED):
            if not is_encoded(file, cleaning):
                continue
            with closing(blocks_of(file)) as blocks:
                sample = next(blocks, b"")[:SAMPLE_SIZE]
            is_set = cleaning.encoding != AUTO  # otherwise the whole file has been examined
            if is_set and (better := better_encoding(sample, encoding)):
                notes.append(f"{file} looks wrongly decoded: it reads better as {better}; leave corpus.encoding out")
            elif wrong := decoded_twice(sample.decode(encoding, "ignore")):
                notes.append(
                    f"{file} looks wrongly decoded: it is UTF-8 that was read as {wrong} and saved again; take the "
                    "text from its source, or repair it (python -m pip install ftfy)"
                )
        return tuple(notes[:NUM_NAMED])

    # --------------------------------------------------------------------------- articles

    def articles(
        self, cleaning: Cleaning, advance: Advance = lambda _: None, findings: Findings | None = None
    ) -> Generator[Article, None, None]:
        """Yield the articles, as `read_articles` does."""
        if self.files is None:
            for text in python_reference():
                yield [code_points_of(text if cleaning.unit == "character" else text.encode())]
            return
        encodings = self.encodings or (cleaning.encoding,) * len(self.files)
        for file, encoding in zip(self.files, encodings, strict=True):
            yield from read_articles(file, replace(cleaning, encoding=encoding), advance, findings)

    def count_lines(self, cleaning: Cleaning, advance: Advance = lambda _: None) -> LineCounts:
        """Count the lines of all articles."""
        counts = LineCounts()
        with closing(self.articles(replace(cleaning, drop_repeated_lines=None), advance)) as articles:
            for article in articles:
                counts.add_all(piece.astype("<u4").tobytes().decode("utf-32-le") for piece in article)
        return counts


def _by_encoding(files: Sequence[Path], encodings: Sequence[str]) -> str:
    """Say which files have which encoding, the rarest encoding first."""
    groups: dict[str, list[Path]] = {}
    for file, encoding in zip(files, encodings, strict=True):
        groups.setdefault(encoding, []).append(file)
    rarest_first = sorted(groups.items(), key=lambda item: len(item[1]))
    return "; ".join(f"{name}: {_named(group)}" for name, group in rarest_first)


def _named(files: Iterable[Path]) -> str:
    """Name a few files, or say how many there are."""
    names = [file.name for file in files]
    return ", ".join(names) if len(names) <= NUM_NAMED else f"{', '.join(names[:2])} and {len(names) - 2:,} others"


# ------------------------------------------------------------------------------- where the text is


def find_source(config: CorpusConfig, data_dir: Path) -> TextFiles:
    """Find the text of a corpus, and fetch it if necessary."""
    if config.url is not None:
        if config.file is None or config.size is None or config.sha256 is None:
            raise ConfigError(f"corpus.url={config.url}: set corpus.file, corpus.size and corpus.sha256 too")
        file = fetch(config.url, data_dir / config.file, config.size, config.sha256)
        return TextFiles((file,), config.file)
    if config.path is not None:
        found = find_text(config.path)
        return TextFiles(tuple(found.files), notes=(f"left out: {found.left_out}",) if found.left_out else ())
    if config.name != PYTHON_REFERENCE:
        raise ConfigError(f"corpus={config.name} needs a text: corpus.path=FILE, FOLDER or 'GLOB'")
    return TextFiles(None)


def absence(config: CorpusConfig, data_dir: Path, sha256: str) -> str:
    """Say that the text of a run is not where it was; "" if there is a text, whether or not it is the same."""
    if config.url is not None:
        here = config.file and is_downloaded(data_dir / config.file)
        return "" if here else f"the download {config.file} is not in {data_dir}"
    if config.path is not None:
        try:
            find_files(config.path)
        except TextError as error:
            return str(error)
        return ""
    is_same = config.name != PYTHON_REFERENCE or TextFiles(None).sha256() == sha256
    return "" if is_same else "the Python language reference of this Python is another one"
