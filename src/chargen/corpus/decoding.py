"""Decode the bytes of a file in pieces, and say where they do not fit the encoding."""

from __future__ import annotations

import codecs
import gzip
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from chargen.corpus.encodings import detect_encoding
from chargen.corpus.progress import Advance
from chargen.corpus.sources import reading
from chargen.errors import TextError

BLOCK_SIZE = 1 << 20
"""Bytes of a file that are read at a time."""


def blocks_of(file: Path, advance: Advance = lambda _: None) -> Generator[bytes, None, None]:
    """Yield the bytes of a file, unpacked; `advance` is called with the number of bytes before unpacking."""
    with reading(file), open(file, "rb") as stored:
        stream = gzip.GzipFile(fileobj=stored) if file.suffix.lower() == ".gz" else stored
        begin = 0
        while block := stream.read(BLOCK_SIZE):
            yield block
            advance(stored.tell() - begin)
            begin = stored.tell()


def decode(file: Path, blocks: Iterable[bytes], encoding: str, decoder: codecs.IncrementalDecoder) -> Iterator[Any]:
    """Yield what the decoder returns for each block, without the byte order mark of UTF-8.

    Raises:
        TextError: the file is not in this encoding; the message says at which byte, and what to write.
    """
    offset = 0  # of the first byte that the decoder has not been given
    for block in blocks:
        if offset == 0 and encoding == "utf-8":
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise TextError(f"{file} begins with a UTF-16 byte order mark: write corpus.encoding=utf-16")
            if block.startswith(codecs.BOM_UTF8):
                block, offset = block[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
        pending = len(decoder.getstate()[0])
        try:
            yield decoder.decode(block)
        except UnicodeError as error:
            raise _wrong_encoding(file, encoding, offset - pending + getattr(error, "start", 0)) from None
        offset += len(block)
    try:
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise _wrong_encoding(file, encoding, offset - len(decoder.getstate()[0])) from None


def _wrong_encoding(file: Path, encoding: str, offset: int) -> TextError:
    """Say where a file is not in an encoding, and what to write. Only an encoding that fits is named."""
    found = detect_encoding(blocks_of(file))
    if found.encoding is None or not found.certain:
        advice = (
            "set corpus.encoding=NAME if you know it, or corpus.errors=replace or skip for such bytes; if it is "
            "not text, set corpus.unit=byte to learn its bytes"
        )
    elif codecs.lookup(found.encoding) == codecs.lookup(encoding):
        advice = "the rest of it is; write corpus.errors=replace to read U+FFFD there, or skip to leave such bytes out"
    else:
        advice = f"it reads as {found.encoding}; leave corpus.encoding out, or write corpus.encoding={found.encoding}"
    return TextError(f"{file} is not {encoding} at byte {offset:,}: {advice}")


# ------------------------------------------------------------------------------- damaged text


@dataclass
class Damage:
    """Bytes of a text that do not fit its encoding.

    Attributes:
        num_bytes: how many there are.
        file: the file of the first one.
        encoding: the encoding of that file.
        offset: where it is in that file.
    """

    num_bytes: int = 0
    file: Path | None = None
    encoding: str = ""
    offset: int = 0

    def add(self, num_bytes: int, file: Path, encoding: str, offset: int) -> None:
        """Add bytes that were found after all before."""
        if not self.num_bytes:
            self.file, self.encoding, self.offset = file, encoding, offset
        self.num_bytes += num_bytes

    def note(self, errors: str) -> str:
        """Say what was done about it."""
        done = "read as U+FFFD" if errors == "replace" else "left out"
        several = f"{self.num_bytes:,} bytes that do" if self.num_bytes > 1 else "1 byte that does"
        return f"{done}: {several} not fit the encoding, first at byte {self.offset:,} of {self.file} ({self.encoding})"


_ESCAPED, _REPLACED = re.compile("[\udc80-\udcff]"), re.compile("\ufffd")
_WITHOUT_MARK = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def decode_damaged(file: Path, blocks: Iterable[bytes], encoding: str, errors: str, damage: Damage) -> Iterator[str]:
    """Decode a file that may have bytes that do not fit its encoding; yield U+FFFD for each of them, or nothing.

    Args:
        file: the file.
        blocks: its bytes.
        encoding: its encoding.
        errors: `replace` or `skip`.
        damage: where such bytes are recorded.
    """
    # Bytes that do not fit become lone surrogates (PEP 383), except in encodings whose bytes may all be ASCII.
    escapes = not encoding.startswith(("utf-16", "utf-32", "utf-7", "iso2022", "hz"))
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape" if escapes else "replace")
    wrong, mark = _ESCAPED if escapes else _REPLACED, "\ufffd" if errors == "replace" else ""
    offset = 0  # of the first byte that the decoder has not been given
    for block in chain(blocks, (b"",)):
        if offset == 0 and encoding == "utf-8" and block.startswith(codecs.BOM_UTF8):
            block, offset = block[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
        pending = len(decoder.getstate()[0])
        text = decoder.decode(block, final=not block)
        if found := wrong.search(text):
            before = text[: found.start()].encode(_WITHOUT_MARK.get(encoding, encoding), "surrogateescape")
            damage.add(len(wrong.findall(text)), file, encoding, offset - pending + len(before))
            text = wrong.sub(mark, text)
        offset += len(block)
        yield text
