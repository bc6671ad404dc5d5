"""The three steps of clipping: compute the gradients, clip them, apply them.

    1.  g = dL/dw                            for all weights w together
    2.  g <- g min(1, limit / |g|)           by global norm (Pascanu, Mikolov & Bengio 2013)
    3.  w <- w - rate g

Clipping by norm shortens the gradient and keeps its direction. Clipping by value cuts each element to [-limit, limit],
which turns the gradient towards the diagonals.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from chargen.config import ModelConfig
from chargen.insight.drawing import COLORS, INK, log_scale, new_figure, style
from chargen.insight.lessons.unrolling import gradient_of, lines_of
from chargen.nn.model import CharRNN, States, detached

TICKS, LANES, HIDDEN, SYMBOLS = 100, 16, 128, 40

GAINS = (0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5)
"""Spectral radii of the recurrent weights at the start."""

LIMIT = 1.0


class ClippedGradient(NamedTuple):
    """A gradient of one window, and what clipping makes of it.

    Attributes:
        gain: the spectral radius of the recurrent weights.
        norm: of the gradient.
        clipped_norm: after clipping by norm.
        value_norm: after clipping by value, with the limit that gives the same norm.
        cosine: between the gradient and what clipping by norm makes of it.
        value_cosine: between the gradient and what clipping by value makes of it.
    """

    gain: float
    norm: float
    clipped_norm: float
    value_norm: float
    cosine: float
    value_cosine: float


def compare_clipping(gains: tuple[float, ...] = GAINS, limit: float = LIMIT) -> list[ClippedGradient]:
    """Clip the gradient of an untrained vanilla RNN over 100 ticks, for several spectral radii."""
    ids = lines_of(LANES, 2 * TICKS + 1)
    found = []
    for gain in gains:
        torch.manual_seed(1)
        model = CharRNN(ModelConfig(SYMBOLS, "rnn", HIDDEN, 1, 32, dropout=0.0, recurrent_gain=gain)).double()
        states: States = detached(model(ids[:, :TICKS])[1])
        gradient, _ = gradient_of(model, ids[:, TICKS:], states)
        gradient = gradient / TICKS  # of the mean loss
        by_norm = clip_by_norm(gradient, limit)
        by_value = gradient.clamp(*_bounds(gradient, float(by_norm.norm())))
        found.append(ClippedGradient(gain, *map(float, (
            gradient.norm(), by_norm.norm(), by_value.norm(), _cosine(gradient, by_norm), _cosine(gradient, by_value),
        ))))  # fmt: skip
    return found


def clip_by_norm(gradient: Tensor, limit: float) -> Tensor:
    """Return g min(1, limit / |g|)."""
    return gradient * min(1.0, limit / float(gradient.norm()))


def _bounds(gradient: Tensor, norm: float) -> tuple[float, float]:
    """Return the bounds of an element with which clipping by value gives a gradient of this norm, by bisection."""
    low, high = 0.0, float(gradient.abs().max())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if float(gradient.clamp(-middle, middle).norm()) < norm else (low, middle)
    return -high, high


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(one, other, dim=0)


def clipping_figure(clipped: list[ClippedGradient], limit: float = LIMIT) -> Figure:
    """Draw norms before and after clipping, and whether the direction stays."""
    figure, (left, right) = new_figure(9.2, 3.9, ncols=2)
    gains = [one.gain for one in clipped]
    left.plot(gains, [one.norm for one in clipped], "o-", color=COLORS[1], markersize=4, label="before clipping")
    left.plot(
        gains, [one.clipped_norm for one in clipped], "s--", color=COLORS[0], markersize=4, label="clipped by norm"
    )
    left.axhline(limit, color=INK, linestyle=":", linewidth=1, label=f"limit {limit:g}")
    log_scale(left)
    style(left, "gradient of 100 ticks", "spectral radius of the recurrent weights", "norm", legend="upper left")
    right.plot(gains, [one.cosine for one in clipped], "s--", color=COLORS[0], markersize=4, label="clipped by norm")
    right.plot(gains, [one.value_cosine for one in clipped], "o-", color=COLORS[3], markersize=4, label="by value")
    right.set_ylim(0, 1.05)
    style(right, "direction after clipping", "spectral radius of the recurrent weights", "cosine with the gradient",
          legend="lower left")  # fmt: skip
    return figure
