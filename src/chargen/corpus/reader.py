"""Read the articles of a file in pieces: unpack, decode and clean them."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import unicodedata
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chargen.corpus.code_points import Utf8Decoder, code_points_of
from chargen.corpus.progress import Advance
from chargen.corpus.sources import reading
from chargen.corpus.tokenizer import Unit
from chargen.errors import ConfigError, TextError

BLOCK_SIZE = 1 << 20
"""Bytes of a file that are read at a time."""

Article = Iterable[np.ndarray]
"""One document in pieces, each (N,) code points or bytes, uint8 or uint32."""


@dataclass(frozen=True)
class Cleaning:
    """How the bytes of a file become symbols.

    Attributes:
        encoding: the encoding of the file, replaced by Python's name for it. A byte order mark is understood.
        unit: `character` or `byte`. In the byte unit, a UTF-8 file is read byte by byte without decoding; text in
            another encoding or in JSON lines is converted to UTF-8.
        normalize_newlines: convert CRLF and CR to LF.
        normalize_unicode: apply Unicode NFC; ignored in the byte unit.

    Raises:
        ConfigError: Python does not know the encoding.
    """

    encoding: str = "utf-8"
    unit: Unit = "character"
    normalize_newlines: bool = False
    normalize_unicode: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoding", _python_name(self.encoding))


def _python_name(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        codecs.getincrementaldecoder(name)
        "".encode(name)
    except (LookupError, TypeError, ValueError):
        raise ConfigError(
            f"corpus.encoding={encoding}: no such encoding; try utf-8, utf-16, latin-1, gb18030"
        ) from None
    return "utf-8" if name == "utf-8-sig" else name


def read_articles(file: Path, cleaning: Cleaning, advance: Advance = lambda _: None) -> Generator[Article, None, None]:
    """Yield the articles of a file: the `text` of each line of a `.jsonl` file, or all of another file.

    Read each article to its end before asking for the next one. The errors are raised while the pieces are read.

    Args:
        file: the file; it is unpacked if its name ends with `.gz`.
        cleaning: how to decode and clean it.
        advance: called with the number of bytes of the file that have been read since its last call.

    Raises:
        TextError: the file cannot be read, is not in that encoding, is binary, or is not made of JSON lines.
    """
    encoding = cleaning.encoding
    is_json_lines = file.name.lower().removesuffix(".gz").endswith(".jsonl")
    is_clean = not (cleaning.normalize_newlines or cleaning.normalize_unicode)
    text_decoder = codecs.getincrementaldecoder(encoding)("strict")
    with closing(_blocks(file, advance)) as blocks:
        if is_json_lines:
            for number, line in enumerate(split_lines(_decode(file, blocks, encoding, text_decoder)), start=1):
                if line.strip():
                    yield _clean_text(file, [_text_of_json(file, number, line)], cleaning)
        elif encoding == "utf-8" and cleaning.unit == "byte":
            yield _clean_bytes(blocks, cleaning)
        elif encoding == "utf-8" and is_clean:
            yield _without_nul(file, _decode(file, blocks, encoding, Utf8Decoder()))
        else:
            yield _clean_text(file, _decode(file, blocks, encoding, text_decoder), cleaning)


# ------------------------------------------------------------------------------- decoding


def _blocks(file: Path, advance: Advance) -> Generator[bytes, None, None]:
    """Yield the bytes of a file, unpacked; `advance` is called with the number of bytes before unpacking."""
    with reading(file), open(file, "rb") as stored:
        stream = gzip.GzipFile(fileobj=stored) if file.suffix == ".gz" else stored
        begin = 0
        while block := stream.read(BLOCK_SIZE):
            yield block
            advance(stored.tell() - begin)
            begin = stored.tell()


def _decode(file: Path, blocks: Iterable[bytes], encoding: str, decoder: codecs.IncrementalDecoder) -> Iterator[Any]:
    """Yield what the decoder returns for each block.

    Raises:
        TextError: the file is not in this encoding; the message says at which byte.
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
    return TextError(
        f"{file} is not {encoding} at byte {offset:,}: set its encoding, such as corpus.encoding=gb18030 or latin-1; "
        "if it is not text, set corpus.unit=byte to learn its bytes"
    )


def split_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Split a text that comes in pieces at LF. The last line is yielded too, even if it is empty."""
    line: list[str] = []  # the pieces of an unfinished line
    for piece in pieces:
        first, *others = piece.split("\n")
        line.append(first)
        if others:
            yield "".join(line)
            yield from others[:-1]
            line = others[-1:]
    yield "".join(line)


def _text_of_json(file: Path, number: int, line: str) -> str:
    try:
        text = json.loads(line)["text"]
        text.encode()  # fails on lone surrogates, and on values that are not strings
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TextError(f'{file}, line {number}: expected a JSON object like {{"text": "…"}} on every line') from None
    return str(text)


# ------------------------------------------------------------------------------- cleaning


def _clean_text(file: Path, pieces: Iterable[str], cleaning: Cleaning) -> Iterator[np.ndarray]:
    """Yield the symbols of a text, cleaned as if its pieces were one string."""
    if cleaning.normalize_newlines:
        pieces = normalize_newlines(pieces)
    if cleaning.normalize_unicode and cleaning.unit == "character":
        pieces = normalize_unicode(pieces)
    symbols = (_symbols(file, piece, cleaning) for piece in pieces)
    return _without_nul(file, symbols) if cleaning.unit == "character" else symbols


def _clean_bytes(blocks: Iterable[bytes], cleaning: Cleaning) -> Iterator[np.ndarray]:
    """Yield the bytes of a file, with normalized line ends if they are wanted."""
    if cleaning.normalize_newlines:
        pieces = normalize_newlines(block.decode("latin-1") for block in blocks)
        blocks = (piece.encode("latin-1") for piece in pieces)
    return map(code_points_of, blocks)


def _symbols(file: Path, text: str, cleaning: Cleaning) -> np.ndarray:
    try:
        return code_points_of(text, "strict") if cleaning.unit == "character" else code_points_of(text.encode())
    except UnicodeEncodeError as error:  # some decoders, such as that of UTF-7, return lone surrogates
        surrogate = ord(error.object[error.start])
        raise TextError(
            f"{file} is not text in {cleaning.encoding}: it contains the lone surrogate U+{surrogate:04X}"
        ) from None


def _without_nul(file: Path, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the pieces unchanged.

    Raises:
        TextError: a piece contains NUL.
    """
    for code_points in pieces:
        if len(code_points) and not code_points.min():
            raise TextError(
                f"{file} looks binary (it contains NUL characters): to learn its bytes, set corpus.unit=byte"
            )
        yield code_points


def normalize_newlines(pieces: Iterable[str]) -> Iterator[str]:
    """Convert CRLF and CR to LF in a text that comes in pieces, also where a piece ends between CR and LF."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode("", final=True)


# Characters that never combine with the one before them: text may be cut in front of them without changing its NFC.
_NFC_BOUNDARY = re.compile("[\u0000-\u02ff\u3000-\u3029\u3400-\u9fff]")


def normalize_unicode(pieces: Iterable[str]) -> Iterator[str]:
    """Apply Unicode NFC to a text that comes in pieces, as if they were one string.

    The end of a piece is held back as long as the next characters may combine with it.
    """
    pending = ""
    for piece in pieces:
        pending += piece
        cut = len(pending) - 1
        while cut > 0 and not _NFC_BOUNDARY.match(pending, cut):
            cut -= 1
        if cut > 0:
            yield unicodedata.normalize("NFC", pending[:cut])
            pending = pending[cut:]
    yield unicodedata.normalize("NFC", pending)
