"""Scores are what a naive loop over characters adds up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import CELLS as NAMES

from chargen.config import ModelConfig
from chargen.evaluation.score import WINDOW, Score, score_streaming, score_windowed
from chargen.nn.model import CharRNN

V = 11


def model_of(cell: str = "gru") -> CharRNN:
    torch.manual_seed(3)
    return CharRNN(ModelConfig(V, cell, hidden_size=6, num_layers=2, embedding_size=4, dropout=0.5)).double()


def naive(model: CharRNN, ids: np.ndarray, window: int | None) -> float:
    """One character at a time, one lane, a zero state every `window` characters."""
    model.eval()
    total, states = 0.0, None
    with torch.no_grad():
        for place in range(len(ids) - 1):
            if window and place % window == 0:
                states = None
            logits, states = model(torch.tensor([[int(ids[place])]]), states)
            total -= torch.log_softmax(logits[0, 0], 0)[int(ids[place + 1])].item()
    return total / (len(ids) - 1)


@pytest.mark.parametrize("length", [2, 3, WINDOW, WINDOW + 1, 3 * WINDOW + 77])
@pytest.mark.parametrize("cell", NAMES)
def test_equals_a_naive_loop(cell: str, length: int) -> None:
    model = model_of(cell)
    ids = np.random.default_rng(length).integers(V, size=length).astype(np.uint8)
    for score, window in ((score_streaming(model, ids), None), (score_windowed(model, ids), WINDOW)):
        assert score.nats_per_char == pytest.approx(naive(model, ids, window), rel=1e-12)
        assert score.characters == length - 1


def test_a_long_text_is_carried_across_pieces() -> None:
    """Longer than what is scored at once: 16 windows."""
    model = model_of()
    ids = np.random.default_rng(0).integers(V, size=16 * WINDOW + 300)
    assert score_streaming(model, ids).nats_per_char == pytest.approx(naive(model, ids, None), rel=1e-12)


def test_a_uniform_model_scores_log2_v() -> None:
    model = model_of()
    torch.nn.init.zeros_(model.head.weight)
    ids = np.random.default_rng(0).integers(V, size=1000)
    for score in (score_streaming(model, ids), score_windowed(model, ids)):
        assert score.bits_per_char == pytest.approx(math.log2(V), rel=1e-12)
        assert score.nats_per_char == pytest.approx(math.log(V), rel=1e-12)


def test_scoring_reports_each_character_and_leaves_the_mode() -> None:
    model = model_of().train()
    ids = np.zeros(700, dtype=np.uint8)
    for score in (score_streaming, score_windowed):
        told: list[int] = []
        assert score(model, ids, told.append) == score(model, ids)  # dropout is off: the same twice
        assert sum(told) == 699
    assert model.training


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="no text"):
        score_streaming(model_of(), np.zeros(1, dtype=np.uint8))


def test_units() -> None:
    assert Score(math.log(2), 10).bits_per_char == 1.0
