"""How long each cell can learn to remember a symbol: a copy task at growing distance.

The network reads one of S symbols, then D - 1 random distractors, and then has to name the symbol. What it has to
learn is carried by a gradient that flows back over D ticks. Where that gradient has vanished, nothing is learned
(Hochreiter & Schmidhuber 1997 use such tasks; Le, Jaitly & Hinton 2015).

Dimensions: B lanes, D distance, S symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from chargen.config import ModelConfig
from chargen.insight.charts import log_2
from chargen.insight.drawing import COLORS, INK, new_figure, style
from chargen.nn.loss import IGNORE_INDEX
from chargen.nn.model import CharRNN
from chargen.nn.threads import compute_threads

CELLS = ("rnn", "gru", "lstm")

DISTANCES = (5, 10, 20, 40, 80, 160)

SYMBOLS, DISTRACTORS = 8, 8

LANES, HIDDEN = 64, 64

UPDATES = 500

LEARNING_RATE, CLIP = 3e-3, 1.0

SOLVED = 0.95
"""The fraction of correct answers from which on the task counts as solved."""


class CopyResult(NamedTuple):
    """How well a cell has learned to copy over a distance: the fraction of correct answers, 0 to 1."""

    cell: str
    distance: int
    accuracy: float

    @property
    def is_solved(self) -> bool:
        """Whether almost all answers are correct."""
        return self.accuracy >= SOLVED


@compute_threads()
def copy_task(cell: str, distance: int, *, updates: int = UPDATES, seed: int = 1) -> CopyResult:
    """Train a network on one distance, and measure it on new examples.

    The recurrent weights begin as independent numbers with spectral radius 1, the usual start of the time in which the
    cells were compared; an orthogonal start, as chargen uses by default, lets the rnn remember longer.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vocabulary = SYMBOLS + DISTRACTORS + 1
    model = CharRNN(ModelConfig(vocabulary, cell, HIDDEN, 1, 32, dropout=0.0, recurrent_init="normal"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    for _ in range(updates):
        ids, targets = examples(LANES, distance, generator)
        optimizer.zero_grad()
        loss, _ = model.cross_entropy(ids, targets)
        torch.autograd.backward(loss / LANES)
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    ids, targets = examples(8 * LANES, distance, generator)
    with torch.no_grad():
        logits, _ = model(ids)
    correct = logits[:, -1].argmax(-1) == targets[:, -1]
    return CopyResult(cell, distance, float(correct.float().mean()))


def examples(lanes: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ids (B, D+1): a symbol, D - 1 distractors and a question; and targets: the symbol behind the question."""
    ids = torch.randint(SYMBOLS, SYMBOLS + DISTRACTORS, (lanes, distance + 1), generator=generator)
    ids[:, 0] = torch.randint(0, SYMBOLS, (lanes,), generator=generator)
    ids[:, -1] = SYMBOLS + DISTRACTORS
    targets = torch.full_like(ids, IGNORE_INDEX)
    targets[:, -1] = ids[:, 0]
    return ids, targets


def compare_copying(
    distances: tuple[int, ...] = DISTANCES,
    *,
    updates: int = UPDATES,
    advance: Callable[[int], None] = lambda _: None,
) -> list[CopyResult]:
    """Train every cell on every distance.

    Args:
        distances: D.
        updates: of each network.
        advance: receives the number of ticks that were computed since the last call.
    """
    results = []
    for cell in CELLS:
        for distance in distances:
            results.append(copy_task(cell, distance, updates=updates))
            advance(distance * updates)
    return results


def copying_figure(results: list[CopyResult]) -> Figure:
    """Draw the fraction of correct answers over the distance, for each cell."""
    figure, axis = new_figure(height=3.9)
    distances = sorted({one.distance for one in results})
    for number, (cell, marker) in enumerate(zip(CELLS, "o^s", strict=True)):
        values = [
            one.accuracy for distance in distances for one in results if (one.cell, one.distance) == (cell, distance)
        ]
        axis.plot(distances, values, marker=marker, color=COLORS[number], markersize=5, label=cell)
    axis.axhline(1 / SYMBOLS, color=INK, linestyle=":", linewidth=1, label="guessing")
    log_2(axis, distances)
    axis.set_ylim(0, 1.05)
    style(axis, "", "distance over which a symbol has to be remembered, ticks", "correct answers", legend="center left")
    return figure
