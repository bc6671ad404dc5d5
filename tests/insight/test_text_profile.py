"""What is said of a text is what a look at the whole of it shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chargen.corpus.encoded
from chargen.insight.text_profile import LONG_LINE, RARE, profile_text, size_of

STRANGE = "ab\n\ré中 "


def lines_of(text: str) -> list[tuple[str, str]]:
    """Each line with its end, by a regular expression."""
    return [(line, end) for line, end in re.findall(r"([^\r\n]*)(\r\n|\r|\n|$)", text) if line or end]


@given(st.text(STRANGE, max_size=120), st.integers(1, 30))
def test_equals_a_look_at_the_whole(tmp_path_factory: pytest.TempPathFactory, text: str, block: int) -> None:
    """Also where the file comes in pieces that end anywhere."""
    file = tmp_path_factory.mktemp("doctor") / "a.txt"
    file.write_bytes(text.encode())
    before, chargen.corpus.CHUNK_BYTES = chargen.corpus.CHUNK_BYTES, block
    try:
        found = profile_text([file])
    finally:
        chargen.corpus.CHUNK_BYTES = before
    counts, lines = Counter(text), lines_of(text)
    assert found.characters == len(text)
    assert found.symbols == len(counts)
    assert {chr(i): int(found.counts[i]) for i in found.counts.nonzero()[0]} == counts
    names = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
    assert found.line_ends == Counter(names[end] for _, end in lines if end)
    assert found.longest_line == max((len(line) for line, _ in lines), default=0)
    assert found.article_lengths == ([len(text)] if text else [])
    rare = {symbol: num for symbol, num in counts.items() if num < RARE}
    assert {r.symbol: r.times for r in found.rare} == rare
    for r in found.rare:
        before_it = text[: text.index(r.symbol)]
        assert (r.line, r.column) == (before_it.count("\n") + 1, len(before_it) - (before_it.rfind("\n") + 1) + 1)


def test_repetitions(tmp_path: Path) -> None:
    long, short = "x" * LONG_LINE, "y" * (LONG_LINE - 1)
    (tmp_path / "a.txt").write_text(f"{long}\n{short}\n{short}\n{long}\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": "one"}\n', encoding="utf-8")
    found = profile_text([tmp_path / "a.txt", tmp_path / "b.jsonl"])
    assert (found.long_lines, found.repeated_lines) == (2, 1)
    assert (len(found.article_lengths), found.repeated_articles) == (4, 1)


def test_what_is_odd(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + "e\u0301 caf\u00e9".encode())
    found = profile_text([tmp_path / "a.txt"])
    assert found.byte_order_marks == 1
    assert found.not_normalized
    assert "COMBINING ACUTE ACCENT" in {rare.name for rare in found.rare}


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "春眠不觉晓，处处闻啼鸟。" * 20),
        ("utf-16", "It is late.\n" * 20),
        ("latin-1", "caf\u00e9 noir\n" * 20),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    with pytest.raises(ValueError, match=r"corpus\.encoding=") as caught:
        profile_text([tmp_path / "a.txt"])
    named = str(caught.value).rsplit("corpus.encoding=", 1)[1]
    assert (tmp_path / "a.txt").read_text(encoding=named) == text


def test_sizes_are_counted() -> None:
    """A gru: V E + 3 H (E + H + 2) + V H + V parameters."""
    size = size_of({"cell": "gru", "hidden_size": 8, "num_layers": 1, "embedding_size": 4}, 11, 2, 6)
    assert size.parameters == 11 * 4 + 3 * 8 * (4 + 8 + 2) + 11 * 8 + 11
    assert size.chars_per_second > 0


def test_the_command(chargen: Callable[..., tuple[int, str, str]], away: Path) -> None:
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
