"""The learning rate of each update, and how many updates fit into a given time.

The rate rises linearly and then falls along a cosine (Loshchilov & Hutter 2017) that reaches its end with the last
update. If the length of the run is given as a time, the number of updates is estimated from the speed so far, and
corrected at every tenth of the time; the cosine continues from where it stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chargen.config import OptimizerConfig


@dataclass(frozen=True)
class Schedule:
    """The progress of a run as a function of its updates: a straight line up to the last one.

    Attributes:
        total_updates: updates of the whole run; None while they are not known.
        update: an update whose progress is known.
        progress: the progress at that update, from 0 to 1.
    """

    total_updates: int | None = None
    update: int = 0
    progress: float = 0.0

    def progress_at(self, update: int) -> float:
        """Return the progress at an update: from `progress` at `self.update` to 1 at `total_updates`."""
        if self.total_updates is None:
            return self.progress
        left = max(1, self.total_updates - self.update)
        return min(1.0, self.progress + (1 - self.progress) * (update - self.update) / left)


def learning_rate(update: int, schedule: Schedule, optimizer: OptimizerConfig, scale: float = 1.0) -> float:
    """Return the learning rate of an update: linear warm-up, then a cosine that ends with the run.

    Args:
        update: how many updates came before.
        schedule: the progress of the run.
        optimizer: the highest rate, the updates of warm-up (at most a tenth of the run), and the final fraction.
        scale: multiplies the highest rate.
    """
    warmup = optimizer.warmup_updates
    if schedule.total_updates is not None:
        warmup = min(warmup, schedule.total_updates // 10)
    rising = min(1.0, (update + 1) / (warmup + 1))
    falling = 0.5 * (1 + math.cos(math.pi * schedule.progress_at(update)))
    final = optimizer.final_fraction
    return optimizer.learning_rate * scale * rising * (final + (1 - final) * falling)


class TimeBudget:
    """Estimate how many updates a run of a given time has.

    Args:
        max_seconds: the time of the run.
        max_updates: the most updates it may have; None for no limit.
    """

    def __init__(self, max_seconds: float, max_updates: int | None = None) -> None:
        self.max_seconds = max_seconds
        self.max_updates = max_updates
        self._since = (0, 0.0)  # updates, and seconds without validations, at the last measurement
        self._next = 0.01  # fraction of the time at which to measure again
        self._is_warm = False  # the first updates after a start are slow

    def start(self, update: int, elapsed: float, validation_seconds: float = 0.0) -> None:
        """Begin to measure at an update, after `elapsed` seconds of the run, some of which were validations."""
        self._since, self._is_warm = (update, elapsed - validation_seconds), False
        self._next = elapsed / self.max_seconds + 0.01

    def is_due(self, elapsed: float) -> bool:
        """Tell whether it is time to measure."""
        return elapsed >= self._next * self.max_seconds

    def estimate_total(
        self, update: int, elapsed: float, validation_seconds: float, validation_seconds_left: float
    ) -> int | None:
        """Estimate the number of updates of the whole run.

        Args:
            update: how many updates came before.
            elapsed: seconds of the run so far.
            validation_seconds: those of its validations.
            validation_seconds_left: seconds of the validations that are still to come.

        Returns:
            None if too little has been measured.
        """
        is_warm, self._is_warm = self._is_warm, True
        training = elapsed - validation_seconds
        updates, seconds = update - self._since[0], training - self._since[1]
        self._since = (update, training)
        self._next = math.floor(10 * elapsed / self.max_seconds + 1) / 10
        if not is_warm or updates < 1 or seconds <= 0:
            return None
        seconds_left = self.max_seconds - elapsed - validation_seconds_left
        total = update + updates_that_fit(seconds_left, seconds / updates)
        return min(total, self.max_updates or total)


def updates_that_fit(seconds_left: float, seconds_per_update: float) -> int:
    """Return how many updates the remaining time has room for, at least 1.

    Two in a hundred are left out: a run that ends early loses less than one that is cut off.

    Args:
        seconds_left: of the run, without those of its validations.
        seconds_per_update: as measured.
    """
    return max(1, int(0.98 * seconds_left / seconds_per_update))
