"""Read the articles of a file in pieces: unpack, decode and clean them."""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from chargen.corpus.code_points import Utf8Decoder, code_points_of
from chargen.corpus.decoding import Damage, blocks_of, decode, decode_damaged
from chargen.corpus.documents import BOOKS, PAGES, UNREADABLE, text_of_html, texts_of_book
from chargen.corpus.encodings import AUTO, detect_encoding
from chargen.corpus.progress import Advance
from chargen.corpus.records import (
    DEFAULT_FIELD,
    TABLES,
    Template,
    texts_of_json,
    texts_of_json_lines,
    texts_of_parquet,
    texts_of_table,
)
from chargen.corpus.repeated_lines import LineCounts
from chargen.corpus.tokenizer import Unit
from chargen.errors import ConfigError, TextError

Article = Iterable[np.ndarray]
"""One document in pieces, each (N,) code points or bytes, uint8 or uint32."""


@dataclass(frozen=True)
class Cleaning:
    """How the bytes of a file become symbols.

    Attributes:
        encoding: the encoding of the file, replaced by Python's name for it; or `auto`, to find it from the file. A
            byte order mark is understood.
        unit: `character` or `byte`. In the byte unit, a UTF-8 file is read byte by byte without decoding; text in
            another encoding or in JSON lines is converted to UTF-8.
        normalize_newlines: convert CRLF and CR to LF.
        normalize_unicode: apply Unicode NFC; ignored in the byte unit.
        errors: what to do with bytes that do not fit the encoding: `strict` refuses the file, `replace` reads U+FFFD
            for each of them, `skip` leaves them out.
        drop_repeated_lines: leave out lines that occur more often than this in the whole text; None for no line.
        field: what of a record becomes text, as in `corpus.records`; None to read `.csv`, `.tsv` and `.html` files as
            they are.

    Raises:
        ConfigError: Python does not know the encoding, or `field` names none.
    """

    encoding: str = "utf-8"
    unit: Unit = "character"
    normalize_newlines: bool = False
    normalize_unicode: bool = False
    errors: str = "strict"
    drop_repeated_lines: int | None = None
    field: str | None = DEFAULT_FIELD

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoding", _python_name(self.encoding))
        if self.field is not None and not all(Template(self.field).fields or [""]):
            raise ConfigError(
                f"corpus.field={self.field}: it names no field; write corpus.field=NAME, or a template like '{{NAME}}'"
            )


def _python_name(encoding: str) -> str:
    if encoding == AUTO:
        return AUTO
    try:
        name = codecs.lookup(encoding).name
        codecs.getincrementaldecoder(name)
        "".encode(name)
    except (LookupError, TypeError, ValueError):
        raise ConfigError(
            f"corpus.encoding={encoding}: no such encoding; try auto, utf-8, utf-16, latin-1, gb18030"
        ) from None
    return "utf-8" if name == "utf-8-sig" else name


@dataclass
class Findings:
    """What is known about a whole text before its articles are read, and what is found while they are read.

    Attributes:
        lines: how often each line occurs; None if no line is left out.
        damage: the bytes that do not fit the encoding.
    """

    lines: LineCounts | None = None
    damage: Damage = field(default_factory=Damage)


def read_articles(
    file: Path, cleaning: Cleaning, advance: Advance = lambda _: None, findings: Findings | None = None
) -> Generator[Article, None, None]:
    """Yield the articles of a file: those of its records or chapters, or all of a file of text.

    Read each article to its end before asking for the next one. The errors are raised while the pieces are read.

    Args:
        file: the file; it is unpacked if its name ends with `.gz`.
        cleaning: how to decode and clean it.
        advance: called with the number of bytes of the file that have been read since its last call.
        findings: about the text that the file is a part of.

    Raises:
        ImportError: a package that reads such files is not installed.
        TextError: the file cannot be read, is not in that encoding, is binary, or is not what its suffix says.
    """
    findings = findings or Findings()
    if cleaning.encoding == AUTO:
        cleaning = replace(cleaning, encoding=encoding_of(file) if is_encoded(file, cleaning) else "utf-8")
    is_clean = not (cleaning.normalize_newlines or cleaning.normalize_unicode or cleaning.drop_repeated_lines)
    is_utf8, is_strict = cleaning.encoding == "utf-8", cleaning.errors == "strict"
    with closing(blocks_of(file, advance)) as blocks:
        if (texts := _texts(file, blocks, cleaning, findings)) is not None:
            for text in texts:
                yield _clean_text(file, [text], cleaning, findings)
            for _ in blocks:  # of a file that was not read in blocks, so that its size is reported
                pass
        elif is_utf8 and cleaning.unit == "byte":
            yield _clean_bytes(blocks, cleaning)
        elif is_utf8 and is_clean and is_strict:
            yield _without_nul(file, decode(file, blocks, "utf-8", Utf8Decoder()))
        else:
            yield _clean_text(file, _decoded(file, blocks, cleaning, findings), cleaning, findings)


def _texts(file: Path, blocks: Iterable[bytes], cleaning: Cleaning, findings: Findings) -> Iterator[str] | None:
    """Return the texts of the records, the chapters or the page that a file holds; None if it is a text itself.

    Raises:
        TextError: such files cannot be read.
    """
    kind, field = kind_of(file), cleaning.field
    if advice := UNREADABLE.get(kind):
        raise TextError(f"{file}: chargen does not read {kind} files; {advice}")
    if kind in BOOKS:
        return texts_of_book(file)
    if kind == ".parquet":
        return texts_of_parquet(file, field or DEFAULT_FIELD)
    if kind == ".jsonl":
        lines = split_lines(_decoded(file, blocks, cleaning, findings))
        return texts_of_json_lines(file, lines, field or DEFAULT_FIELD)
    if field is None:
        return None
    if kind in PAGES:
        return iter([text_of_html("".join(_decoded(file, blocks, cleaning, findings)))])
    if kind == ".json" and field != DEFAULT_FIELD:
        return texts_of_json(file, "".join(_decoded(file, blocks, cleaning, findings)), field)
    return texts_of_table(file, _decoded(file, blocks, cleaning, findings), field) if kind in TABLES else None


def kind_of(file: Path) -> str:
    """Return the suffix of a file that says what it holds."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def is_encoded(file: Path, cleaning: Cleaning) -> bool:
    """Tell whether a file is text in some encoding, unlike a book, and the bytes that a model of bytes learns."""
    kind = kind_of(file)
    holds_texts = kind == ".jsonl" or (cleaning.field is not None and kind in (*PAGES, *TABLES))
    return kind not in (*BOOKS, ".parquet") and (holds_texts or cleaning.unit == "character")


def encoding_of(file: Path) -> str:
    """Return the encoding of a file, found from its bytes; `utf-8` if none fits, so that reading it says where."""
    return detect_encoding(blocks_of(file)).encoding or "utf-8"


def _decoded(file: Path, blocks: Iterable[bytes], cleaning: Cleaning, findings: Findings) -> Iterator[str]:
    """Yield the text of a file in pieces."""
    encoding = cleaning.encoding
    if cleaning.errors != "strict":
        return decode_damaged(file, blocks, encoding, cleaning.errors, findings.damage)
    return decode(file, blocks, encoding, codecs.getincrementaldecoder(encoding)("strict"))


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


# ------------------------------------------------------------------------------- cleaning


def _clean_text(file: Path, pieces: Iterable[str], cleaning: Cleaning, findings: Findings) -> Iterator[np.ndarray]:
    """Yield the symbols of a text, cleaned as if its pieces were one string."""
    if cleaning.normalize_newlines:
        pieces = normalize_newlines(pieces)
    if cleaning.normalize_unicode and cleaning.unit == "character":
        pieces = normalize_unicode(pieces)
    if cleaning.drop_repeated_lines is not None and findings.lines is not None:
        pieces = findings.lines.without_repeated(pieces, cleaning.drop_repeated_lines)
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
