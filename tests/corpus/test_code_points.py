"""Symbols are decoded as Python does, counted as `Counter` does and looked up as a list is, compiled or not."""

from __future__ import annotations

import codecs
import itertools
from collections import Counter
from collections.abc import Callable

import chargen.corpus.encoded.__code_points
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen import native
from chargen.corpus.code_points import (
    NUM_CODE_POINTS,
    Utf8Decoder,
    code_points_of,
    count,
    count_reference,
    decode_utf8,
    decode_utf8_reference,
    look_up,
    look_up_reference,
)

COMPILED = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
DECODES = [decode_utf8_reference, pytest.param(decode_utf8, marks=COMPILED)]
COUNTS = [count_reference, pytest.param(count, marks=COMPILED)]
LOOK_UPS = [look_up_reference, pytest.param(look_up, marks=COMPILED)]
AWKWARD: list[str | bytes] = [
    *("abcabcabcabcabcabc"[:length] for length in range(18)),  # every remainder of a step of several
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


def as_numbers(symbols: str | bytes) -> list[int]:
    return list(symbols) if isinstance(symbols, bytes) else [ord(symbol) for symbol in symbols]


@pytest.mark.parametrize("symbols", AWKWARD)
def test_numbers_are_code_points_or_bytes(symbols: str | bytes) -> None:
    assert code_points_of(symbols).tolist() == as_numbers(symbols)


def test_a_lone_surrogate_is_a_number_unless_asked() -> None:
    assert code_points_of("山\ud800").tolist() == [0x5C71, 0xD800]
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        code_points_of("山\ud800", "strict")


# ------------------------------------------------------------------------------- UTF-8


def assert_decodes_as_python(way: Decode, content: bytes) -> None:
    """The same text, or the same error; and as much of it, where more may come."""
    for final in (True, False):
        expected: tuple[object, ...]
        try:
            text, length = codecs.utf_8_decode(content, "strict", final)
            expected = as_numbers(text), length
        except UnicodeDecodeError as error:
            expected = error.args
        try:
            numbers, num_read = way(content, final)
            assert (numbers.tolist(), num_read) == expected
        except UnicodeDecodeError as error:
            assert error.args == expected  # noqa: PT017  # whichever it is, it is the same


@pytest.mark.parametrize("way", DECODES)
@pytest.mark.parametrize("symbols", [symbols for symbols in AWKWARD if isinstance(symbols, str)])
def test_decodes_text_and_each_beginning_of_it(symbols: str, way: Decode) -> None:
    content = symbols.encode()
    for length in range(len(content) + 1):
        assert_decodes_as_python(way, content[:length])


@pytest.mark.parametrize("way", DECODES)
def test_every_beginning_of_a_character_is_judged_as_by_python(way: Decode) -> None:
    """All first bytes; behind them the bytes on both sides of every limit there is."""
    limits = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    for first in range(0x80, 0x100):
        for second in limits:
            assert_decodes_as_python(way, bytes([first, second]))
            for third, fourth in itertools.product((0x7F, 0x80, 0xBF, 0xC0), repeat=2):
                assert_decodes_as_python(way, bytes([first, second, third, fourth]))
                assert_decodes_as_python(way, "山".encode() + bytes([first, second, third]))


@COMPILED
def test_every_character_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And by compiled code: it leaves to Python what it does not take."""
    monkeypatch.setattr(chargen.symbols, "decode_utf8_reference", None)
    text = "".join(map(chr, itertools.chain(range(0xD800), range(0xE000, NUM_CODE_POINTS))))
    numbers, num_read = decode_utf8(text.encode())
    assert num_read == len(text.encode())
    assert np.array_equal(numbers, np.delete(np.arange(NUM_CODE_POINTS), np.s_[0xD800:0xE000]))


FRAGMENTS = st.sampled_from([b"a", b"eight of them", "é山😀\ufeff".encode(), b"\xe5\xb1", b"\xb1", b"\xf0\x9f\x98",
                             b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\0"])  # fmt: skip


@pytest.mark.parametrize("way", DECODES)
@given(content=st.text().map(str.encode) | st.binary() | st.lists(FRAGMENTS).map(b"".join))
def test_decodes_as_python_does(way: Decode, content: bytes) -> None:
    assert_decodes_as_python(way, content)


@given(text=st.text(), size=st.integers(1, 9))
def test_pieces_that_end_anywhere_are_decoded(text: str, size: int) -> None:
    content, decoder = text.encode(), Utf8Decoder()
    pieces = [decoder.decode(content[begin : begin + size]) for begin in range(0, len(content), size)]
    pieces.append(decoder.decode(b"", final=True))
    assert [number for piece in pieces for number in piece] == as_numbers(text)


# ------------------------------------------------------------------------------- counts and ids


def counted(way: Count, *pieces: str | bytes) -> dict[int, int]:
    counts = np.zeros(NUM_CODE_POINTS, dtype=np.int64)
    for piece in pieces:
        way(code_points_of(piece), counts)
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}


@pytest.mark.parametrize("way", COUNTS)
@pytest.mark.parametrize("symbols", AWKWARD)
def test_counts_what_there_is(symbols: str | bytes, way: Count) -> None:
    assert counted(way, symbols) == Counter(as_numbers(symbols))


@pytest.mark.parametrize("way", COUNTS)
@given(pieces=st.lists(st.text() | st.binary()))
def test_counts_of_pieces_add_up(way: Count, pieces: list[str | bytes]) -> None:
    assert counted(way, *pieces) == sum((Counter(as_numbers(piece)) for piece in pieces), Counter())


def assert_looks_up(way: LookUp, symbols: str | bytes, table: np.ndarray) -> None:
    got = way(code_points_of(symbols), table)
    assert got.dtype == table.dtype
    assert got.tolist() == [table[number] if number < len(table) else table[-1] for number in as_numbers(symbols)]


@pytest.mark.parametrize("way", LOOK_UPS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("num_rows", [1, 2, 98, 255, 256, 257, 0x9000, NUM_CODE_POINTS])
def test_looks_up_rows_of_every_size(num_rows: int, dtype: type, way: LookUp) -> None:
    """Also of tables that are shorter than what a byte can name; what lies beyond gets the last row."""
    table = np.random.default_rng(num_rows).integers(np.iinfo(dtype).max, size=num_rows, dtype=dtype, endpoint=True)
    for symbols in (*AWKWARD, bytes(range(256))):
        assert_looks_up(way, symbols, table)


@pytest.mark.parametrize("way", LOOK_UPS)
@given(symbols=st.text(st.characters()) | st.binary(), num_rows=st.integers(1, 70_000))
def test_looks_up_any_text(way: LookUp, symbols: str | bytes, num_rows: int) -> None:
    """Lone surrogates too, which a prompt may hold."""
    assert_looks_up(way, symbols, np.arange(num_rows, dtype=np.uint32) * 7)
