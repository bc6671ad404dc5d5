"""A tokenizer of single characters or bytes, without loss, in the file format of the `tokenizers` package.

The vocabulary is two special ids, 0 for unknown characters and 1 for the end of an article, followed by the sorted
symbols of a text. No text can spell the special ids: their names have several characters, and a symbol has one.

`Tokenizer.library` is the same tokenizer as an object of the `tokenizers` package, and `tokenizer.json` is its file.
`Tokenizer` itself encodes with a table indexed by code point, because the package needs hundreds of bytes of memory for
each character of a long string.

In the byte unit a symbol is a byte. It is kept as the character U+0000 to U+00FF with its value, and written to the
file as the visible character of the byte-level alphabet of GPT-2 (Radford et al. 2019).
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from chargen.corpus.code_points import NUM_CODE_POINTS, code_points_of, look_up
from chargen.errors import ArgumentError, FileError

UNKNOWN_ID, END_ID = 0, 1
UNKNOWN, END = "[UNK]", "[END]"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

MAX_JSON_LENGTH = 64 << 20
"""Characters of a `tokenizer.json`, at most. The file of all 1.1 million code points has 30 million."""

MAX_JSON_COLONS = NUM_CODE_POINTS + 1000
"""Colons in a `tokenizer.json`, at most: one for each code point, and those around the vocabulary."""

Unit = Literal["character", "byte"]

_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Lone surrogates that stand for no byte."""


def _byte_alphabet() -> list[str]:
    """Return the character that stands for each byte: itself if it is visible, otherwise the next from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    substitutes = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(substitutes)) for byte in range(0x100)]


BYTE_ALPHABET = _byte_alphabet()


def checked_ids(name: str, ids: Any, vocab_size: int, num_axes: int = 1) -> np.ndarray:
    """Return ids as an array of integers.

    Args:
        name: the argument that holds them, for the error.
        ids: integers of Python or numpy: an array, a list, or any other iterable.
        vocab_size: V.
        num_axes: how many axes the array must have.

    Returns:
        An array of integers from 0 to V - 1 with `num_axes` axes; `ids` itself if it is such an array.

    Raises:
        ArgumentError: `ids` is something else.
    """
    allowed = f"whole numbers from 0 to {vocab_size - 1}, {'in a list' if num_axes == 1 else 'in an array (N, n)'}"
    if not isinstance(ids, Iterable) or isinstance(ids, (str, bytes, bytearray)):
        raise ArgumentError(name, ids, allowed)
    given = ids if hasattr(ids, "__array__") or isinstance(ids, (list, tuple)) else list(ids)
    try:
        array = np.asarray(given)
    except (TypeError, ValueError):  # rows of different lengths; memory of another device
        raise ArgumentError(name, ids, allowed) from None
    if array.size == 0:
        array = array.astype(np.int64)  # an empty list has no type
    if array.ndim != num_axes or array.dtype.kind not in "iu":
        raise ArgumentError(name, ids, allowed)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < vocab_size:
        raise ArgumentError(name, array[(array < 0) | (array >= vocab_size)][0], allowed)
    return array


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise ArgumentError(name, text, "a string")


def short_unit(unit: object) -> str:
    """Return what a score is per in a model of this unit: `char`, or `byte`."""
    return "byte" if unit == "byte" else "char"


class Tokenizer:
    """Convert text to ids and back: one id per character, or per byte of its UTF-8.

    Args:
        symbols: the known symbols in any order, each a single character; a byte is the character with its value. Ids
            follow the order of code points. A string is a text, which may repeat its symbols; in a list or another
            iterable, each symbol stands once.
        unit: `character` or `byte`.

    Attributes:
        symbols: the known symbols, sorted.
        unit: `character` or `byte`.
        dtype: the smallest unsigned integer that holds every id.

    Raises:
        ArgumentError: a symbol is not a single character, or in the byte unit, not a byte, or stands twice in a list;
            or there is no such unit.
    """

    def __init__(self, symbols: Iterable[str], unit: Unit = "character") -> None:
        if not isinstance(unit, str) or unit not in get_args(Unit):
            raise ArgumentError("unit", unit, " or ".join(get_args(Unit)))
        if not isinstance(symbols, Iterable):
            raise ArgumentError("symbols", symbols, "single characters")
        given = list(symbols)
        for symbol in given:
            if not isinstance(symbol, str) or len(symbol) != 1:
                raise ArgumentError("symbols", symbol, "single characters")
        self.symbols = sorted(set(given))
        self.unit = unit
        if len(self.symbols) < len(given) and not isinstance(symbols, str):
            raise ArgumentError("symbols", Counter(given).most_common(1)[0][0], "different characters, each once")
        if unit == "byte" and max(self.symbols, default="") > "\xff":
            raise ArgumentError("symbols", self.symbols[-1], "bytes, as the characters U+0000 to U+00FF")
        first = END_ID + 1
        self.dtype = np.min_scalar_type(self.vocab_size - 1)
        # The last entry, UNKNOWN_ID, stands for all code points beyond the table.
        self._table = np.zeros(ord(max(self.symbols, default="\0")) + 2, dtype=self.dtype)
        self._table[[ord(symbol) for symbol in self.symbols]] = np.arange(first, first + len(self.symbols))

    @property
    def short_unit(self) -> str:
        """What a score is per: `char` or `byte`."""
        return short_unit(self.unit)

    @property
    def vocab_size(self) -> int:
        """V: the number of symbols and the two special ids."""
        return len(self.symbols) + 2

    # ------------------------------------------------------------------ text and ids

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of `text`, (N,) int64, one per character or per byte; `UNKNOWN_ID` for unknown symbols.

        In the byte unit, U+DC80 to U+DCFF stand for the bytes 0x80 to 0xFF, as in Python's names of files. Any other
        lone surrogate has no bytes and is one unknown symbol.

        Raises:
            ArgumentError: `text` is not a string.
        """
        _check_text("text", text)
        if self.unit == "character":
            return self.encode_code_points(code_points_of(text)).astype(np.int64)
        parts = [part.encode("utf-8", "surrogateescape") for part in _NO_BYTES.split(text)]
        ids = [self.encode_code_points(code_points_of(part)).astype(np.int64) for part in parts]
        return np.concatenate([ids[0], *(np.append(UNKNOWN_ID, following) for following in ids[1:])])

    def encode_code_points(self, code_points: np.ndarray) -> np.ndarray:
        """Return the ids of code points or bytes.

        Args:
            code_points: (N,) uint8 or uint32.

        Returns:
            (N,), of the tokenizer's `dtype`.

        Raises:
            ArgumentError: `code_points` is not such an array.
        """
        if getattr(code_points, "dtype", None) not in (np.uint8, np.uint32) or code_points.ndim != 1:
            raise ArgumentError("code_points", code_points, "an array (N,) of uint8 or uint32")
        return look_up(np.ascontiguousarray(code_points), self._table)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`. `UNKNOWN_ID` becomes U+FFFD, and `END_ID` an empty string.

        Raises:
            ArgumentError: an id is not a whole number from 0 to V - 1.
        """
        decoder = self.decoder()
        known = checked_ids("ids", ids, self.vocab_size).tolist()
        return "".join(map(decoder.decode, known)) + decoder.flush()

    def to_bytes(self, ids: np.ndarray) -> bytes:
        """Return the bytes of a file with these ids: raw bytes, or characters in UTF-8.

        `END_ID` becomes NUL. `UNKNOWN_ID` becomes U+FFFD, or in the byte unit a question mark.

        Raises:
            ArgumentError: an id is not a whole number from 0 to V - 1.
        """
        ids = checked_ids("ids", ids, self.vocab_size)
        spelled = np.array(["\ufffd" if self.unit == "character" else "?", "\0", *self.symbols], dtype=object)
        return "".join(spelled[ids].tolist()).encode("utf-8" if self.unit == "character" else "latin-1")

    def encode_bytes(self, data: bytes) -> np.ndarray:
        """Return the ids of bytes, (N,) int64: one for each byte or, in the unit `character`, of their text in UTF-8.

        Raises:
            ArgumentError: `data` is not bytes; or the unit is `character`, and they are not UTF-8.
        """
        if not isinstance(data, (bytes, bytearray)):
            raise ArgumentError("data", data, "bytes")
        if self.unit == "byte":
            return self.encode_code_points(code_points_of(bytes(data))).astype(np.int64)
        try:
            return self.encode(data.decode())
        except UnicodeDecodeError as error:
            raise ArgumentError("data", bytes(data), f"UTF-8; byte {error.start} is not") from None

    def decoder(self) -> StreamDecoder:
        """Return a decoder that takes one id at a time."""
        return StreamDecoder(self)

    def spell(self, id: int) -> bytes:
        """Return the bytes of one id: a byte or, in the unit `character`, a character in UTF-8. `END_ID` has none."""
        if id == END_ID:
            return b""
        symbol = REPLACEMENT if id == UNKNOWN_ID else self.symbols[id - END_ID - 1]
        return symbol.encode("latin-1" if self.unit == "byte" and id != UNKNOWN_ID else "utf-8")

    def unknown(self, text: str) -> list[str]:
        """Return the characters of `text` with an unknown symbol, each once, in the order of their first occurrence.

        Raises:
            ArgumentError: `text` is not a string.
        """
        _check_text("text", text)
        return [character for character in dict.fromkeys(text) if UNKNOWN_ID in self.encode(character)]

    # ------------------------------------------------------------------ file

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of each symbol and special name, with the symbols as `tokenizer.json` spells them."""
        spelled = self.symbols if self.unit == "character" else [BYTE_ALPHABET[ord(s)] for s in self.symbols]
        ids = {symbol: END_ID + 1 + rank for rank, symbol in enumerate(spelled)}
        return {UNKNOWN: UNKNOWN_ID, END: END_ID, **ids}

    @property
    def library(self) -> Library:
        """The same tokenizer as an object of the `tokenizers` package."""
        library = Library(models.WordLevel(self.vocabulary, unk_token=UNKNOWN))
        single = pre_tokenizers.Split("", "isolated")
        if self.unit == "character":
            library.pre_tokenizer = single
            library.decoder = decoders.Fuse()
        else:
            as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            library.pre_tokenizer = pre_tokenizers.Sequence([as_bytes, single])
            library.decoder = decoders.Sequence([decoders.Fuse(), decoders.ByteLevel()])
        return library

    def to_json(self) -> str:
        """Return the content of `tokenizer.json`, which the `tokenizers` package reads on its own."""
        return self.library.to_str()

    @staticmethod
    def from_json(content: str) -> Tokenizer:
        """Read the content of a `tokenizer.json`.

        Raises:
            ArgumentError: `content` is not a string.
            FileError: `to_json` does not write such a file.
        """
        _check_text("content", content)
        if len(content) > MAX_JSON_LENGTH or content.count(":") > MAX_JSON_COLONS:
            raise FileError("not a tokenizer.json of chargen: it is longer than one of all of Unicode")
        try:  # parsed here, because the package panics on some files and spends minutes on others
            file = json.loads(content)
            kind, vocabulary, decoder = file["model"]["type"], file["model"]["vocab"], file["decoder"]["type"]
            if kind != "WordLevel" or not isinstance(vocabulary, dict):
                raise TypeError
        except (ValueError, LookupError, TypeError, RecursionError):
            raise FileError("not a tokenizer.json of chargen") from None
        spelled: Iterable[str] = vocabulary.keys() - {UNKNOWN, END}
        unit: Unit = "character" if decoder == "Fuse" else "byte"
        if unit == "byte":
            byte_of = {character: chr(byte) for byte, character in enumerate(BYTE_ALPHABET)}
            spelled = [byte_of.get(symbol, symbol) for symbol in spelled]
        try:
            tokenizer = Tokenizer(spelled, unit)
            "".join(tokenizer.symbols).encode()  # fails on lone surrogates
        except ValueError as error:
            raise FileError(f"not a tokenizer.json of chargen: {error}") from None
        if tokenizer.vocabulary != vocabulary:
            raise FileError("not a tokenizer.json of chargen: its symbols are not numbered in order")
        return tokenizer


class StreamDecoder:
    """Decode one id at a time.

    Args:
        tokenizer: the tokenizer of the ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._symbols = tokenizer.symbols
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace") if tokenizer.unit == "byte" else None

    def decode(self, id: int) -> str:
        """Return the text that `id` completes: "" until the last byte of a character of several bytes.

        Raises:
            ArgumentError: `id` is not a whole number from 0 to V - 1.
        """
        if id == END_ID:
            return self.flush()
        if id == UNKNOWN_ID:
            return self.flush() + REPLACEMENT
        try:
            symbol = self._symbols[id - END_ID - 1] if id >= 0 else None
        except (TypeError, IndexError):
            symbol = None
        if symbol is None:
            raise ArgumentError("id", id, f"a whole number from 0 to {END_ID + len(self._symbols)}")
        return symbol if self._bytes is None else self._bytes.decode(symbol.encode("latin-1"))

    def flush(self) -> str:
        """Forget an incomplete character. Return U+FFFD if there was one, otherwise ""."""
        if self._bytes is None:
            return ""
        rest = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return rest
