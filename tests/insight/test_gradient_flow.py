"""Gradient norms over lags equal those of autograd, which differentiates the definition tick by tick."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.environment import CELLS
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.insight.gradient_flow import fit_decay, gradient_flow
from chargen.nn.model import CharRNN

V, H, N, LAGS = 7, 5, 12, 6


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradient_norms_equal_those_of_autograd(cell: str, residual: bool) -> None:
    torch.manual_seed(0)
    config = ModelConfig(V, cell, H, 2, 3, dropout=0.0, residual=residual, head_size=3)
    model = CharRNN(config).double()
    ids = torch.randint(0, V, (2, N + 1))
    flow = gradient_flow(model, ids, lags=LAGS, positions=N - LAGS)

    states, nodes, losses = list(model.recurrence.zero_state(2)), [], []
    for t in range(N):
        x, row = model.embedding(ids[:, t]), []
        for layer in range(2):
            weight_ih, weight_hh, bias_ih, bias_hh = model.recurrence.weights(layer)
            gates_h = F.linear(states[layer][0], weight_hh, bias_hh)
            states[layer], _ = model.recurrence.cell.step(F.linear(x, weight_ih, bias_ih), gates_h, states[layer])
            row.append(states[layer])
            x = states[layer][0] + x if layer and residual else states[layer][0]
        nodes.append(row)
        assert model.projection is not None
        losses.append(F.cross_entropy(model.head(model.projection(x)), ids[:, t + 1], reduction="sum"))
    for place, s in enumerate(range(LAGS, N)):
        for lag in range(LAGS + 1):
            for layer, state in enumerate(nodes[s - lag]):
                for name, node in zip(flow.parts, state, strict=True):
                    (grad,) = torch.autograd.grad(losses[s], node, retain_graph=True)
                    norms = flow.parts[name][layer, lag, 2 * place : 2 * place + 2]
                    np.testing.assert_allclose(norms, grad.norm(dim=1), rtol=1e-9)


def test_positions_need_enough_characters() -> None:
    model = CharRNN(ModelConfig(V, "rnn", H, 1, 3))
    with pytest.raises(ValueError, match="need more than 5 characters"):
        gradient_flow(model, torch.zeros(1, 6, dtype=torch.int64), lags=4, positions=2)


def test_an_exponential_is_fitted_exactly() -> None:
    decay = fit_decay(3.0 * np.exp(-0.25 * np.arange(20)))
    assert (decay.rate, decay.horizon) == pytest.approx((-0.25, 4.0))
