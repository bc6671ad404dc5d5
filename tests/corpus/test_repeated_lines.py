"""Lines that occur often are left out, wherever a text is cut into pieces."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chargen.corpus.repeated_lines import LineCounts, lines_with_ends

texts = st.text(st.sampled_from("ab \n\r　\u2028"), max_size=40)


@given(texts, st.lists(st.integers(0, 40)))
def test_lines_of_pieces_are_lines_of_the_whole(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[begin:end] for begin, end in pairwise(places)]
    lines = list(lines_with_ends(pieces))
    assert "".join(lines) == text
    # str.splitlines also splits at U+2028; a CRLF is one end
    assert lines == text.replace("\u2028", "x").splitlines(keepends=True) or "\u2028" in text
    assert all(line.rstrip("\r\n").count("\n") == 0 for line in lines)


@given(texts, st.integers(1, 4))
def test_exactly_the_lines_that_occur_more_often_are_left_out(text: str, most: int) -> None:
    counts = LineCounts()
    counts.add_all([text])
    lines = list(lines_with_ends([text]))
    numbers = Counter(line.strip() for line in lines)
    want = [line for line in lines if not line.strip() or numbers[line.strip()] <= most]
    assert list(counts.without_repeated([text], most)) == want
