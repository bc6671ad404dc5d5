"""Describe a text before training on it: its size, its lines and articles, and what is unusual in it.

A text is read in pieces, as training reads it. Memory grows only by one digest for each article and for each different
line, by which repetitions are recognized.
"""

from __future__ import annotations

import codecs
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chargen.corpus.code_points import NUM_CODE_POINTS, count_code_points
from chargen.corpus.decoding import Damage
from chargen.corpus.encodings import AUTO
from chargen.corpus.progress import Advance
from chargen.corpus.reader import Cleaning, Findings, read_articles, split_lines
from chargen.corpus.repeated_lines import LineCounts
from chargen.corpus.sources import reading
from chargen.corpus.text_files import TextFiles

RARE = 5
"""A symbol with fewer occurrences is reported as rare: too few to learn it from."""

MANY_TIMES = 9
"""A line that occurs more often than this is shown: it may be a notice rather than a part of the text."""

MAX_SHOWN_LINE = 200
"""Characters of a repeated line that are kept."""

_CATEGORIES = {"Cc": "a control character", "Co": "private use", "Cn": "unassigned", "Cs": "half of a surrogate pair"}

_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LINE_END_NAMES = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}


@dataclass(frozen=True)
class RareSymbol:
    """A symbol with few occurrences, and the place of the first one.

    Attributes:
        symbol: the character.
        count: its number of occurrences.
        file: the file of the first one.
        line: its line, counted from 1; in a `.jsonl` file, within the text of its article.
        column: its column, counted from 1.
    """

    symbol: str
    count: int
    file: Path
    line: int
    column: int

    @property
    def name(self) -> str:
        """The name that Unicode gives to the symbol."""
        return unicodedata.name(self.symbol, _CATEGORIES.get(unicodedata.category(self.symbol), "no name"))


@dataclass
class TextProfile:
    """What a text contains.

    Attributes:
        num_bytes: size of its files, as stored.
        num_byte_order_marks: the number of files that begin with a byte order mark.
        counts: (NUM_CODE_POINTS,) occurrences of each code point.
        line_ends: the number of lines that end with `LF`, `CRLF` and `CR`.
        longest_line: length of the longest line in characters.
        is_nfc: whether Unicode NFC leaves it unchanged.
        article_lengths: length of each article in characters; empty articles are left out.
        num_repeated_articles: the number of articles that are equal to an earlier one.
        num_lines: the number of lines that are not blank.
        num_repeated_lines: how many of them are equal to an earlier one, apart from white space around it.
        repeated_lines: how often each line occurs that occurs more than `MANY_TIMES`, the most frequent first. These
            are the lines that `corpus.drop_repeated_lines` leaves out.
        rare: the symbols with fewer than `RARE` occurrences, the rarest first.
        notes: what was found about encodings.
    """

    num_bytes: int = 0
    num_byte_order_marks: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(NUM_CODE_POINTS, np.int64))
    line_ends: Counter[str] = field(default_factory=Counter)
    longest_line: int = 0
    is_nfc: bool = True
    article_lengths: list[int] = field(default_factory=list)
    num_repeated_articles: int = 0
    num_lines: int = 0
    num_repeated_lines: int = 0
    repeated_lines: dict[str, int] = field(default_factory=dict)
    rare: list[RareSymbol] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def num_characters(self) -> int:
        """The number of characters."""
        return int(self.counts.sum())

    @property
    def num_symbols(self) -> int:
        """The number of different characters."""
        return int(np.count_nonzero(self.counts))


def profile_text(
    files: Sequence[Path], cleaning: Cleaning = Cleaning(AUTO), advance: Advance = lambda _: None
) -> TextProfile:
    """Read a text and describe what it contains.

    Args:
        files: the files of the text.
        cleaning: how they are read.
        advance: called with the number of bytes read since its last call; every byte is read three times.

    Raises:
        TextError: a file cannot be read. If it is in another encoding, the message names the one that fits.
    """
    text = TextFiles(tuple(files)).with_encodings(cleaning, advance)
    profiler = _Profiler(text, cleaning, advance)
    for file in files:
        profiler.add(file)
    profiler.locate_rare_symbols(files)
    profiler.profile.repeated_lines = profiler.repeated_lines()
    profiler.profile.notes = [*text.notes, *text.misread(cleaning)]
    if profiler.damage.num_bytes:
        profiler.profile.notes.append(profiler.damage.note(cleaning.errors))
    return profiler.profile


class _Profiler:
    """Build a profile file by file."""

    def __init__(self, text: TextFiles, cleaning: Cleaning, advance: Advance) -> None:
        self.profile = TextProfile()
        self._cleanings = {
            file: replace(cleaning, encoding=encoding)
            for file, encoding in zip(text.files or (), text.encodings, strict=True)
        }
        self._advance = advance
        self.damage = Damage()
        self._articles_seen: set[bytes] = set()
        self._lines = LineCounts()
        self._often: list[str] = []  # lines that occur more than MANY_TIMES

    def add(self, file: Path) -> None:
        """Count everything in a file but its rare symbols."""
        profile = self.profile
        with reading(file), open(file, "rb") as stream:
            profile.num_bytes += file.stat().st_size
            profile.num_byte_order_marks += stream.read(3).startswith(_BYTE_ORDER_MARKS)
        for pieces in self._articles(file, self.damage):
            digest = hashlib.blake2b(digest_size=16)
            profile.article_lengths.append(0)
            line: str | None = None
            for next_line in split_lines(self._count_pieces(pieces, digest)):
                if line is not None:
                    self._count_line(line, "\n")
                line = next_line
            if line:
                self._count_line(line, "")
            if not profile.article_lengths[-1]:
                profile.article_lengths.pop()
                continue
            profile.num_repeated_articles += digest.digest() in self._articles_seen
            self._articles_seen.add(digest.digest())

    def _articles(self, file: Path, damage: Damage | None = None) -> Iterator[Iterable[np.ndarray]]:
        findings = Findings(damage=damage or Damage())
        with closing(read_articles(file, self._cleanings[file], self._advance, findings)) as articles:
            yield from articles

    def _count_pieces(self, pieces: Iterable[np.ndarray], digest: Any) -> Iterator[str]:
        """Count the pieces of the newest article and yield them as text."""
        profile = self.profile
        for code_points in pieces:
            profile.article_lengths[-1] += len(code_points)
            count_code_points(code_points, profile.counts)
            text = code_points.astype("<u4").tobytes().decode("utf-32-le")
            digest.update(text.encode("utf-32-le"))
            profile.is_nfc &= unicodedata.is_normalized("NFC", text)
            yield text

    def _count_line(self, line: str, end: str) -> None:
        """Count what stands between two LFs, and `end`; a CR within it ends a line too."""
        profile = self.profile
        if line.endswith("\r") and end:
            line, end = line[:-1], "\r\n"
        *lines, last = line.split("\r")
        for text, text_end in (*((text, "\r") for text in lines), (last, end)):
            if text_end:
                profile.line_ends[_LINE_END_NAMES[text_end]] += 1
            profile.longest_line = max(profile.longest_line, len(text))
            if number := self._lines.add(text):
                profile.num_lines += 1
                profile.num_repeated_lines += number > 1
                if number == MANY_TIMES + 1:
                    self._often.append(text.strip())

    def repeated_lines(self) -> dict[str, int]:
        """Return how often each line occurs that occurs more than `MANY_TIMES`, the most frequent first."""
        counts = {line: self._lines.count(line) for line in self._often}
        most_first = sorted(counts.items(), key=lambda item: -item[1])
        return {line[:MAX_SHOWN_LINE]: count for line, count in most_first}

    def locate_rare_symbols(self, files: Sequence[Path]) -> None:
        """Read the text again to find the first occurrence of each rare symbol."""
        counts = self.profile.counts
        missing = (counts > 0) & (counts < RARE)
        rare: list[RareSymbol] = []
        for file in files:
            for pieces in self._articles(file):
                for code_point, line, column in _first_occurrences(pieces, missing):
                    rare.append(RareSymbol(chr(code_point), int(counts[code_point]), file, line, column))
        self.profile.rare = sorted(rare, key=lambda symbol: symbol.count)


def _first_occurrences(pieces: Iterable[np.ndarray], missing: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield code point, line and column of the first occurrence of each missing code point in an article.

    Args:
        pieces: the article, in pieces of (N,) code points.
        missing: (NUM_CODE_POINTS,) bool; what is found is set to False.
    """
    line, column = 1, 1  # of the first character of the piece
    for code_points in pieces:
        line_ends = np.flatnonzero(code_points == ord("\n"))
        for at in np.flatnonzero(missing[code_points]):
            code_point = int(code_points[at])
            if missing[code_point]:
                missing[code_point] = False
                ends_before = int(np.searchsorted(line_ends, at))
                in_line = int(at - line_ends[ends_before - 1]) if ends_before else int(at) + column
                yield code_point, line + ends_before, in_line
        if len(line_ends):
            line, column = line + len(line_ends), int(len(code_points) - line_ends[-1])
        else:
            column += len(code_points)
