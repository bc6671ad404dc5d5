"""Symbols by number: those of a text, how often each comes, and their ids from a table.

Symbols are characters or bytes; their numbers are code points, or the bytes themselves. `decode_utf8`,
`count` and `look_up` are compiled where the kernels are there. Their twins, which end in `_plainly`,
are what they compute: Python's own decoder, `numpy.bincount` and `numpy.take`.
"""

from __future__ import annotations

import codecs
import sys
from ctypes import byref, c_int64

import numpy as np

from chargen import native

NUM_CODE_POINTS = sys.maxunicode + 1

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_PICTURES |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}


def printable(text: str) -> str:
    """A text as a terminal may see it: control characters, which would steer it, become pictures of themselves."""
    return text.translate(_PICTURES)


def code_points_of(symbols: str | bytes, errors: str = "surrogatepass") -> np.ndarray:
    """Code points or bytes of `symbols`: (N,) uint8 where all are ASCII or bytes, else uint32.

    Raises:
        UnicodeEncodeError: there is a lone surrogate, and `errors` is `strict`.
    """
    if isinstance(symbols, str) and not symbols.isascii():
        return np.frombuffer(symbols.encode("utf-32-le", errors), dtype=np.uint32)
    return np.frombuffer(symbols.encode() if isinstance(symbols, str) else symbols, dtype=np.uint8)


class Utf8Decoder(codecs.BufferedIncrementalDecoder):
    """An incremental decoder like those of `codecs`, from UTF-8 to numbers instead of text."""

    def _buffer_decode(self, input: bytes, errors: str, final: bool) -> tuple[np.ndarray, int]:  # type: ignore[override]
        return decode_utf8(input, final)


def decode_utf8(text: bytes, final: bool = True) -> tuple[np.ndarray, int]:
    """Numbers of the characters of `text`, and of how many bytes.

    Args:
        text: UTF-8.
        final: whether it ends here; if not, a character that is cut off at the end is left there.

    Returns:
        (N,) uint8 where all are ASCII, else uint32; and all bytes, but for those that are left.

    Raises:
        UnicodeDecodeError: it is not what Python decodes.
    """
    kernels = native.library()
    if kernels is None or text.isascii():
        return decode_utf8_reference(text, final)
    numbers, num_read = np.empty(len(text), dtype=np.uint32), c_int64()
    length = kernels.chargen_decode(text, len(text), numbers.ctypes.data, byref(num_read))
    if length < 0 or (final and num_read.value < len(text)):
        return decode_utf8_reference(text, final)  # which says where
    return numbers[:length], num_read.value


def decode_utf8_reference(text: bytes, final: bool = True) -> tuple[np.ndarray, int]:
    """`decode_utf8`, defined."""
    if text.isascii():
        return code_points_of(text), len(text)
    characters, num_read = codecs.utf_8_decode(text, "strict", final)
    return code_points_of(characters), num_read


def count(numbers: np.ndarray, counts: np.ndarray) -> None:
    """Adds to `counts[x]` how often `x` is among `numbers`.

    Args:
        numbers: (N,) uint8 or uint32, each a place of `counts`.
        counts: (NUM_CODE_POINTS,) int64.
    """
    kernels = native.library()
    if kernels is None:
        count_reference(numbers, counts)
        return
    assert counts.shape == (NUM_CODE_POINTS,)
    assert counts.dtype == np.int64
    kernels.chargen_count(numbers.ctypes.data, numbers.itemsize, len(numbers), counts.ctypes.data)


def count_reference(numbers: np.ndarray, counts: np.ndarray) -> None:
    """`count`, defined."""
    seen = np.bincount(numbers)
    counts[: len(seen)] += seen


def look_up(numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The rows of `table` that `numbers` name; its last row stands for all beyond.

    Args:
        numbers: (N,) uint8 or uint32.
        table: (rows,) uint8, uint16 or uint32.

    Returns:
        (N,), of the type of `table`.
    """
    kernels = native.library()
    if kernels is None:
        return look_up_reference(numbers, table)
    ids = np.empty(len(numbers), dtype=table.dtype)
    kernels.chargen_look_up(
        numbers.ctypes.data, numbers.itemsize, len(numbers),
        table.ctypes.data, table.itemsize, len(table), ids.ctypes.data,
    )  # fmt: skip
    return ids


def look_up_reference(numbers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`look_up`, defined."""
    return table.take(numbers, mode="clip")
