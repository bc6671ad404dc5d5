"""End a run at its last update, and estimate which one that is if the length is given as a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from chargen.planning.length import RunLength, clock_time
from chargen.planning.schedule import TimeBudget
from chargen.training.module import module_of


class RunLengthCallback(Callback):
    """Stop after the last update; correct the number of updates of a run that is limited by time.

    The schedule depends on the last update. The checkpoint stores it, so a resumed run follows the same schedule.

    Args:
        clock: measures the seconds of the run, including those before it was last stopped.
        length: when the run ends.
        say: prints a line.
        advise: says what a number of updates means for the text.
    """

    def __init__(
        self, clock: Timer, length: RunLength, say: Callable[[str], None], advise: Callable[[int], str]
    ) -> None:
        self.clock = clock
        self.length = length
        self.say = say
        self.advise = advise
        self._budget = TimeBudget(length.max_seconds, length.max_updates) if length.max_seconds is not None else None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure from here; a run that continues with a new time starts at the progress which that time gives."""
        if self._budget is None:
            return
        module, elapsed = module_of(trainer), self.clock.time_elapsed()
        self._budget.start(trainer.global_step, elapsed)
        if module.schedule.total_updates is None and trainer.global_step:
            module.begin_at(elapsed / self._budget.max_seconds)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Correct the number of updates when it is time, and stop after the last one."""
        module, budget = module_of(trainer), self._budget
        if budget is not None and budget.is_due(self.clock.time_elapsed()):
            total = budget.estimate_total(trainer.global_step, self.clock.time_elapsed())
            if total is not None:
                if module.schedule.total_updates is None:
                    self.say(f"about {total:,} updates fit into {clock_time(budget.max_seconds)}: {self.advise(total)}")
                module.set_total_updates(total)
        if module.schedule.total_updates is not None and trainer.global_step >= module.schedule.total_updates:
            trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start to measure the time of a validation."""
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Set the time of the validation aside: it is not training."""
        if self._budget is not None:
            self._budget.add_validation(time.monotonic() - self._validation_began)
