"""Gradient flow: how the gradient of a loss shrinks or grows on its way back through time.

L_s is the loss of the prediction after character s. For a model that is unrolled without truncation, this module
computes

    |dL_s/dh_{s-k}|  and  |dL_s/dc_{s-k}|        for k = 0, 1, ..., K

in every layer. Between two ticks the gradient is multiplied by the same recurrent matrix, so that the norm falls or
rises about exponentially with the lag k (Hochreiter 1991; Bengio, Simard & Frasconi 1994; Pascanu, Mikolov & Bengio
2013).

The losses of many positions go back through time side by side, each with the slopes of its own ticks: one product with
the recurrent matrix per layer and lag.

Dimensions: B lanes, N ticks, P positions, K lags, L layers, H hidden.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from chargen.nn.cells import Cell, Slopes, State
from chargen.nn.model import CharRNN
from chargen.nn.trajectory import read_layers
from chargen.nn.unroll import slopes_of


class GradientFlow(NamedTuple):
    """Gradient norms by lag.

    Attributes:
        h: (L, K+1, P*B), norms of dL_s/dh_{s-k}.
        c: (L, K+1, P*B), norms of dL_s/dc_{s-k}; None for a cell without c.
    """

    h: np.ndarray
    c: np.ndarray | None

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """The norms by the name of the state: `h`, and `c` if the cell has one."""
        return {"h": self.h} if self.c is None else {"h": self.h, "c": self.c}


class Decay(NamedTuple):
    """An exponential that is fitted to gradient norms.

    Attributes:
        rate: the slope of ln(norm) per character; negative where gradients vanish.
        horizon: characters over which the norm changes by the factor e; infinity for a rate of zero.
    """

    rate: float
    horizon: float


@torch.no_grad()
def gradient_flow(model: CharRNN, ids: Tensor, *, lags: int, positions: int) -> GradientFlow:
    """Compute the gradient norms of `positions` losses in every lane.

    Args:
        model: computed in its own precision, without dropout. float64 keeps norms apart that float32 rounds to zero.
        ids: (B, N+1), integer; the last character is a target only. The state before the first one is zero.
        lags: K.
        positions: P, spread evenly over the characters that have K others before them.

    Raises:
        ValueError: the lanes are too short.
    """
    N = ids.shape[1] - 1
    if positions < 1 or lags + positions > N:
        raise ValueError(f"{positions} positions with {lags} lags need more than {N} characters")
    read, top = read_layers(model, ids[:, :-1])
    cell = model.recurrence.cell
    layers = [slopes_of(cell, layer.trajectory, layer.saved) for layer in read]
    places = torch.linspace(lags, N - 1, positions).round().long()  # the ticks s of the losses
    targets = ids[:, 1:].t()[places].flatten()  # (P*B,)
    above = _grad_of_top(model, top[places].flatten(0, 1), targets)  # (P*B, H), dL_s with respect to the top output
    grads: list[State] = [tuple(torch.zeros_like(above) for _ in range(cell.num_states)) for _ in layers]
    norms = torch.empty(cell.num_states, len(layers), lags + 1, len(above), dtype=above.dtype)
    for lag in range(lags + 1):
        for layer in reversed(range(len(layers))):
            weight_ih, weight_hh, _, _ = model.recurrence.weights(layer)
            slopes = tuple(part[places - lag].flatten(0, 1) for part in layers[layer])
            grad = (grads[layer][0] + above, *grads[layer][1:])
            for part, total in enumerate(_total(cell, grad, slopes)):
                norms[part, layer, lag] = torch.linalg.vector_norm(total, dim=-1)
            grad_x, grad_h, direct, others = cell.step_backward(grad, slopes)
            previous = grad_h @ weight_hh
            grads[layer] = (previous if direct is None else previous + direct, *others)
            above = (
                grad_x @ weight_ih + (above if model.recurrence.residual else 0) if layer else torch.zeros_like(above)
            )
    h, *c = norms.double().numpy()
    return GradientFlow(h, c[0] if c else None)


def _grad_of_top(model: CharRNN, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of -ln p(target) with respect to outputs (R, H) of the top layer, row by row."""
    features = outputs if model.projection is None else model.projection(outputs)
    grad = torch.softmax(model.head(features), dim=-1)  # dL/d logits = p - (one at the target)
    grad[torch.arange(len(targets)), targets] -= 1
    grad = grad @ model.head.weight
    return grad if model.projection is None else grad @ model.projection.weight


def _total(cell: Cell, grad: State, slopes: Slopes) -> State:
    """Return dL/dh and dL/dc, where c also reaches the loss through the h of its own tick."""
    dh, *dc = grad
    if not dc:
        return grad
    _, _, dh_dc, _ = slopes  # of `lstm_slopes`, the only cell with c
    return dh, dc[0] + dh * dh_dc


def relative(norms: np.ndarray) -> np.ndarray:
    """Divide norms (..., K+1, R) by those at lag 0."""
    first = norms[..., :1, :]
    return np.asarray(np.divide(norms, first, out=np.zeros_like(norms), where=first > 0))


def fit_decay(medians: np.ndarray) -> Decay:
    """Fit an exponential to norms (K+1,) at lags 0 to K by least squares of their logarithms; zeros are left out.

    Raises:
        ValueError: fewer than two norms are positive.
    """
    lags = np.flatnonzero(medians > 0)
    if len(lags) < 2:
        raise ValueError("a line needs two positive norms")
    rate = float(np.polyfit(lags, np.log(medians[lags]), 1)[0])
    return Decay(rate, 1 / abs(rate) if rate else math.inf)
