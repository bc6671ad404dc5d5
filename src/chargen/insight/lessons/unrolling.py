"""Four updates of one tick, against one update of four ticks.

Both read the same T characters from the same state with plain SGD. They differ in two ways:

- The gradient of one tick stops at the state before it. In T unrolled ticks, it also flows back through the state, so
  that the network learns what to remember. Compare the sum of T gradients of one tick, with the weights held still,
  with the gradient of T ticks.
- T updates of one tick move the weights between ticks. Compare them with the sum of the T gradients at weights that
  are held still.

T ticks in one update are faster, because one matrix product serves all of them.

Dimensions: B lanes, T ticks.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from chargen.config import ModelConfig
from chargen.insight.charts import log_2
from chargen.insight.drawing import COLORS, new_figure, style
from chargen.nn.model import CharRNN, States, detached
from chargen.nn.threads import compute_threads

LENGTHS = (1, 2, 4, 8, 16, 32, 64)
"""The T that are compared."""

LANES, HIDDEN, SYMBOLS = 16, 128, 40

LEARNING_RATE = 0.5

WARM_UP = 64
"""Characters that are read before the comparison, so that it begins with a state."""


class UnrollingPoint(NamedTuple):
    """The comparison for one T.

    Attributes:
        length: T.
        without_past: how far the sum of T gradients of one tick is from the gradient of T ticks, relative to it.
        moving: how far T updates of one tick are from one update with that sum, relative to it.
        chars_per_second: the speed of training with windows of T.
    """

    length: int
    without_past: float
    moving: float
    chars_per_second: float


@compute_threads()
def compare_unrolling(
    lengths: tuple[int, ...] = LENGTHS, *, cell: str = "rnn", seconds: float = 0.5
) -> list[UnrollingPoint]:
    """Compare T updates of one tick with one update of T ticks, on a text with structure.

    Args:
        lengths: the T to compare.
        cell: the recurrent cell.
        seconds: how long to measure the speed of each.
    """
    torch.manual_seed(1)
    model = CharRNN(ModelConfig(SYMBOLS, cell, HIDDEN, 1, 32, dropout=0.0))
    ids = lines_of(LANES, WARM_UP + max(lengths) + 1)
    _, states = model(ids[:, :WARM_UP])
    before = detached(states)
    found = []
    for T in lengths:
        window = ids[:, WARM_UP : WARM_UP + T + 1]
        unrolled, _ = gradient_of(model, window, before)
        summed, moved = one_by_one(model, window, before, moving=False), one_by_one(model, window, before, moving=True)
        found.append(UnrollingPoint(
            T, _distance(summed, unrolled), _distance(moved, summed), _speed(model, window, before, seconds)
        ))  # fmt: skip
    return found


def lines_of(lanes: int, length: int) -> Tensor:
    """Return ids (B, length) that repeat with periods of 5 to 20 characters: something to remember."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for lane in range(lanes):
        period = torch.randint(2, SYMBOLS, (5 + lane % 16,), generator=generator)
        rows.append(period.repeat(-(-length // len(period)))[:length])
    return torch.stack(rows)


def gradient_of(model: CharRNN, window: Tensor, states: States) -> tuple[Tensor, States]:
    """Return the gradient of the summed loss of a window (B, T+1) as one vector, and the states after it."""
    loss, states = model.cross_entropy(window[:, :-1], window[:, 1:], states)
    gradients = torch.autograd.grad(loss / window[:, 1:].numel() * (window.shape[1] - 1), list(model.parameters()))
    return torch.cat([one.flatten() for one in gradients]), detached(states)


def one_by_one(model: CharRNN, window: Tensor, states: States, *, moving: bool) -> Tensor:
    """Return the sum of the gradients of single ticks; `moving` updates the weights between them for a while."""
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    total = torch.zeros(sum(weight.numel() for weight in weights))
    for tick in range(window.shape[1] - 1):
        gradient, states = gradient_of(model, window[:, tick : tick + 2], states)
        total += gradient
        if moving:
            with torch.no_grad():
                parts = torch.split(gradient, [weight.numel() for weight in weights])
                for parameter, part in zip(model.parameters(), parts, strict=True):
                    parameter.sub_(part.view_as(parameter), alpha=LEARNING_RATE)
    with torch.no_grad():
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return total


def _distance(one: Tensor, other: Tensor) -> float:
    return float(torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(other))


def _speed(model: CharRNN, window: Tensor, states: States, seconds: float) -> float:
    """Return how many characters an update of this length reads in a second."""
    gradient_of(model, window, states)  # the first call is slower
    number, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < seconds:
        gradient_of(model, window, states)
        number += window[:, 1:].numel()
    return number / elapsed


def unrolling_figure(points: list[UnrollingPoint]) -> Figure:
    """Draw differences of gradients, and speed, over T."""
    figure, (left, right) = new_figure(9.2, 3.9, ncols=2)
    lengths = [point.length for point in points]
    left.plot(lengths, [point.without_past for point in points], "o-", color=COLORS[1], markersize=4,
              label="no gradient through the state")  # fmt: skip
    left.plot(lengths, [point.moving for point in points], "s--", color=COLORS[0], markersize=4,
              label="weights move between ticks")  # fmt: skip
    left.set_ylim(bottom=0)
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    style(left, "T updates of one tick, against one of T ticks", "T, ticks", "relative difference", legend="upper left")
    base = points[0].chars_per_second
    right.plot(lengths, [point.chars_per_second / base for point in points], "o-", color=COLORS[2], markersize=4)
    right.set_ylim(bottom=0)
    style(right, "speed of training", "T, ticks in an update", "characters per second, relative to T = 1")
    for axis in (left, right):
        log_2(axis, lengths)
    return figure
