"""Dynamic evaluation equals a plain loop over modules of torch.nn, and improves on a text that repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.model_configs import small_config
from torch import nn

from chargen.errors import TextError
from chargen.evaluation.dynamic import Adaptation, gradient_mean_squares, score_dynamic
from chargen.evaluation.score import score_streaming
from chargen.nn.model import CharRNN

V = 7


def build_model(dtype: torch.dtype = torch.float64) -> CharRNN:
    torch.manual_seed(1)
    return CharRNN(small_config("gru", vocab_size=V, num_layers=1, dropout=0.4)).to(dtype)


def random_text(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(V, size=size)


class TorchModel(nn.Module):
    """The same network from modules of torch.nn, its parameters in the same order."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__()
        self.embedding, self.recurrence = nn.Embedding(V, 5).double(), nn.GRU(5, 8).double()
        self.head = nn.Linear(8, V).double()
        self.load_state_dict(model.state_dict())

    def cross_entropy(self, ids: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, state = self.recurrence(self.embedding(ids[:-1, None]), state)
        return nn.functional.cross_entropy(self.head(outputs[:, 0]), ids[1:], reduction="sum"), state.detach()


@pytest.mark.parametrize("rule", ["sgd", "rms"])
def test_score_equals_a_plain_loop(rule: str) -> None:
    model, ids, training = build_model(), random_text(150), random_text(201, seed=1)
    adaptation = Adaptation(learning_rate=0.02, decay=0.5, epsilon=0.3, window_size=13)
    mean_squares = None
    rates, pulls = [0.02] * 7, [0.5] * 7
    if rule == "rms":
        mean_squares = gradient_mean_squares(model, training, adaptation.window_size)
        net, state, expected = TorchModel(model), None, [torch.zeros_like(p) for p in model.parameters()]
        starts = range(0, 200, 13)
        for begin in starts:
            net.zero_grad()
            nats, state = net.cross_entropy(torch.from_numpy(training[begin : begin + 14]), state)
            nats.backward()
            for total, p in zip(expected, net.parameters(), strict=True):
                total += p.grad**2 / len(starts)
        torch.testing.assert_close(mean_squares, expected, rtol=1e-9, atol=1e-12)
        mean = torch.cat([square.sqrt().flatten() for square in expected]).mean()
        rates = [0.02 / (square.sqrt() + 0.3 * mean) for square in expected]
        pulls = [0.5 * torch.clamp(square.sqrt() / mean, max=1 / 0.5) for square in expected]
        assert any(bool((pull == 1).any()) for pull in pulls)  # the bound takes effect

    net, state, total = TorchModel(model), None, 0.0
    trained = [p.detach().clone() for p in net.parameters()]
    for begin in range(0, len(ids) - 1, 13):
        net.zero_grad()
        nats, state = net.cross_entropy(torch.from_numpy(ids[begin : begin + 14]), state)
        total += nats.item()
        nats.backward()
        with torch.no_grad():
            for p, before, rate, pull in zip(net.parameters(), trained, rates, pulls, strict=True):
                p += pull * (before - p) - rate * p.grad
    score = score_dynamic(model, ids, adaptation, mean_squares)
    assert score.nats_per_char == pytest.approx(total / 149, rel=1e-9)
    assert score.characters == 149


def test_learning_rate_of_zero_is_protocol_b() -> None:
    model, ids = build_model(), random_text(100)
    adaptation = Adaptation(learning_rate=0.0, decay=0.3, window_size=9)
    score = score_dynamic(model, ids, adaptation)
    assert score.nats_per_char == pytest.approx(score_streaming(model, ids).nats_per_char)


def test_learning_improves_on_a_text_that_repeats_itself_and_does_not_modify_the_model() -> None:
    model, ids = build_model(torch.float32), np.tile(random_text(11), 300)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    static = score_streaming(model, ids).nats_per_char
    assert score_dynamic(model, ids, Adaptation(0.02, 0.0)).nats_per_char < 0.7 * static
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_text_without_a_character_to_score_is_refused() -> None:
    with pytest.raises(TextError, match="no text to score"):
        score_dynamic(build_model(), random_text(1), Adaptation(0.1, 0.1))
