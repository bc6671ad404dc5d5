"""Decide when a run validates and how much text a validation reads, and measure the time that validations take.

A run without settings of its own validates ten times, after equal parts of its updates. All validations together read
at most a fifth as many characters as the run trains on. A run of little time has fewer validations, because each one
reads at least one window of every lane, and does without one that would make all of them take more than a tenth of
the time so far.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from chargen.planning.length import NUM_VALIDATIONS, RunLength, RunPlan
from chargen.schema import MAX_COUNT
from chargen.training.module import module_of
from chargen.training.windows import HeldOutWindows

EXPECTED_PART = 0.07
"""The part of a run's time that its validations are expected to take before one is measured."""

LARGEST_PART = 0.1
"""The part of a run's time that its validations take at most."""


class Validations(Callback):
    """Start validations and measure their time.

    Args:
        clock: measures the seconds of the run.
        length: when the run ends.
        plan: the numbers that follow from the settings of the run.
        say: prints a line.

    Attributes:
        seconds: that validations have taken since the run began.
        num_windows: windows that a validation reads; None until the first one begins.
        number: of validations so far.
    """

    def __init__(self, clock: Timer, length: RunLength, plan: RunPlan, say: Callable[[str], None]) -> None:
        self.clock = clock
        self.length = length
        self.plan = plan
        self.say = say
        self.seconds = 0.0
        self.num_windows: int | None = None
        self.number = 0
        self._last_update = 0  # of the last validation
        self._began = 0.0
        self._has_warned = False
        self._is_restored = False

    def state_dict(self) -> dict[str, Any]:
        """Return the time of validations, the size of a validation, and the update of the last one."""
        state = {"seconds": self.seconds, "num_windows": self.num_windows}
        return {**state, "number": self.number, "last_update": self._last_update}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: it is damaged.
        """
        seconds, num_windows = state["seconds"], state["num_windows"]
        number, update = state["number"], state["last_update"]
        is_size = num_windows is None or (type(num_windows) is int and num_windows >= 1)
        is_time = type(seconds) is float and 0 <= seconds < math.inf
        if not (is_size and is_time and all(type(count) is int and count >= 0 for count in (number, update))):
            raise ValueError("the checkpoint does not say how the run validates")
        self.seconds, self.num_windows, self.number, self._last_update = seconds, num_windows, number, update
        self._is_restored = True

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Let a run of chargen 0.2 or earlier go on to validate on all windows: its best score is of these."""
        loader = trainer.val_dataloaders
        if trainer.global_step and not self._is_restored and isinstance(loader, HeldOutWindows):
            self.num_windows = len(loader)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Let Lightning validate after this window if a part of the run has ended."""
        if not self.plan.validates_by_progress:
            return
        total, update, last = module_of(trainer).schedule.total_updates, trainer.global_step, self._last_update
        is_due = False
        if total is not None:
            part = total / self._num_validations(trainer, total)
            # Rounded, because a new estimate of the total moves the ends of the parts.
            is_due = update >= (round(last / part) + 1) * part and self._has_time
        # Lightning validates after each multiple of this number of windows.
        trainer.val_check_batch = 1 if is_due else MAX_COUNT

    def seconds_left(self, trainer: Trainer, run_seconds_left: float) -> float:
        """Estimate how many seconds the validations take that are still to come.

        Args:
            trainer: Lightning's Trainer.
            run_seconds_left: the seconds of the run that are left.
        """
        if not self.plan.has_validations:
            return 0.0
        if self.number == 0:
            return EXPECTED_PART * run_seconds_left
        total = module_of(trainer).schedule.total_updates or trainer.global_step
        number = self._num_validations(trainer, total)
        left = max(0.0, number - round(number * self._last_update / total))
        return min(left * self.seconds / self.number, LARGEST_PART * run_seconds_left)

    def _warn_of_cost(self) -> None:
        """Say once if validations that the user has asked for take much of a given time."""
        elapsed, limit = self.clock.time_elapsed(), self.length.max_seconds
        if self._has_warned or limit is None or self.plan.validates_by_progress or elapsed < LARGEST_PART * limit:
            return
        if self.seconds > LARGEST_PART * elapsed:
            self._has_warned = True
            self.say(
                f"validations take {self.seconds / elapsed:.0%} of the time: a larger trainer.val_check_interval or "
                "trainer.check_val_every_n_epoch leaves more for training"
            )

    @property
    def _has_time(self) -> bool:
        """Whether all validations with the next one take at most a tenth of the time so far."""
        if self.length.max_seconds is None or self.number == 0:
            return True
        next_one = self.seconds / self.number
        return self.seconds + next_one <= LARGEST_PART * (self.clock.time_elapsed() + next_one)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Choose the size of the validations when the first one begins, and start to measure."""
        self._began = time.monotonic()
        loader = trainer.val_dataloaders
        if trainer.sanity_checking or not isinstance(loader, HeldOutWindows):
            return
        total = module_of(trainer).schedule.total_updates or trainer.global_step
        self._last_update = trainer.global_step
        if self.num_windows is None:
            self.num_windows = min(len(loader), loader.windows_of(self.plan.validated_characters(total)))
            if self.num_windows < len(loader):
                self.say(
                    f"validations during the run read {loader.characters_in(self.num_windows):,} characters of the "
                    "held-out text; the score at the end reads more"
                )
        loader.num_windows = self.num_windows

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure the time of a validation, which is not training."""
        if not trainer.sanity_checking:
            self.seconds += time.monotonic() - self._began
            self.number += 1
            self._warn_of_cost()

    def _num_validations(self, trainer: Trainer, total_updates: int) -> float:
        """Return how many validations the run has: fewer if it has little time for the smallest ones."""
        loader, planned = trainer.val_dataloaders, self.plan.num_validations(total_updates)
        is_given = not self.plan.validates_by_progress or self.length.seconds_if_timed is None
        if is_given or not isinstance(loader, HeldOutWindows):
            return planned
        fits = self.plan.validated_characters(total_updates) * NUM_VALIDATIONS // loader.characters_in(1)
        return max(1, min(NUM_VALIDATIONS, fits))
