"""The tokenizer equals a dictionary, is lossless, and the `tokenizers` package reads its file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from chargen.corpus.tokenizer import END_ID, REPLACEMENT, UNKNOWN_ID, Tokenizer
from chargen.errors import ArgumentError, FileError

AWKWARD = [
    "",
    "a",
    "[UNK] and [END] are only letters here",
    "a\r\nb\n\nc\td",
    "白日依山尽，黄河入海流。",
    "😀 👩‍👩‍👧 e\u0301 \u202eright to left",
    "\u00a0\u2028\ufeff\x00\x7f",
    "  spaces   stay  ",
]
UNITS = ("character", "byte")


def tokenizer_for(text: str, unit: str) -> Tokenizer:
    return Tokenizer(text if unit == "character" else map(chr, range(256)), unit)


@pytest.mark.parametrize("text", AWKWARD)
def test_ids_equal_a_dictionary(text: str) -> None:
    vocabulary = {character: id for id, character in enumerate(sorted(set(text)), start=2)}
    ids = [vocabulary[character] for character in text]
    tokenizer = Tokenizer(text)
    assert tokenizer.encode(text).tolist() == ids
    assert tokenizer.vocab_size == len(vocabulary) + 2


@pytest.mark.parametrize(("num_symbols", "dtype"), [(0, "uint8"), (254, "uint8"), (255, "uint16"), (65_535, "uint32")])
def test_ids_of_code_points_have_the_smallest_integer_type(num_symbols: int, dtype: str) -> None:
    code_points = np.arange(0x10000, 0x10000 + num_symbols, dtype=np.uint32)
    tokenizer = Tokenizer(map(chr, code_points))
    assert tokenizer.dtype.name == tokenizer.encode_code_points(code_points).dtype.name == dtype
    assert tokenizer.encode_code_points(code_points).tolist() == list(range(2, num_symbols + 2))
    assert tokenizer.encode("ab").dtype.name == "int64"


def test_ids_of_bytes() -> None:
    tokenizer = Tokenizer(map(chr, b"\x00ab\xff"), "byte")
    code_points = np.frombuffer(b"\xffba\x00c", dtype=np.uint8)
    assert tokenizer.encode_code_points(code_points).tolist() == [5, 4, 3, 2, UNKNOWN_ID]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", AWKWARD)
def test_lossless_and_equal_to_the_library(text: str, unit: str) -> None:
    tokenizer = tokenizer_for(text, unit)
    ids = tokenizer.encode(text).tolist()
    library = Library.from_str(tokenizer.to_json())
    assert tokenizer.decode(ids) == text
    assert library.encode(text).ids == ids
    assert library.decode(ids) == text


@given(st.text())
def test_lossless_for_any_text(text: str) -> None:
    tokenizer = Tokenizer(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text(st.characters(codec="utf-8")))
def test_lossless_for_bytes(text: str) -> None:
    tokenizer = Tokenizer(map(chr, range(256)), "byte")
    assert tokenizer.encode(text).tolist() == [2 + byte for byte in text.encode()]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("unit", UNITS)
def test_file_round_trip(unit: str) -> None:
    tokenizer = Tokenizer("abc é\n" if unit == "byte" else "abc 山\n😀", unit)
    again = Tokenizer.from_json(tokenizer.to_json())
    assert (again.symbols, again.unit) == (tokenizer.symbols, tokenizer.unit)


@given(st.binary(min_size=1))
def test_to_bytes_restores_the_file(content: bytes) -> None:
    tokenizer = Tokenizer(map(chr, set(content)), "byte")
    ids = tokenizer.encode_code_points(np.frombuffer(content, np.uint8))
    assert tokenizer.to_bytes(ids) == content
    text = content.decode("latin-1")
    tokenizer = Tokenizer(text)
    assert tokenizer.to_bytes(np.insert(tokenizer.encode(text), 0, END_ID)) == b"\0" + text.encode()


def test_unknown_characters_become_the_replacement_character() -> None:
    tokenizer = Tokenizer("abc")
    assert tokenizer.encode("a山c\U0010ffff").tolist() == [2, UNKNOWN_ID, 4, UNKNOWN_ID]
    assert tokenizer.decode([2, UNKNOWN_ID, 4]) == f"a{REPLACEMENT}c"
    assert tokenizer.unknown("xaxb山") == ["x", "山"]
    assert Library.from_str(tokenizer.to_json()).encode("a山").ids == [2, UNKNOWN_ID]
    assert Tokenizer(map(chr, b"abc"), "byte").unknown("aé") == ["é"]


def test_text_cannot_spell_the_special_ids() -> None:
    tokenizer = Tokenizer("[UNKED]")
    assert {UNKNOWN_ID, END_ID}.isdisjoint(tokenizer.encode("[UNK][END]").tolist())


def test_stream_decoder_holds_bytes_back_until_their_character_is_complete() -> None:
    decoder = Tokenizer(map(chr, range(256)), "byte").decoder()
    first, second, third = "山".encode()
    assert [decoder.decode(2 + byte) for byte in (first, second, third, ord("!"))] == ["", "", "山", "!"]
    assert decoder.decode(2 + first) + decoder.flush() == REPLACEMENT
    assert decoder.decode(2 + first) + decoder.decode(END_ID) == REPLACEMENT


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        Tokenizer("ab").to_json().replace('"a":2', '"a":3').replace('"b":3', '"b":2'),
        Tokenizer("ab").to_json().replace('"a":2', '"aa":2'),
        Tokenizer("ab", "byte").to_json().replace('"a":2', '"\u5c71":2'),
        Tokenizer("ab").to_json().replace('"b":3', '"\\ud800":3'),
        Tokenizer("ab").to_json().replace("WordLevel", "BPE"),
        '{"model":' * 10_000,
    ],
)
def test_other_files_are_refused(content: str) -> None:
    with pytest.raises(FileError, match=r"^not a tokenizer\.json of chargen"):
        Tokenizer.from_json(content)


@pytest.mark.parametrize(
    ("name", "symbols", "unit"),
    [
        ("symbols", ["ab"], "character"),
        ("symbols", ["a", ""], "character"),
        ("symbols", ["山"], "byte"),
        ("symbols", ["a", "b", "a"], "character"),
        ("symbols", iter("aa"), "byte"),
        ("symbols", [1, 2], "character"),
        ("symbols", ["a", None], "character"),
        ("symbols", b"ab", "byte"),
        ("symbols", None, "character"),
        ("symbols", 5, "character"),
        ("unit", "ab", "word"),
        ("unit", "ab", None),
        ("unit", "ab", ["byte"]),
    ],
)
def test_symbols_are_different_single_characters_or_bytes(name: str, symbols: object, unit: object) -> None:
    with pytest.raises(ArgumentError, match=rf"^{name}=.*: must be "):
        Tokenizer(symbols, unit)


def test_a_text_may_repeat_its_symbols() -> None:
    assert Tokenizer("abracadabra").symbols == Tokenizer(["r", "d", "c", "b", "a"]).symbols == ["a", "b", "c", "d", "r"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "ids",
    [[-1], [2, -1], [999], [5], [2.0], [2.5], [True], ["a"], [None], [[2]], [10**30], "ab", b"ab", 2, None,
     np.array(2), np.array([[2]]), np.array([2.0]), np.array([-1], np.int8), [[2], [2, 3]]],
    ids=repr,
)  # fmt: skip
def test_ids_that_are_not_in_the_vocabulary_are_named(ids: object, unit: str) -> None:
    tokenizer = Tokenizer("abc", unit)
    for method in (tokenizer.decode, tokenizer.to_bytes):
        with pytest.raises(ArgumentError, match=r"^ids=.*: must be whole numbers from 0 to 4"):
            method(ids)


@pytest.mark.parametrize("id", [-1, -2, -3, 5, 999, 2.0, 2.5, "a", None, [2]])
def test_a_stream_decoder_reads_no_id_outside_of_the_vocabulary(id: object) -> None:
    for unit in UNITS:
        with pytest.raises(ArgumentError, match=r"^id=.*: must be a whole number from 0 to 4"):
            Tokenizer("abc", unit).decoder().decode(id)


def test_ids_may_be_any_integers_in_any_iterable() -> None:
    tokenizer = Tokenizer("abc")
    for ids in ([2, 3], (np.int8(2), np.int64(3)), np.array([2, 3], np.uint8), range(2, 4), iter([2, 3])):
        assert tokenizer.decode(ids) == "ab"
    assert (tokenizer.decode([]), tokenizer.to_bytes([]), tokenizer.to_bytes([2, 3])) == ("", b"", b"ab")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", [b"abc", None, 5, ["a"], np.array([2])], ids=repr)
def test_what_is_no_text_is_named(text: object, unit: str) -> None:
    tokenizer = Tokenizer("abc", unit)
    for method in (tokenizer.encode, tokenizer.unknown):
        with pytest.raises(ArgumentError, match=r"^text=.*: must be a string"):
            method(text)
    with pytest.raises(ArgumentError, match=r"^content=.*: must be a string"):
        Tokenizer.from_json(text)


@pytest.mark.parametrize("wrong", ["ab", [97], np.array([97]), np.array([97.0]), np.zeros((1, 1), np.uint8), None])
def test_code_points_are_an_array_of_two_types(wrong: object) -> None:
    """The kernel would read the memory of another type as if it held code points."""
    with pytest.raises(ArgumentError, match=r"^code_points=.*: must be an array"):
        Tokenizer("ab").encode_code_points(wrong)
    apart = np.array([97, 0, 98, 0], np.uint32)[::2]
    assert Tokenizer("ab").encode_code_points(apart).tolist() == [2, 3]
