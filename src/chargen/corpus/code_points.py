"""Text as arrays of code points: decode UTF-8, count code points, look up their ids.

`decode_utf8`, `count_code_points` and `look_up` run compiled code if the kernels are available. Each has a reference
implementation with the suffix `_reference`, built from Python's decoder, `numpy.bincount` and `numpy.take`, that
returns the same result.

In the byte unit, bytes take the place of code points: values from 0 to 255.
"""

from __future__ import annotations

import codecs
import sys
from ctypes import byref, c_int64

import numpy as np

from chargen import native

NUM_CODE_POINTS = sys.maxunicode + 1

_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}  # Unicode's control pictures
_VISIBLE |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}


def printable(text: str) -> str:
    """Replace control characters by visible ones, so that the text cannot steer a terminal."""
    return text.translate(_VISIBLE)


def code_points_of(symbols: str | bytes, errors: str = "surrogatepass") -> np.ndarray:
    """Return the code points of a string, or the values of bytes.

    Args:
        symbols: a string or bytes, N symbols.
        errors: what to do with lone surrogates, as in `str.encode`: `surrogatepass` or `strict`.

    Returns:
        (N,) uint8 for bytes and for ASCII text, otherwise uint32.

    Raises:
        UnicodeEncodeError: `errors` is `strict`, and the string contains a lone surrogate.
    """
    if isinstance(symbols, str) and not symbols.isascii():
        return np.frombuffer(symbols.encode("utf-32-le", errors), dtype=np.uint32)
    return np.frombuffer(symbols.encode() if isinstance(symbols, str) else symbols, dtype=np.uint8)


class Utf8Decoder(codecs.BufferedIncrementalDecoder):
    """An incremental decoder with the interface of `codecs`; it returns arrays of code points instead of strings."""

    def _buffer_decode(self, input: bytes, errors: str, final: bool) -> tuple[np.ndarray, int]:  # type: ignore[override]
        return decode_utf8(input, final)


def decode_utf8(data: bytes, final: bool = True) -> tuple[np.ndarray, int]:
    """Decode UTF-8 into code points. Return them and the number of bytes consumed.

    Args:
        data: the bytes to decode.
        final: whether `data` is the end of the text. If it is not, an incomplete character at its end is not consumed.

    Returns:
        (N,) code points, uint8 if all of them are ASCII, otherwise uint32; and the number of bytes consumed.

    Raises:
        UnicodeDecodeError: the data is not valid UTF-8; the error is the one that Python's decoder raises.
    """
    kernels = native.library()
    if kernels is None or data.isascii():
        return decode_utf8_reference(data, final)
    code_points, num_bytes = np.empty(len(data), dtype=np.uint32), c_int64()
    length = kernels.chargen_decode(data, len(data), code_points.ctypes.data, byref(num_bytes))
    if length < 0 or (final and num_bytes.value < len(data)):
        return decode_utf8_reference(data, final)  # raises the error with its position
    return code_points[:length], num_bytes.value


def decode_utf8_reference(data: bytes, final: bool = True) -> tuple[np.ndarray, int]:
    """Reference implementation of `decode_utf8`."""
    if data.isascii():
        return code_points_of(data), len(data)
    text, num_bytes = codecs.utf_8_decode(data, "strict", final)
    return code_points_of(text), num_bytes


def count_code_points(code_points: np.ndarray, counts: np.ndarray) -> None:
    """Add the number of occurrences of each code point to `counts`, in place.

    Args:
        code_points: (N,) uint8 or uint32, each below `NUM_CODE_POINTS`.
        counts: (NUM_CODE_POINTS,) int64.
    """
    kernels = native.library()
    if kernels is None:
        count_code_points_reference(code_points, counts)
        return
    assert counts.shape == (NUM_CODE_POINTS,)
    assert counts.dtype == np.int64
    kernels.chargen_count(code_points.ctypes.data, code_points.itemsize, len(code_points), counts.ctypes.data)


def count_code_points_reference(code_points: np.ndarray, counts: np.ndarray) -> None:
    """Reference implementation of `count_code_points`."""
    occurrences = np.bincount(code_points)
    counts[: len(occurrences)] += occurrences


def look_up(code_points: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the entry of `table` for each code point; a code point beyond the table gets the last entry.

    Args:
        code_points: (N,) uint8 or uint32.
        table: (M,) uint8, uint16 or uint32.

    Returns:
        (N,), with the dtype of `table`.
    """
    kernels = native.library()
    if kernels is None:
        return look_up_reference(code_points, table)
    ids = np.empty(len(code_points), dtype=table.dtype)
    kernels.chargen_look_up(
        code_points.ctypes.data, code_points.itemsize, len(code_points),
        table.ctypes.data, table.itemsize, len(table), ids.ctypes.data,
    )  # fmt: skip
    return ids


def look_up_reference(code_points: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Reference implementation of `look_up`."""
    return table.take(code_points, mode="clip")
