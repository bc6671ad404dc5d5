"""Leave out lines that a text repeats often, such as the notices of a site below each chapter."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator


class LineCounts:
    """How often each line of a text occurs, apart from white space around it. Blank lines do not count.

    Memory grows by about a hundred bytes for each different line.
    """

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def add(self, line: str) -> int:
        """Count a line; return how often it has occurred by now, 0 for a blank one."""
        stripped = line.strip()
        if not stripped:
            return 0
        digest = _digest(stripped)
        self._counts[digest] += 1
        return self._counts[digest]

    def add_all(self, pieces: Iterable[str]) -> None:
        """Count the lines of a text that comes in pieces."""
        for line in lines_with_ends(pieces):
            self.add(line)

    def count(self, line: str) -> int:
        """Return how often a line occurs; 0 for a blank one."""
        return self._counts[_digest(line.strip())]

    def without_repeated(self, pieces: Iterable[str], most: int) -> Iterator[str]:
        """Leave out the lines that occur more than `most` times, with their ends, in a text that comes in pieces."""
        for line in lines_with_ends(pieces):
            if self.count(line) <= most:
                yield line


def _digest(line: str) -> bytes:
    return hashlib.blake2b(line.encode("utf-32-le", "surrogatepass"), digest_size=8).digest()


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def lines_with_ends(pieces: Iterable[str]) -> Iterator[str]:
    """Split a text that comes in pieces behind each LF, CRLF and CR. What is yielded joins to the same text."""
    rest = ""
    for piece in pieces:
        *lines, rest = _LINE.findall(rest + piece) or [""]  # the last line may go on, or its CR may be part of a CRLF
        yield from lines
    if rest:
        yield rest
