"""The encoding of a file is found from its bytes: what is decoded is the text that was encoded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from support.languages import CANTONESE, JAPANESE, KOREAN, SAMPLES, SIMPLIFIED, TRADITIONAL

from chargen.corpus.encodings import (
    Detection,
    better_encoding,
    decoded_twice,
    detect_encoding,
    detect_encodings,
    from_run_lengths,
    run_lengths,
)


def decoded(data: bytes, block_size: int = 1 << 20) -> str | None:
    """Decode bytes in the encoding that is found in them."""
    encoding = detect_encoding(data[begin : begin + block_size] for begin in range(0, len(data), block_size)).encoding
    return None if encoding is None else data.decode("utf-8-sig" if encoding == "utf-8" else encoding)


@pytest.mark.parametrize("block_size", [1 << 20, 7])
@pytest.mark.parametrize(("encoding", "text"), SAMPLES, ids=[f"{name}-{text[:6]}" for name, text in SAMPLES])
def test_a_text_in_any_encoding_is_decoded_as_it_was_encoded(encoding: str, text: str, block_size: int) -> None:
    assert decoded(text.encode(encoding), block_size) == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("gb18030", SIMPLIFIED), ("big5", TRADITIONAL), ("cp932", JAPANESE), ("euc_jp", JAPANESE), ("cp949", KOREAN)],
)
def test_short_passages_are_decoded_as_they_were_encoded(encoding: str, text: str) -> None:
    """Every passage of twenty characters."""
    passages = [text[begin : begin + 20] for begin in range(len(text) - 20)]
    wrong = [passage for passage in passages if decoded(passage.encode(encoding)) != passage]
    assert not wrong


@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_poems_are_decoded_as_they_were_encoded(encoding: str, shared: Path) -> None:
    """Four couplets alone: classical Chinese has other frequent characters."""
    lines = (shared / "tang_couplets.txt").read_text(encoding="utf-8").splitlines()
    couplets = [line.encode(encoding, "ignore") for line in lines[:20_000]]
    whole = [data for data in couplets if len(data) == 24]  # the text is in simplified characters: few are in Big5
    passages = [b"\n".join(whole[begin : begin + 4]) for begin in range(0, len(whole), 4)][:400]
    assert len(passages) > 60
    assert np.mean([decoded(data) == data.decode(encoding) for data in passages]) == 1.0


def test_a_long_ascii_beginning_does_not_hide_what_follows() -> None:
    data = b"License: do as you like.\n" * 20_000 + SIMPLIFIED.encode("gb18030")
    assert decoded(data, 1000) == data.decode("gb18030")


@pytest.mark.parametrize("encoding", ["gb18030", "big5"])
def test_code_with_a_few_comments_is_decoded(encoding: str) -> None:
    code = (
        "int counter = 0;  // 計數器\nwhile (counter < limit) counter += step;\nreturn total; // 回傳總和給使用者\n" * 3
    )
    assert decoded(code.encode(encoding)) == code


def test_a_few_wrong_bytes_are_damage() -> None:
    data = TRADITIONAL.encode()
    assert detect_encoding([data[:300], b"\xff", data[300:]]) == Detection("utf-8", is_damaged=True)
    data = SIMPLIFIED.encode("gb18030") * 2
    assert detect_encoding([data + b"\xff\n" + data]) == Detection("gb18030", is_damaged=True)


@pytest.mark.parametrize("data", [bytes(range(256)) * 20, np.random.default_rng(0).bytes(5000), b"\x7fELF\0\1\2" * 99])
def test_what_is_no_text_has_no_encoding(data: bytes) -> None:
    assert detect_encoding([data]).encoding is None


@pytest.mark.parametrize("data", [b"", b"plain ASCII\n", "é".encode()])
def test_ascii_and_nothing_are_utf_8(data: bytes) -> None:
    assert detect_encoding([data]) == Detection("utf-8")


def test_a_short_file_takes_the_encoding_of_its_neighbours(tmp_path: Path) -> None:
    """Two bytes are a character in GBK and in Big5; alone they are uncertain."""
    files = [tmp_path / name for name in "abc"]
    files[0].write_bytes(TRADITIONAL.encode("big5"))
    files[1].write_bytes("山\n".encode("big5"))
    files[2].write_bytes("山雨".encode())

    def blocks(file: Path) -> Iterable[bytes]:
        yield file.read_bytes()

    assert not detect_encoding(blocks(files[1])).certain
    assert [one.encoding for one in detect_encodings(files, blocks)] == ["big5", "big5", "utf-8"]


# ------------------------------------------------------------------------------- text that was decoded wrongly


@pytest.mark.parametrize(
    ("encoding", "wrong", "text"),
    [
        ("big5", "gb18030", TRADITIONAL),
        ("gb18030", "big5", SIMPLIFIED),
        ("gb18030", "cp1252", SIMPLIFIED),
        ("utf-8", "latin-1", "café crème, déjà vu\n"),
        ("utf-8", "gb18030", TRADITIONAL),
        ("cp1252", "cp1250", "Le garçon a été très étonné de voir, près de la forêt, un château où l’on dansait.\n"),
        ("cp932", "gb18030", JAPANESE),
    ],
)
def test_a_better_encoding_is_the_one_in_which_the_text_was_encoded(encoding: str, wrong: str, text: str) -> None:
    data = text.encode(encoding)
    found = better_encoding(data, wrong)
    assert found is not None
    assert data.decode(found) == text
    assert better_encoding(data, encoding) is None


def test_text_that_was_decoded_twice_is_recognised() -> None:
    for wrong in ("cp1252", "gb18030"):
        for text in ("café crème, déjà vu\n", TRADITIONAL, JAPANESE):
            data = text.encode()
            by_byte = "".join(data[at : at + 1].decode("cp1252", "ignore") or chr(data[at]) for at in range(len(data)))
            twice = by_byte if wrong == "cp1252" else data.decode(wrong, "ignore")
            assert decoded_twice(twice) == wrong
    for _, text in SAMPLES:
        assert decoded_twice(text) is None
    assert decoded_twice(CANTONESE) is None


# ------------------------------------------------------------------------------- the files of a run


def test_run_lengths_are_undone() -> None:
    encodings = ("utf-8", "utf-8", "big5", "utf-8")
    assert run_lengths(encodings) == [["utf-8", 2], ["big5", 1], ["utf-8", 1]]
    assert from_run_lengths(run_lengths(encodings)) == encodings


@pytest.mark.parametrize(
    "stored",
    [None, "utf-8", 3, [["utf-8"]], [["klingon", 1]], [["utf-8", -1]], [["utf-8", 10**12]], [[3, 3]], {"a": 1}],
)
def test_encodings_in_a_file_are_checked(stored: object) -> None:
    assert from_run_lengths(stored) == ()
