"""End a run at its last update, and estimate which one that is if the length is given as a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from chargen.planning.length import RunLength, RunPlan, clock_time
from chargen.planning.schedule import TimeBudget
from chargen.training.module import module_of
from chargen.training.validations import Validations


class RunLengthCallback(Callback):
    """Stop after the last update; correct the number of updates of a run that is limited by time.

    The schedule depends on the last update. The checkpoint stores it, so a resumed run follows the same schedule.

    Args:
        clock: measures the seconds of the run, including those before it was last stopped.
        length: when the run ends.
        plan: the numbers that follow from the settings of the run.
        validations: measures the seconds of validations.
        say: prints a line.
    """

    def __init__(
        self, clock: Timer, length: RunLength, plan: RunPlan, validations: Validations, say: Callable[[str], None]
    ) -> None:
        self.clock = clock
        self.length = length
        self.plan = plan
        self.validations = validations
        self.say = say
        self._budget: TimeBudget | None = None

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure from here; a run that continues with a new time starts at the progress which that time gives."""
        if self.length.max_seconds is None:
            return
        module, elapsed, update = module_of(trainer), self.clock.time_elapsed(), trainer.global_step
        self._budget = TimeBudget(self.length.max_seconds, self.length.max_updates)
        self._budget.start(update, elapsed, self.validations.seconds)
        if module.schedule.total_updates is None and update:
            module.begin_at(elapsed / self._budget.max_seconds)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Correct the number of updates when it is time, and stop after the last one."""
        module, budget = module_of(trainer), self._budget
        if budget is not None and budget.is_due(self.clock.time_elapsed()):
            elapsed, validations = self.clock.time_elapsed(), self.validations
            seconds_left = validations.seconds_left(trainer, budget.max_seconds - elapsed)
            total = budget.estimate_total(trainer.global_step, elapsed, validations.seconds, seconds_left)
            if total is not None:
                if module.schedule.total_updates is None:
                    advice = self.plan.advice(total)
                    self.say(f"about {total:,} updates fit into {clock_time(budget.max_seconds)}: {advice}")
                module.set_total_updates(total)
        if module.schedule.total_updates is not None and trainer.global_step >= module.schedule.total_updates:
            trainer.should_stop = True
