"""Decoding equals Python's decoder, counting `Counter`, and look-up indexing, with and without kernels."""

from __future__ import annotations

import codecs
import itertools
import unicodedata
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen import native
from chargen.corpus.code_points import (
    NUM_CODE_POINTS,
    Utf8Decoder,
    code_points_of,
    count_code_points,
    count_code_points_reference,
    decode_utf8,
    decode_utf8_reference,
    look_up,
    look_up_reference,
    printable,
)

COMPILED = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
DECODES = [decode_utf8_reference, pytest.param(decode_utf8, marks=COMPILED)]
COUNTS = [count_code_points_reference, pytest.param(count_code_points, marks=COMPILED)]
LOOK_UPS = [look_up_reference, pytest.param(look_up, marks=COMPILED)]
AWKWARD: list[str | bytes] = [
    *("abcabcabcabcabcabc"[:length] for length in range(18)),  # every remainder of a vectorized step
    *("白日依山尽，黄河入海流。"[:length] for length in range(1, 10)),
    *(bytes([0, 255, 0, 128, 255, 255, 10, 0, 0][:length]) for length in range(10)),
    "\x7f",
    "\x80",
    "ÿĀ",
    "\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff a\0b",
    "😀 👩‍👩‍👧 e\u0301 \u202e\r\n",
    "a line of ASCII with — a dash in it, and é",
]

Decode = Callable[[bytes, bool], tuple[np.ndarray, int]]
Count = Callable[[np.ndarray, np.ndarray], None]
LookUp = Callable[[np.ndarray, np.ndarray], np.ndarray]


def values_of(symbols: str | bytes) -> list[int]:
    return list(symbols) if isinstance(symbols, bytes) else [ord(symbol) for symbol in symbols]


@pytest.mark.parametrize("symbols", AWKWARD)
def test_code_points_of_strings_and_bytes(symbols: str | bytes) -> None:
    assert code_points_of(symbols).tolist() == values_of(symbols)


def test_lone_surrogates_pass_unless_strict() -> None:
    assert code_points_of("山\ud800").tolist() == [0x5C71, 0xD800]
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        code_points_of("山\ud800", "strict")


# ------------------------------------------------------------------------------- UTF-8


def assert_decodes_as_python(decode: Decode, content: bytes) -> None:
    """Compare text and number of bytes, or the error, with Python's decoder, for a final and a non-final block."""
    for final in (True, False):
        expected: tuple[object, ...]
        try:
            text, length = codecs.utf_8_decode(content, "strict", final)
            expected = values_of(text), length
        except UnicodeDecodeError as error:
            expected = error.args
        try:
            code_points, num_bytes = decode(content, final)
            assert (code_points.tolist(), num_bytes) == expected
        except UnicodeDecodeError as error:
            assert error.args == expected  # noqa: PT017  # the expected outcome may be a result


@pytest.mark.parametrize("decode", DECODES)
@pytest.mark.parametrize("symbols", [symbols for symbols in AWKWARD if isinstance(symbols, str)])
def test_decodes_text_and_every_prefix_of_it(symbols: str, decode: Decode) -> None:
    content = symbols.encode()
    for length in range(len(content) + 1):
        assert_decodes_as_python(decode, content[:length])


@pytest.mark.parametrize("decode", DECODES)
def test_every_start_of_a_character_is_decoded_as_by_python(decode: Decode) -> None:
    """All first bytes, each followed by the bytes on both sides of every limit in the definition of UTF-8."""
    limits = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    for first in range(0x80, 0x100):
        for second in limits:
            assert_decodes_as_python(decode, bytes([first, second]))
            for third, fourth in itertools.product((0x7F, 0x80, 0xBF, 0xC0), repeat=2):
                assert_decodes_as_python(decode, bytes([first, second, third, fourth]))
                assert_decodes_as_python(decode, "山".encode() + bytes([first, second, third]))


@COMPILED
def test_kernel_decodes_every_character(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the reference implementation, to which it hands over invalid data."""
    monkeypatch.setattr("chargen.corpus.code_points.decode_utf8_reference", None)
    text = "".join(map(chr, itertools.chain(range(0xD800), range(0xE000, NUM_CODE_POINTS))))
    code_points, num_bytes = decode_utf8(text.encode())
    assert num_bytes == len(text.encode())
    assert np.array_equal(code_points, np.delete(np.arange(NUM_CODE_POINTS), np.s_[0xD800:0xE000]))


FRAGMENTS = st.sampled_from([b"a", b"eight of them", "é山😀\ufeff".encode(), b"\xe5\xb1", b"\xb1", b"\xf0\x9f\x98",
                             b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\0"])  # fmt: skip


@pytest.mark.parametrize("decode", DECODES)
@given(content=st.text().map(str.encode) | st.binary() | st.lists(FRAGMENTS).map(b"".join))
def test_any_bytes_are_decoded_as_by_python(decode: Decode, content: bytes) -> None:
    assert_decodes_as_python(decode, content)


@given(text=st.text(), size=st.integers(1, 9))
def test_incremental_decoder_takes_blocks_of_any_size(text: str, size: int) -> None:
    content, decoder = text.encode(), Utf8Decoder()
    pieces = [decoder.decode(content[begin : begin + size]) for begin in range(0, len(content), size)]
    pieces.append(decoder.decode(b"", final=True))
    assert [code_point for piece in pieces for code_point in piece] == values_of(text)


# ------------------------------------------------------------------------------- counts and ids


def counts_by(count: Count, *pieces: str | bytes) -> dict[int, int]:
    counts = np.zeros(NUM_CODE_POINTS, dtype=np.int64)
    for piece in pieces:
        count(code_points_of(piece), counts)
    return {int(code_point): int(counts[code_point]) for code_point in np.flatnonzero(counts)}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("symbols", AWKWARD)
def test_counts_equal_counter(symbols: str | bytes, count: Count) -> None:
    assert counts_by(count, symbols) == Counter(values_of(symbols))


@pytest.mark.parametrize("count", COUNTS)
@given(pieces=st.lists(st.text() | st.binary()))
def test_counts_of_pieces_add_up(count: Count, pieces: list[str | bytes]) -> None:
    assert counts_by(count, *pieces) == sum((Counter(values_of(piece)) for piece in pieces), Counter())


def assert_looks_up(look_up: LookUp, symbols: str | bytes, table: np.ndarray) -> None:
    ids = look_up(code_points_of(symbols), table)
    assert ids.dtype == table.dtype
    assert ids.tolist() == [table[value] if value < len(table) else table[-1] for value in values_of(symbols)]


@pytest.mark.parametrize("implementation", LOOK_UPS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("num_rows", [1, 2, 98, 255, 256, 257, 0x9000, NUM_CODE_POINTS])
def test_look_up_in_tables_of_every_size(num_rows: int, dtype: type, implementation: LookUp) -> None:
    """A code point beyond the table gets its last entry, also if the table has fewer entries than a byte has values."""
    table = np.random.default_rng(num_rows).integers(np.iinfo(dtype).max, size=num_rows, dtype=dtype, endpoint=True)
    for symbols in (*AWKWARD, bytes(range(256))):
        assert_looks_up(implementation, symbols, table)


@pytest.mark.parametrize("implementation", LOOK_UPS)
@given(symbols=st.text(st.characters()) | st.binary(), num_rows=st.integers(1, 70_000))
def test_look_up_of_any_text(implementation: LookUp, symbols: str | bytes, num_rows: int) -> None:
    """Including lone surrogates, which a prompt may contain."""
    assert_looks_up(implementation, symbols, np.arange(num_rows, dtype=np.uint32) * 7)


# ------------------------------------------------------------------------------- terminals


def test_printable_text_has_no_control_characters_but_newline_and_tab() -> None:
    text = "".join(map(chr, range(0x300))) + "\u5c71"
    visible = printable(text)
    assert len(visible) == len(text)
    for before, after in zip(text, visible, strict=True):
        if unicodedata.category(before) == "Cc" and before not in "\n\t":
            assert unicodedata.category(after) == "So"
        else:
            assert after == before
    assert printable("\x1b[2J\x7f\x9b") == "\u241b[2J\u2421\ufffd"
