"""Copied runs equal those that a naive search finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.evaluation.novelty import MIN_RUN_LENGTH, measure_novelty


def ids(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def naive(training: str, text: str) -> tuple[int, float]:
    """The length of the longest shared run, and the copied fraction of the text."""
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
    for begin in range(len(text) - MIN_RUN_LENGTH + 1):
        if text[begin : begin + MIN_RUN_LENGTH] in training:
            copied[begin : begin + MIN_RUN_LENGTH] = [True] * MIN_RUN_LENGTH
    return longest, sum(copied) / max(1, len(text))


@given(st.text("ab", max_size=90), st.text("abc", max_size=60), st.integers(0, 60), st.integers(1, 200))
def test_equals_a_naive_search(training: str, text: str, num_shared: int, chunk_size: int) -> None:
    """With the training text in one chunk or in many."""
    text = text + training[:num_shared] + text[:5]
    found = measure_novelty(ids(training), ids(text), chunk_size=chunk_size)
    longest, copied = naive(training, text)
    assert found.longest_run == longest
    assert text[found.position : found.position + longest] in training
    assert found.copied_fraction == pytest.approx(copied)


def test_copy_is_copied_completely_and_other_characters_not_at_all() -> None:
    text = "to be, or not to be, that is the question"
    assert measure_novelty(ids("x" + text), ids(text)) == (len(text), 0, 1.0)
    assert measure_novelty(ids(text), ids("жщ")) == (0, 0, 0.0)
    assert measure_novelty(ids(text), ids("")) == (0, 0, 0.0)


def test_copied_run_in_a_random_text_is_found() -> None:
    rng = np.random.default_rng(0)
    training, text = rng.integers(60, size=300_000), rng.integers(60, size=2_000)
    text[700:733] = training[123_456:123_489]
    found = measure_novelty(training, text)
    assert (found.longest_run, found.position) == (33, 700)
    assert found.copied_fraction == pytest.approx(33 / 2000)
