"""The profile of a text equals what the whole of it shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.corpus.reader import Cleaning, Findings, read_articles
from chargen.corpus.text_files import TextFiles
from chargen.errors import ConfigError, TextError
from chargen.insight.text_profile import MANY_TIMES, RARE, RareSymbol, profile_text
from chargen.nn import speed

ALPHABET = "ab\n\ré中 "


def lines_of(text: str) -> list[tuple[str, str]]:
    """Split a text into lines and their ends with a regular expression."""
    return [(line, end) for line, end in re.findall(r"([^\r\n]*)(\r\n|\r|\n|$)", text) if line or end]


@given(st.text(ALPHABET, max_size=120), st.integers(1, 30))
def test_profile_equals_counts_of_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, block_size: int
) -> None:
    """The file is read in blocks that end anywhere."""
    file = tmp_path_factory.mktemp("profile") / "a.txt"
    file.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chargen.corpus.decoding.BLOCK_SIZE", block_size)
        profile = profile_text([file])
    counts, lines = Counter(text), lines_of(text)
    assert profile.num_characters == len(text)
    assert profile.num_symbols == len(counts)
    assert {chr(i): int(profile.counts[i]) for i in profile.counts.nonzero()[0]} == counts
    names = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
    assert profile.line_ends == Counter(names[end] for _, end in lines if end)
    assert profile.longest_line == max((len(line) for line, _ in lines), default=0)
    assert profile.article_lengths == ([len(text)] if text else [])
    rare = {symbol: num for symbol, num in counts.items() if num < RARE}
    assert {r.symbol: r.count for r in profile.rare} == rare
    for r in profile.rare:
        before_it = text[: text.index(r.symbol)]
        assert (r.line, r.column) == (before_it.count("\n") + 1, len(before_it) - (before_it.rfind("\n") + 1) + 1)


def test_repeated_lines_and_articles_are_counted(tmp_path: Path) -> None:
    notice, line = "（求推薦票，求收藏！）", "x" * 50
    lines = [line, f"　{notice}", "", notice, line, *[notice] * MANY_TIMES, "end"]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "one"}\n', encoding="utf-8")
    profile = profile_text([tmp_path / "a.txt", tmp_path / "b.jsonl"])
    assert (profile.num_lines, profile.num_repeated_lines) == (MANY_TIMES + 5 + 3, MANY_TIMES + 2 + 1)
    assert profile.repeated_lines == {notice: MANY_TIMES + 2}
    cleaning = Cleaning(drop_repeated_lines=MANY_TIMES)
    counts = TextFiles((tmp_path / "a.txt",)).count_lines(cleaning)
    (kept,) = (list(article) for article in read_articles(tmp_path / "a.txt", cleaning, findings=Findings(counts)))
    left = "".join(chr(code) for piece in kept for code in piece).splitlines()
    assert left == [text for text in lines if text.strip() not in profile.repeated_lines]
    assert (len(profile.article_lengths), profile.num_repeated_articles) == (4, 1)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("\ue001", "private use"), ("\x01", "a control character"), ("中", "CJK UNIFIED IDEOGRAPH-4E2D")],
)
def test_symbols_without_a_name_are_described(symbol: str, name: str) -> None:
    assert RareSymbol(symbol, 1, Path("a"), 1, 1).name == name


def test_byte_order_mark_and_decomposed_accents_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "e\u0301 caf\u00e9".encode())
    profile = profile_text([tmp_path / "a.txt"])
    assert profile.num_bytes == (tmp_path / "a.txt").stat().st_size
    assert profile.num_byte_order_marks == 1
    assert not profile.is_nfc
    assert "COMBINING ACUTE ACCENT" in {rare.name for rare in profile.rare}


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "春眠不觉晓，处处闻啼鸟。" * 20),
        ("utf-16", "It is late.\n" * 20),
        ("latin-1", "caf\u00e9 noir\n" * 20),
    ],
)
def test_message_names_the_encoding_that_fits(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(TextError, match=r"corpus\.encoding=") as caught:
        profile_text([tmp_path / "a.txt"], Cleaning("utf-8"))
    named = str(caught.value).rsplit("corpus.encoding=", 1)[1]
    assert (tmp_path / "a.txt").read_text(encoding=named) == text
    assert profile_text([tmp_path / "a.txt"]).num_characters == len(text)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"cannot read .*missing\.txt: No such file or directory"):
        profile_text([tmp_path / "missing.txt"])
    with pytest.raises(ConfigError, match=r"corpus\.encoding=klingon: no such encoding"):
        profile_text([tmp_path / "missing.txt"], Cleaning("klingon"))


def test_every_byte_is_reported_three_times(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab\n" * 1000)
    reported: list[int] = []
    profile_text([tmp_path / "a.txt"], advance=reported.append)
    assert sum(reported) == 9000


def test_doctor_command(
    chargen: Callable[..., tuple[int, str, str]], away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.0)
    (away / "a.txt").write_text("It is late, and nobody reads.\r\n" * 100 + "é", encoding="utf-8", newline="")
    code, out, _ = chargen("doctor", "a.txt")
    assert code == 0
    for words in (
        "100 CRLF",
        "corpus.normalize_newlines=true",
        "LATIN SMALL LETTER E WITH ACUTE",
        "a.txt:101:1",
        "model=medium",
    ):
        assert words in out, out
    code, out, err = chargen("doctor", "nowhere.txt")
    assert (code, out) == (2, "")
    assert "nowhere.txt" in err
    (away / "void.txt").touch()
    assert chargen("doctor", "void.txt")[0] == 2
