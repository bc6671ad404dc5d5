"""Find the encoding of a file from its bytes.

A file that decodes as UTF-8 is UTF-8: other texts of more than a few characters hardly ever do. Otherwise the lines
with bytes from 0x80 up are decoded with each candidate, and the one under which they are most probable wins. A
candidate is an encoding together with a small model of a language.
"""

from __future__ import annotations

import codecs
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from chargen.corpus.languages import candidates, cost_of

AUTO = "auto"
"""The value of `corpus.encoding` that stands for the encodings found here."""

SAMPLE_SIZE = 1 << 16
"""Bytes of a sample: of lines that are not ASCII, from anywhere in the file."""

MAX_UTF8_DAMAGE, MAX_DAMAGE = 0.1, 0.02
"""A text with fewer errors than this, relative to its characters beyond ASCII, is damaged, not in another encoding. In
UTF-8, nearly every character of another encoding is an error.
"""

MIN_KNOWN = 0.8
"""A text has an encoding only if a language uses at least this share of its characters beyond ASCII."""

MAX_UTF16_COST = 9.5
"""Nats per character, on average, of a text in UTF-16 without a byte order mark; other bytes are far above."""

MAX_FILES = 1 << 24
"""More files than any text has."""

MAX_LOSS = 0.2
"""A line was read in a wrong encoding if at most this share of its characters does not come back."""

MIN_CHARACTERS = 4
"""With fewer characters beyond ASCII, no encoding is certain."""

CERTAIN = 7.0
"""Nats between the best two encodings from which on the better one is certain: a thousand times as probable."""

# ------------------------------------------------------------------------------- one file


@dataclass(frozen=True)
class Detection:
    """What the bytes of a file say about its encoding.

    Attributes:
        encoding: the name for Python; None if nothing fits.
        certain: whether no other encoding is nearly as probable.
        is_damaged: whether a few bytes of the file do not fit.
    """

    encoding: str | None
    certain: bool = True
    is_damaged: bool = False


_MARKS = (  # that of UTF-32 first: it begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect_encoding(blocks: Iterable[bytes]) -> Detection:
    """Find the encoding of a file.

    Args:
        blocks: the bytes of the file in pieces. They are read to the end.
    """
    utf8, sample, begin = _Utf8Check(), _Sample(), b""
    for block in blocks:
        begin += block[: SAMPLE_SIZE - len(begin)]
        utf8.feed(block)
        sample.feed(block)
    utf8.feed(b"", final=True)
    for mark, name in _MARKS:
        if begin.startswith(mark):
            return Detection(name)
    if b"\0" in begin:
        return Detection(_utf16_without_mark(begin))
    if not utf8.num_errors:
        is_japanese = b"\x1b$B" in begin or b"\x1b$@" in begin
        return Detection("iso2022_jp" if is_japanese and not utf8.num_valid else "utf-8")
    if declared := _declared(begin, sample.bytes()):
        return Detection(declared)
    if utf8.num_errors <= MAX_UTF8_DAMAGE * utf8.num_valid:
        return Detection("utf-8", is_damaged=True)
    try:  # UTF-8 with halves of surrogate pairs, which no encoding allows
        sample.bytes().decode("utf-8", "surrogatepass")
        return Detection(None)
    except UnicodeDecodeError:
        return _most_probable(sample.bytes())


_DECLARATION = re.compile(rb"""<\?xml[^>]+encoding=["']([\w-]+)|<meta[^>]+charset=["']?([\w-]+)""", re.IGNORECASE)
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252", "shift_jis": "cp932", "euc_kr": "cp949"}


def _declared(begin: bytes, sample: bytes) -> str | None:
    """Return the encoding that a page of HTML or XML names, if its text decodes without an error."""
    found = _DECLARATION.search(begin[:4096])
    try:
        name = codecs.lookup((found[1] or found[2]).decode()).name if found else ""
        name = _WIDER.get(name, name)
        return name if name and _decodes([sample], name) else None
    except (LookupError, UnicodeError):
        return None


class _Utf8Check:
    """Count the characters beyond ASCII and the errors of UTF-8 in a file."""

    def __init__(self) -> None:
        self.num_valid = self.num_errors = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    def feed(self, block: bytes, final: bool = False) -> None:
        """Count one piece; the last one is `final`."""
        if self.num_errors > 1000 and self.num_errors > MAX_UTF8_DAMAGE * self.num_valid:
            return  # it is in another encoding
        pending = self._decoder.getstate()[0]
        if block.isascii() and not pending:
            return
        try:
            text = self._decoder.decode(block, final)
        except UnicodeDecodeError:  # strict is faster, and enough for most files
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
            text = self._decoder.decode(pending + block, final)
        num_errors = text.count("\ufffd") if self._decoder.errors == "replace" else 0
        self.num_errors += num_errors
        self.num_valid += len(text) - len(text.encode("ascii", "ignore")) - num_errors


class _Sample:
    """Collect lines that are not ASCII."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._rest = b""  # a line without its end

    def feed(self, block: bytes) -> None:
        """Take lines of one piece of the file."""
        if self._size >= SAMPLE_SIZE:
            return
        if block.isascii() and self._rest.isascii():  # nothing but the beginning of its last line can matter
            self._rest = block[block.rfind(b"\n") + 1 :][-SAMPLE_SIZE:]
            return
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._take(line + b"\n")
        if len(self._rest) > SAMPLE_SIZE:
            self._take(self._rest)
            self._rest = b""

    def _take(self, line: bytes) -> None:
        if not line.isascii():
            self._lines.append(line[: SAMPLE_SIZE - self._size])
            self._size += len(self._lines[-1])

    def bytes(self) -> bytes:
        """Return the lines in one piece, the last one included."""
        self._take(self._rest)
        self._rest = b""
        return b"".join(self._lines)


def _utf16_without_mark(begin: bytes) -> str | None:
    """Return the name of UTF-16 if a text is in it."""
    for name in ("utf-16-le", "utf-16-be"):
        text = begin[: len(begin) // 2 * 2].decode(name, "replace")
        if "\0" not in text and min(cost_of(text, one.costs) for one in candidates()) < MAX_UTF16_COST * len(text):
            return name
    return None


def _most_probable(sample: bytes) -> Detection:
    """Find the encoding of lines that are not UTF-8."""
    costs: dict[str, float] = {}
    texts: dict[str, str] = {}
    fitting: set[str] = set()
    for encoding, table in candidates():
        text = texts.setdefault(encoding, sample.decode(encoding, "replace"))
        cost = cost_of(text, table)
        if cost < costs.get(encoding, math.inf):
            costs[encoding] = cost
            if _fits(text, table):
                fitting.add(encoding)
    best = min(costs, key=lambda encoding: costs[encoding])
    if best not in fitting:
        return Detection(None)
    others = [costs[encoding] for encoding, text in texts.items() if text != texts[best]]
    is_certain = min(others, default=math.inf) - costs[best] > CERTAIN
    num_foreign = sum(not character.isascii() for character in texts[best])
    return Detection(best, is_certain and num_foreign >= MIN_CHARACTERS, "\ufffd" in texts[best][:-1])


def _fits(text: str, costs: Mapping[str, float]) -> bool:
    """Tell whether a decoded text has few errors, and a language uses most of its characters beyond ASCII."""
    foreign = [character for character in text if not character.isascii()]
    num_errors = foreign.count("\ufffd") - text.endswith("\ufffd")  # the sample may end within a character
    num_known = sum(character in costs for character in foreign)
    return num_errors <= MAX_DAMAGE * len(foreign) and num_known >= MIN_KNOWN * len(foreign)


# ------------------------------------------------------------------------------- several files


def detect_encodings(files: Sequence[Path], blocks: Callable[[Path], Iterable[bytes]]) -> list[Detection]:
    """Find the encoding of each file. A short one that allows several takes one that other files have.

    Args:
        files: the files.
        blocks: returns the bytes of a file in pieces.
    """
    found = [detect_encoding(blocks(file)) for file in files]
    neighbours = Counter(one.encoding for one in found if one.certain and one.encoding not in (None, "utf-8"))
    for place, one in enumerate(found):
        if one.certain and one.encoding is not None:
            continue
        for encoding, _ in neighbours.most_common():
            if encoding is not None and _decodes(blocks(files[place]), encoding):
                found[place] = Detection(encoding)
                break
    return found


def _decodes(blocks: Iterable[bytes], encoding: str) -> bool:
    """Tell whether a text decodes without an error."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    try:
        for block in blocks:
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def run_lengths(encodings: Sequence[str]) -> list[list[Any]]:
    """Return the encodings of files in short, for the files of a run: pairs of a name and how many files have it."""
    return [[name, len(list(group))] for name, group in groupby(encodings)]


def from_run_lengths(stored: Any) -> tuple[str, ...]:
    """Return what `run_lengths` was given; () if `stored` is something else, as in the files of earlier versions."""
    try:
        pairs = [(codecs.lookup(name) and str(name), int(number)) for name, number in stored]
    except (TypeError, ValueError, LookupError):
        return ()
    if sum(number for _, number in pairs) > MAX_FILES or any(number < 1 for _, number in pairs):
        return ()
    return tuple(name for name, number in pairs for _ in range(number))


# ------------------------------------------------------------------------------- text that was decoded wrongly


def better_encoding(sample: bytes, encoding: str) -> str | None:
    """Return the encoding in which bytes are far more probable than in the one that they are read in; None for none.

    Args:
        sample: the bytes of a part of a text.
        encoding: the encoding in which they are read.
    """
    sample = b"".join(line for line in sample.splitlines(keepends=True) if not line.isascii())
    found = detect_encoding([sample])
    if found.encoding is None or not found.certain or not sample:
        return None
    better, text = sample.decode(found.encoding, "replace"), sample.decode(encoding, "replace")
    return found.encoding if better != text and not found.is_damaged else None


def decoded_twice(text: str) -> str | None:
    """Return the encoding in which UTF-8 was once read, and saved again, such as cp1252 for `Ã©`; None for none.

    Args:
        text: a part of a text.
    """
    lines = [line for line in text.splitlines() if not line.isascii()][:200]
    for encoding in ("cp1252", "gb18030", "cp950", "cp932"):
        if sum(_was_utf8(line, encoding) for line in lines) > len(lines) / 2:
            return encoding
    return None


def _was_utf8(line: str, encoding: str) -> bool:
    """Tell whether a line is UTF-8 that was read in another encoding. A few of its bytes may be lost."""

    def as_byte(character: str) -> bytes:
        # Most programs read the bytes that cp1252 does not define as control characters.
        is_control = encoding == "cp1252" and "\x7f" < character < "\xa0"
        return character.encode("latin-1" if is_control else encoding, "ignore")

    text = b"".join(map(as_byte, line)).decode("utf-8", "replace")
    num_errors, num_ascii = text.count("\ufffd"), len(text.encode("ascii", "ignore"))
    num_valid = len(text) - num_ascii - num_errors
    return num_valid > 0 and num_errors <= MAX_LOSS * num_valid
