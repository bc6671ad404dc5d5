"""Letter frequencies and compressors equal closed forms, and the table holds all baselines."""

from __future__ import annotations

import bz2
import lzma
import math

import numpy as np
import pytest

from chargen.evaluation.baselines import score_baselines, score_compressor, score_letter_frequencies


def test_letter_frequencies_add_one_to_each_count() -> None:
    training, scored = np.array([0, 0, 0, 1]), np.array([3, 0, 2])
    expected = -(math.log(4 / 8) + math.log(1 / 8)) / 2
    assert score_letter_frequencies(training, scored, vocab_size=4) == pytest.approx(expected, rel=1e-12)


def test_compressors_cost_the_bytes_that_the_text_adds() -> None:
    expected = 2 * 8 * math.log(2)
    assert score_compressor(b"x" * 100, b"y" * 50, 25, lambda text: text) == pytest.approx(expected)


def test_table_on_a_text_that_repeats_itself() -> None:
    """N-grams and xz, which remember, score far below letter frequencies. Rows say whether they adapt."""
    text = b"the quick brown fox jumps over the lazy dog. " * 400
    ids = np.frombuffer(text, np.uint8)
    reported: list[str] = []
    rows = score_baselines(ids[:15000], ids[14999:], 128, np.ndarray.tobytes, reported.append)
    assert [row.adaptive for row in rows] == [False, False, True, True]
    assert reported == [row.name for row in rows]
    frequencies, n_grams, *compressors = [row.nats_per_char for row in rows]
    assert n_grams < 0.1 < 2 < frequencies
    added = [len(f(text[:18000])) - len(f(text[:15000])) for f in (lambda t: bz2.compress(t, 9), lzma.compress)]
    assert compressors[0] == pytest.approx(added[0] * 8 * math.log(2) / 3000)
    assert 0 <= compressors[1] < 0.1
