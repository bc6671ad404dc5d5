"""Copied runs are those that a search through the text finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chargen.evaluation.novelty
from chargen.evaluation.novelty import LONG, novelty


def ids(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def naive(training: str, text: str) -> tuple[int, float]:
    longest = max(
        (
            end - begin
            for begin in range(len(text))
            for end in range(begin, len(text) + 1)
            if text[begin:end] in training
        ),
        default=0,
    )
    copied = [False] * len(text)
    for begin in range(len(text) - LONG + 1):
        if text[begin : begin + LONG] in training:
            copied[begin : begin + LONG] = [True] * LONG
    return longest, sum(copied) / max(1, len(text))


@given(st.text("ab", max_size=90), st.text("abc", max_size=60), st.integers(0, 60), st.integers(1, 200))
def test_equals_a_search(training: str, text: str, shared: int, piece: int) -> None:
    """Also where the training text is looked at in many pieces."""
    text = text + training[:shared] + text[:5]
    before, chargen.novelty._PIECE = chargen.novelty._PIECE, piece
    try:
        found = novelty(ids(training), ids(text))
    finally:
        chargen.novelty._PIECE = before
    longest, copied = naive(training, text)
    assert found.longest == longest
    assert text[found.place : found.place + longest] in training
    assert found.copied == pytest.approx(copied)


def test_a_copy_is_all_copied_and_a_stranger_is_not() -> None:
    text = "to be, or not to be, that is the question"
    assert novelty(ids("x" + text), ids(text)) == (len(text), 0, 1.0)
    assert novelty(ids(text), ids("жщ")) == (0, 0, 0.0)
    assert novelty(ids(text), ids("")) == (0, 0, 0.0)


def test_a_run_that_is_planted_is_found() -> None:
    rng = np.random.default_rng(0)
    training, text = rng.integers(60, size=300_000), rng.integers(60, size=2_000)
    text[700:733] = training[123_456:123_489]
    found = novelty(training, text)
    assert (found.longest, found.place) == (33, 700)
    assert found.copied == pytest.approx(33 / 2000)
