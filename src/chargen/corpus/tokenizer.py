"""Characters to ids and back, without loss, over `tokenizers`.

The vocabulary is the sorted characters of a text behind two ids of our own: 0 for a character that
is not known and 1 for the end of an article. Neither can be spelled: their names have several
characters, and every piece of text the tokenizer sees is a single one.

`library` is the whole tokenizer as that package knows it, and `tokenizer.json` is its file. Bulk
encoding goes through a table by code point built from the same vocabulary, for one long string
costs the library hundreds of bytes per character.

In the byte unit a symbol is a byte. In the vocabulary it stands as the character U+0000 to U+00FF of
that number, and in the file as the visible one that the byte-level alphabet of Radford et al. 2019
gives it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from typing import Literal

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from chargen.corpus.code_points import NUM_CODE_POINTS, code_points_of, look_up

UNKNOWN_ID, END_ID = 0, 1
UNKNOWN, END = "[UNK]", "[END]"
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

MOST_JSON = 64 << 20
"""Characters of a tokenizer.json; one of all 1.1 million code points has 30 million."""

MOST_ENTRIES = NUM_CODE_POINTS + 1000
"""Colons in it: one for every code point, and what stands around them."""

Unit = Literal["character", "byte"]


def _byte_alphabet() -> list[str]:
    """The visible character that stands for each byte: itself where it is one, else the next from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(0x100)]


BYTE_ALPHABET = _byte_alphabet()


class Tokenizer:
    """Ids for the symbols of a text: characters, or bytes that stand as characters U+0000 to U+00FF.

    Args:
        symbols: the known symbols, in any order; ids follow their code points.
        unit: `character` or `byte`.

    Attributes:
        dtype: the smallest unsigned integer that holds every id.

    Raises:
        ValueError: a symbol is not a single character, or not a byte in the byte unit.
    """

    def __init__(self, symbols: Iterable[str], unit: Unit = "character") -> None:
        self.symbols = sorted(set(symbols))
        self.unit = unit
        if any(len(symbol) != 1 for symbol in self.symbols):
            raise ValueError("a symbol of the vocabulary is not a single character")
        if unit == "byte" and any(symbol > "\xff" for symbol in self.symbols):
            raise ValueError("a symbol of a byte vocabulary lies beyond 255")
        first = END_ID + 1
        self.dtype = np.min_scalar_type(self.vocab_size - 1)
        self._table = np.zeros(ord(max(self.symbols, default="\0")) + 2, dtype=self.dtype)  # the last row: beyond
        self._table[[ord(symbol) for symbol in self.symbols]] = np.arange(first, first + len(self.symbols))

    @property
    def vocab_size(self) -> int:
        """V: the symbols, the unknown and the end of an article."""
        return len(self.symbols) + 2

    # ------------------------------------------------------------------ text and ids

    def encode(self, text: str) -> np.ndarray:
        """Ids of `text`, int64, one per character or per byte; 0 where a symbol is not known."""
        symbols = text if self.unit == "character" else text.encode("utf-8", "surrogateescape")
        return self.encode_numbers(code_points_of(symbols)).astype(np.int64)

    def encode_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """Ids, of `dtype`, of symbols that are numbers already: (N,) code points or bytes, uint8 or uint32."""
        return look_up(numbers, self._table)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`: unknown becomes U+FFFD, the end of an article becomes nothing.

        Raises:
            IndexError: an id is not below `vocab_size`.
        """
        decoder = self.decoder()
        return "".join(map(decoder.decode, ids)) + decoder.flush()

    def to_bytes(self, ids: np.ndarray) -> bytes:
        """What a file of these ids would hold: bytes as they were, characters in UTF-8, an article's end as NUL."""
        spelled = np.array(["\ufffd" if self.unit == "character" else "?", "\0", *self.symbols], dtype=object)
        return "".join(spelled[ids].tolist()).encode("utf-8" if self.unit == "character" else "latin-1")

    def decoder(self) -> StreamDecoder:
        """Decodes one id at a time: a character of several bytes comes out when it is complete."""
        return StreamDecoder(self)

    def unknown(self, text: str) -> list[str]:
        """The characters of `text` that the vocabulary lacks, each once, in the order they come."""
        return [character for character in dict.fromkeys(text) if UNKNOWN_ID in self.encode(character)]

    # ------------------------------------------------------------------ the library

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every symbol, as they are spelled in the file."""
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
        """The content of `tokenizer.json`, readable by the `tokenizers` package alone."""
        return self.library.to_str()

    @staticmethod
    def from_json(content: str) -> Tokenizer:
        """Reads what `to_json` wrote.

        Raises:
            ValueError: it is no tokenizer of single characters.
        """
        if len(content) > MOST_JSON or content.count(":") > MOST_ENTRIES:
            raise ValueError("not a tokenizer.json: it is longer than one of all of Unicode would be")
        try:  # read as data: the package panics over, or builds at length, what chargen never writes
            file = json.loads(content)
            kind, vocabulary, decoder = file["model"]["type"], file["model"]["vocab"], file["decoder"]["type"]
            if kind != "WordLevel" or not isinstance(vocabulary, dict):
                raise TypeError
        except (ValueError, LookupError, TypeError, RecursionError):
            raise ValueError("not a tokenizer.json of chargen") from None
        spelled: Iterable[str] = vocabulary.keys() - {UNKNOWN, END}
        unit: Unit = "character" if decoder == "Fuse" else "byte"
        if unit == "byte":
            byte_of = {character: chr(byte) for byte, character in enumerate(BYTE_ALPHABET)}
            spelled = [byte_of.get(symbol, symbol) for symbol in spelled]
        tokenizer = Tokenizer(spelled, unit)
        if tokenizer.vocabulary != vocabulary:
            raise ValueError("tokenizer.json does not number its characters as chargen does")
        return tokenizer


class StreamDecoder:
    """Ids to text, one at a time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._symbols = tokenizer.symbols
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace") if tokenizer.unit == "byte" else None

    def decode(self, id: int) -> str:
        """The text that `id` completes: a character, or nothing yet."""
        if id == END_ID:
            return self.flush()
        if id == UNKNOWN_ID:
            return self.flush() + REPLACEMENT
        symbol = self._symbols[id - END_ID - 1]
        return symbol if self._bytes is None else self._bytes.decode(symbol.encode("latin-1"))

    def flush(self) -> str:
        """What an unfinished character leaves: U+FFFD, or nothing."""
        if self._bytes is None:
            return ""
        rest = self._bytes.decode(b"", final=True)
        self._bytes.reset()
        return rest
