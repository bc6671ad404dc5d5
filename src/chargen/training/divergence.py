"""Tells a run that falls apart from a text that changes: which updates to leave out, and when to go back.

An update is left out if its loss or its gradient is not finite, or if the model has lost what it knew. A loss far above
those before it does not prove that: the text may have turned from a play into a program, and that is to be learned. So
the model is made to read again a window that it has read well. Only if it reads that one badly too has it been broken,
which no further update will mend: after `PATIENCE` of them the run has to return to where it was whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PATIENCE = 10
"""Updates left out in a row before a run returns to its last checkpoint."""

MAX_ROLLBACKS = 3
"""How often it may, each time with half the learning rate."""

MARGIN = 0.5
"""Nats per character; no loss that is less than this above the mean is far above it."""

DEVIATIONS = 6.0
"""Mean absolute deviations of the losses; likewise."""

SETTLED = 20
"""Losses that have to be known before one of them can be far above the others."""

MEMORY = 100
"""Losses over which their running mean reaches back, and updates after which another window is kept."""


class Diverged(Exception):
    """A run has fallen apart: what was seen, and when.

    Args:
        update: how many updates came before.
        reason: why the last update was left out.
        loss: of its windows, nats per character.
        norm: of its gradient, before clipping.
        learning_rate: of that update.
    """

    def __init__(self, update: int, reason: str, loss: float, norm: float, learning_rate: float) -> None:
        super().__init__(
            f"at update {update:,} {reason}: loss {loss:.4g} nats, gradient norm {norm:.4g}, "
            f"learning rate {learning_rate:.3g}"
        )
        self.update = update


@dataclass
class DivergenceDetector:
    """What is known of a run's losses, as plain data: it is part of a checkpoint.

    Attributes:
        mean: of the losses, running, nats per character.
        deviation: of a loss from that mean, absolute, running.
        known: how many losses went into both, up to `MEMORY`.
        streak: updates left out in a row.
        returns: how often the run has returned to a checkpoint.
        kept: a window that was read well, and what it takes to read it again; the caller's.
        kept_loss: how well that was, nats per character.
        kept_for: updates since then.
    """

    mean: float = 0.0
    deviation: float = 0.0
    known: int = 0
    streak: int = 0
    returns: int = 0
    kept: Any = None
    kept_loss: float = math.inf
    kept_for: int = 0

    @property
    def rate(self) -> float:
        """What is left of the learning rate: half of it for each return."""
        return 0.5**self.returns

    def judge(self, loss: float, norm: float, window: Any, reread: Callable[[Any], float]) -> str:
        """Why an update is to be left out; nothing for a good one, from which the guard learns.

        Args:
            loss: of the update's windows, nats per character.
            norm: of its gradient, before clipping.
            window: the last of these windows, to be kept.
            reread: what the model makes of a kept window now, nats per character.
        """
        wrong = ""
        if not math.isfinite(loss):
            wrong = "the loss is not finite"
        elif not math.isfinite(norm):
            wrong = "the gradient is not finite"
        elif self.known >= SETTLED and loss > self._far(self.mean):
            if not reread(self.kept) < self._far(self.kept_loss):
                wrong = "the model has lost what it knew"
            else:
                self.known = 0  # the text has changed: what its losses are like is to be seen
        if wrong:
            self.streak += 1
        else:
            self.streak = 0
            self._learn(loss, window)
        return wrong

    def _far(self, loss: float) -> float:
        return loss + max(MARGIN, DEVIATIONS * self.deviation)

    def _learn(self, loss: float, window: Any) -> None:
        self.known = min(self.known + 1, MEMORY)
        weight = 1 / self.known
        away = abs(loss - self.mean) if self.known > 1 else 0.0
        self.deviation += weight * (away - self.deviation)
        self.mean += weight * (loss - self.mean)
        self.kept_for += 1
        if self.known == 1 or self.kept_for >= MEMORY:
            self.kept, self.kept_loss, self.kept_for = window, loss, 0
