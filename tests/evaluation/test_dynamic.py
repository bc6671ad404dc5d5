"""Learning while reading equals a plain loop with torch's own modules, and pays where a text repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from chargen.config import ModelConfig
from chargen.evaluation.dynamic import Adaptation, mean_squares, score_dynamic
from chargen.evaluation.score import score_streaming
from chargen.nn.model import CharRNN

V = 7


def model_of(dtype: torch.dtype = torch.float64) -> CharRNN:
    torch.manual_seed(1)
    settings = ModelConfig(V, "gru", hidden_size=8, num_layers=1, embedding_size=5, dropout=0.4)
    return CharRNN(settings).to(dtype)


def text(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=size)


class Plain(nn.Module):
    """The same network from torch.nn, its parameters in the same order."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__()
        self.embedding, self.recurrence = nn.Embedding(V, 5).double(), nn.GRU(5, 8).double()
        self.head = nn.Linear(8, V).double()
        self.load_state_dict(model.state_dict())

    def nats(self, ids: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, state = self.recurrence(self.embedding(ids[:-1, None]), state)
        return nn.functional.cross_entropy(self.head(outputs[:, 0]), ids[1:], reduction="sum"), state.detach()


@pytest.mark.parametrize("by", ["sgd", "rms"])
def test_equals_a_plain_loop(by: str) -> None:
    model, ids, training = model_of(), text(150), text(201, seed=1)
    how = Adaptation(learning_rate=0.02, decay=0.5, epsilon=0.3, window=13)
    squares = None
    rates, pulls = [0.02] * 7, [0.5] * 7
    if by == "rms":
        squares = mean_squares(model, training, how.window)
        net, state, own = Plain(model), None, [torch.zeros_like(p) for p in model.parameters()]
        starts = range(0, 200, 13)
        for begin in starts:
            net.zero_grad()
            nats, state = net.nats(torch.from_numpy(training[begin : begin + 14]), state)
            nats.backward()
            for total, p in zip(own, net.parameters(), strict=True):
                total += p.grad**2 / len(starts)
        torch.testing.assert_close(squares, own, rtol=1e-9, atol=1e-12)
        mean = torch.cat([square.sqrt().flatten() for square in own]).mean()
        rates = [0.02 / (square.sqrt() + 0.3 * mean) for square in own]
        pulls = [0.5 * torch.clamp(square.sqrt() / mean, max=1 / 0.5) for square in own]
        assert any(bool((pull == 1).any()) for pull in pulls)  # where the bound is felt

    net, state, total = Plain(model), None, 0.0
    first = [p.detach().clone() for p in net.parameters()]
    for begin in range(0, len(ids) - 1, 13):
        net.zero_grad()
        nats, state = net.nats(torch.from_numpy(ids[begin : begin + 14]), state)
        total += nats.item()
        nats.backward()
        with torch.no_grad():
            for p, before, rate, pull in zip(net.parameters(), first, rates, pulls, strict=True):
                p += pull * (before - p) - rate * p.grad
    score = score_dynamic(model, ids, how, squares)
    assert score.nats_per_char == pytest.approx(total / 149, rel=1e-9)
    assert score.characters == 149


def test_without_learning_it_is_streaming() -> None:
    model, ids = model_of(), text(100)
    still = Adaptation(learning_rate=0.0, decay=0.3, window=9)
    assert score_dynamic(model, ids, still).nats_per_char == pytest.approx(score_streaming(model, ids).nats_per_char)


def test_it_learns_what_repeats_itself_and_leaves_the_model_alone() -> None:
    model, ids = model_of(torch.float32), np.tile(text(11), 300)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    static = score_streaming(model, ids).nats_per_char
    assert score_dynamic(model, ids, Adaptation(0.02, 0.0)).nats_per_char < 0.7 * static
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_nothing_to_score() -> None:
    with pytest.raises(ValueError, match="no text to score"):
        score_dynamic(model_of(), text(1), Adaptation(0.1, 0.1))
