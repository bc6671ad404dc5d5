"""Every kind of file is read as Python reads it, wherever its blocks end."""

from __future__ import annotations

import gzip
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.corpus.reader import Cleaning, normalize_unicode, read_articles, split_lines
from chargen.errors import ConfigError, TextError


def read(file: Path, **cleaning: Any) -> list[str]:
    """Read the articles; a byte becomes the character with its value."""
    articles = read_articles(file, Cleaning(**cleaning))
    return ["".join(chr(symbol) for piece in article for symbol in piece) for article in articles]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read three bytes at a time, so that a block ends at every kind of place."""
    monkeypatch.setattr("chargen.corpus.decoding.BLOCK_SIZE", 3)


# ------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030", "big5", "utf-32"])
@pytest.mark.usefixtures("small_blocks")
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = "白日依山盡\r\n黃河 into the sea\n"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read(tmp_path / "a.txt", encoding="utf-8" if "utf-8" in encoding else encoding) == [text]


@pytest.mark.parametrize(
    ("alias", "name"), [("UTF8", "utf-8"), ("utf-8-sig", "utf-8"), ("GBK", "gbk"), ("latin1", "iso8859-1")]
)
def test_encodings_have_one_name(alias: str, name: str) -> None:
    assert Cleaning(alias) == Cleaning(name)
    assert Cleaning(alias).encoding == name


@pytest.mark.parametrize("encoding", ["klingon", "base64", "undefined", "", "a\0b"])
def test_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.encoding=.*: no such encoding"):
        Cleaning(encoding)


def test_bytes_of_another_encoding_are_those_of_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("白日依山尽".encode("gb18030"))
    assert read(tmp_path / "a.txt", unit="byte", encoding="gb18030") == ["白日依山尽".encode().decode("latin-1")]


def test_byte_unit_takes_any_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2
    (tmp_path / "a.bin").write_bytes(content)
    assert read(tmp_path / "a.bin", unit="byte") == [content.decode("latin-1")]


FRAGMENTS = st.sampled_from([b"a", b"\n", "é山😀\ufeff".encode(), b"\xe5\xb1", b"\xb1", b"\xf0\x9f\x98", b"\xc0\x80",
                             b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\0"])  # fmt: skip


@given(
    content=st.binary() | st.text().map(str.encode) | st.lists(FRAGMENTS).map(b"".join), block_size=st.integers(3, 9)
)
def test_reads_what_python_decodes_and_reports_the_byte_where_python_fails(
    content: bytes, block_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(content)
    mark_size = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.corpus.decoding.BLOCK_SIZE", block_size)
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            with pytest.raises(TextError, match="UTF-16 byte order mark"):
                read(file)
            return
        try:
            text = content[mark_size:].decode()
        except UnicodeDecodeError as error:
            before = content[mark_size : mark_size + error.start]
            place = mark_size + error.start
            with pytest.raises(TextError, match=f"is not utf-8 at byte {place}:|looks binary") as raised:
                read(file)
            assert "NUL" not in str(raised.value) or b"\0" in before
            return
        if "\0" in text:
            with pytest.raises(TextError, match="looks binary"):
                read(file)
        else:
            assert read(file) == [text]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
@pytest.mark.usefixtures("small_blocks")
def test_reports_every_byte_that_it_reads(name: str, tmp_path: Path) -> None:
    """For a gzip file these are the bytes on disk."""
    content = b'{"text": "some"}\n' * 5
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    reported: list[int] = []
    for article in read_articles(tmp_path / name, Cleaning(), reported.append):
        assert sum(map(len, article)) > 0
    assert sum(reported) == (tmp_path / name).stat().st_size


# ------------------------------------------------------------------------------- cleaning


@pytest.mark.parametrize("unit", ["character", "byte"])
@pytest.mark.usefixtures("small_blocks")
def test_newlines_are_normalized_on_request(unit: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\r\nbc\r\r\nd\re\n\r")
    assert read(tmp_path / "a.txt", unit=unit) == ["a\r\nbc\r\r\nd\re\n\r"]
    assert read(tmp_path / "a.txt", unit=unit, normalize_newlines=True) == ["a\nbc\n\nd\ne\n\n"]


@given(text=st.text(st.sampled_from("aeé\u0301\u0323\u0308 がか\u3099한\u1112\u1161\u11ab山"), min_size=4, max_size=60))
def test_nfc_of_pieces_is_nfc_of_the_whole(text: str) -> None:
    pieces = [text[k : k + 3] for k in range(0, len(text), 3)]
    assert "".join(normalize_unicode(pieces)) == unicodedata.normalize("NFC", text)


def test_unicode_is_normalized_on_request(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cafe\u0301 " * 3, encoding="utf-8")
    assert read(tmp_path / "a.txt") == ["cafe\u0301 " * 3]
    assert read(tmp_path / "a.txt", normalize_unicode=True) == ["caf\u00e9 " * 3]


@given(st.lists(st.text("ab\n\r")))
def test_lines_of_pieces_are_lines_of_the_whole(pieces: list[str]) -> None:
    assert list(split_lines(pieces)) == "".join(pieces).split("\n")


# ------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("content", "cleaning", "message"),
    [
        (b"abc\0def", {}, "looks binary .* corpus.unit=byte"),
        (b"plain then \xff", {}, "is not utf-8 at byte 11: .*corpus.encoding="),
        ("é".encode() * 5 + b"\xe9 latin", {}, "is not utf-8 at byte 10"),
        (b"\xef\xbb\xbfabc\xff", {}, "is not utf-8 at byte 6"),
        ("山".encode()[:2], {}, "is not utf-8 at byte 0"),
        (b"abcd" + "山".encode()[:2], {}, "is not utf-8 at byte 4"),
        ("ab".encode("utf-16"), {}, "UTF-16 byte order mark: write corpus.encoding=utf-16"),
        (b"abc +2AA- def", {"encoding": "utf-7"}, r"is not text in utf-7: it contains the lone surrogate U\+D800"),
    ],
)
@pytest.mark.usefixtures("small_blocks")
def test_mistakes_in_a_text(content: bytes, cleaning: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(TextError, match=rf"a\.txt .*{message}|a\.txt {message}"):
        read(tmp_path / "a.txt", **cleaning)


@pytest.mark.parametrize("line", ["no json", "[1]", "5", "null", "[" * 100_000])
def test_mistakes_in_json_lines(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(TextError, match="line 2: expected a JSON object"):
        read(tmp_path / "a.jsonl")


@pytest.mark.usefixtures("small_blocks")
def test_json_lines_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "白日"}\n{"text": "依山"}\n', encoding="utf-16")
    assert read(tmp_path / "a.jsonl", encoding="utf-16") == ["白日", "依山"]
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(TextError, match=r"b\.jsonl is not utf-8 at byte 30"):
        read(tmp_path / "b.jsonl")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.txt.gz", gzip.compress(b"abc" * 100, mtime=0)[:20]), ("b.txt.gz", b"never compressed"), ("missing.txt", None)],
)
def test_unreadable_files_are_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=f"cannot read .*{name}: "):
        read(tmp_path / name)
