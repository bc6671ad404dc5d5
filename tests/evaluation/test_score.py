"""Scores by protocols A and B equal a naive loop over characters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.model_configs import small_config

from chargen.cell_types import CELL_TYPES
from chargen.errors import TextError
from chargen.evaluation.score import WINDOW_SIZE, Score, score_streaming, score_windowed
from chargen.nn.model import CharRNN

V = 11


def build_model(cell: str = "gru") -> CharRNN:
    torch.manual_seed(3)
    return CharRNN(small_config(cell, vocab_size=V, hidden_size=6, embedding_size=4, dropout=0.5)).double()


def naive(model: CharRNN, ids: np.ndarray, window_size: int | None) -> float:
    """One character at a time in one lane, with a zero state every `window_size` characters."""
    model.eval()
    total, states = 0.0, None
    with torch.no_grad():
        for position in range(len(ids) - 1):
            if window_size and position % window_size == 0:
                states = None
            logits, states = model(torch.tensor([[int(ids[position])]]), states)
            total -= torch.log_softmax(logits[0, 0], 0)[int(ids[position + 1])].item()
    return total / (len(ids) - 1)


@pytest.mark.parametrize("length", [2, 3, WINDOW_SIZE, WINDOW_SIZE + 1, 3 * WINDOW_SIZE + 77])
@pytest.mark.parametrize("cell", CELL_TYPES)
def test_scores_equal_a_naive_loop(cell: str, length: int) -> None:
    model = build_model(cell)
    ids = np.random.default_rng(length).integers(V, size=length).astype(np.uint8)
    for score, window_size in ((score_streaming(model, ids), None), (score_windowed(model, ids), WINDOW_SIZE)):
        assert score.nats_per_char == pytest.approx(naive(model, ids, window_size), rel=1e-12)
        assert score.characters == length - 1


def test_state_is_carried_through_a_long_text() -> None:
    """The text is longer than what protocol B scores in one call, which is 16 windows."""
    model = build_model()
    ids = np.random.default_rng(0).integers(V, size=16 * WINDOW_SIZE + 300)
    assert score_streaming(model, ids).nats_per_char == pytest.approx(naive(model, ids, None), rel=1e-12)


def test_uniform_model_scores_log2_v_bits_per_character() -> None:
    model = build_model()
    torch.nn.init.zeros_(model.head.weight)
    ids = np.random.default_rng(0).integers(V, size=1000)
    for score in (score_streaming(model, ids), score_windowed(model, ids)):
        assert score.bits_per_char == pytest.approx(math.log2(V), rel=1e-12)
        assert score.nats_per_char == pytest.approx(math.log(V), rel=1e-12)


def test_scoring_reports_every_character_and_keeps_the_training_mode() -> None:
    model = build_model().train()
    ids = np.zeros(700, dtype=np.uint8)
    for score in (score_streaming, score_windowed):
        reported: list[int] = []
        assert score(model, ids, reported.append) == score(model, ids)  # equal twice: dropout is off
        assert sum(reported) == 699
    assert model.training


@pytest.mark.parametrize("score", [score_streaming, score_windowed])
def test_text_without_a_character_to_score_is_refused(score) -> None:
    with pytest.raises(TextError, match="no text"):
        score(build_model(), np.zeros(1, dtype=np.uint8))


def test_bits_are_nats_over_ln_2() -> None:
    assert Score(math.log(2), 10).bits_per_char == 1.0
