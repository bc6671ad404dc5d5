"""Notice a run that diverges, and distinguish it from a text that changes.

An update is skipped if its loss or its gradient is not finite, or if the model has lost what it had learned. A loss far
above the losses before it does not prove that: the text may have turned from a play into a program, which the model
should learn. The model therefore reads a window again that it has read well before. If it reads that window badly too,
the weights are broken, and no further update will repair them: after `MAX_SKIPPED_IN_A_ROW` skipped updates in a row,
the run returns to its last checkpoint (a rollback).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_SKIPPED_IN_A_ROW = 10
"""Skipped updates in a row before a run returns to its last checkpoint."""

MAX_ROLLBACKS = 3
"""How often a run returns, each time with half the learning rate."""

MARGIN = 0.5
"""Nats per character: a loss that is less than this above the mean is never far above it."""

DEVIATIONS = 6.0
"""Mean absolute deviations of the losses: a loss within this many of the mean is never far above it."""

MIN_LOSSES = 20
"""Losses that have to be known before one of them can be far above the others."""

AVERAGED_LOSSES = 100
"""Losses over which the running mean reaches back."""

MAX_WINDOW_AGE = 100
"""Updates after which another window is kept."""


class SkippedUpdate(NamedTuple):
    """An update that the divergence detector has skipped.

    Attributes:
        update: how many updates came before.
        reason: why.
        loss: of its windows, nats per character.
        norm: of its gradient.
    """

    update: int
    reason: str
    loss: float
    norm: float


class Diverged(Exception):
    """A run has diverged.

    Args:
        update: how many updates came before.
        reason: why the last update was skipped.
        loss: of its windows, nats per character.
        norm: of its gradient, before clipping.
        learning_rate: of that update.
    """

    def __init__(self, update: int, reason: str, *, loss: float, norm: float, learning_rate: float) -> None:
        super().__init__(
            f"at update {update:,} {reason}: loss {loss:.4g} nats, gradient norm {norm:.4g}, "
            f"learning rate {learning_rate:.3g}"
        )
        self.update = update


def not_finite(loss: float, norm: float) -> str:
    """Say that the loss or the gradient of an update is not finite; "" if both are."""
    if not math.isfinite(loss):
        return "the loss is not finite"
    return "" if math.isfinite(norm) else "the gradient is not finite"


@dataclass
class DivergenceDetector:
    """Statistics of the losses of a run, as plain data: they are part of a checkpoint.

    Attributes:
        mean: running mean of the losses, nats per character.
        deviation: running mean of the absolute deviation of a loss from that mean.
        num_losses: how many losses went into both, up to `AVERAGED_LOSSES`.
        streak: skipped updates in a row.
        rollbacks: how often the run has returned to a checkpoint.
        window: a window that was read well, and the state before it, as the caller passed them.
        window_loss: the loss of that window, nats per character.
        window_age: updates since then.
    """

    mean: float = 0.0
    deviation: float = 0.0
    num_losses: int = 0
    streak: int = 0
    rollbacks: int = 0
    window: Any = None
    window_loss: float = math.inf
    window_age: int = 0

    @property
    def learning_rate_scale(self) -> float:
        """The factor on the learning rate: one half for each rollback."""
        return 0.5**self.rollbacks

    def observe(self, loss: float, norm: float, window: Any, reread: Callable[[Any], float]) -> str:
        """Return why an update has to be skipped, or "" after learning from its loss.

        Args:
            loss: of the update's windows, nats per character.
            norm: of its gradient, before clipping.
            window: the last of these windows, to be kept.
            reread: scores a kept window with the present weights, nats per character.
        """
        reason = not_finite(loss, norm)
        if not reason and self.num_losses >= MIN_LOSSES and loss > self._far_above(self.mean):
            if not reread(self.window) < self._far_above(self.window_loss):
                reason = "the model has lost what it had learned"
            else:
                self.num_losses = 0  # the text has changed: its losses have to be learned anew
        if reason:
            self.streak += 1
        else:
            self.streak = 0
            self._learn(loss, window)
        return reason

    def _far_above(self, loss: float) -> float:
        return loss + max(MARGIN, DEVIATIONS * self.deviation)

    def _learn(self, loss: float, window: Any) -> None:
        self.num_losses = min(self.num_losses + 1, AVERAGED_LOSSES)
        weight = 1 / self.num_losses
        distance = abs(loss - self.mean) if self.num_losses > 1 else 0.0
        self.deviation += weight * (distance - self.deviation)
        self.mean += weight * (loss - self.mean)
        self.window_age += 1
        if self.num_losses == 1 or self.window_age >= MAX_WINDOW_AGE:
            self.window, self.window_loss, self.window_age = window, loss, 0
