"""Show how a run goes and log its numbers: a progress bar on a terminal, lines of text elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from chargen.planning.length import clock_time
from chargen.training.module import module_of
from chargen.training.outlook import sparkline

BAR_SECONDS = 0.25
"""Seconds between two updates of the progress bar."""


class ProgressReport(Callback):
    """Show the progress of a run and log its numbers.

    Args:
        console: where to show it.
        clock: measures the seconds of the run.
        validation_seconds: tells how many of them validations have taken.
        max_seconds: the time of the run, if it has a limit.
        characters_seen: counts the characters that a number of updates have predicted.
        take_diagnostics: returns more to log with each measurement.
        forecast: returns the score to expect at the end of the run, or None.
        log_every: updates between two measurements.
        line_seconds: seconds between two lines where there is no terminal.
        per: what a loss is per, `char` or `byte`.
    """

    def __init__(
        self,
        console: Console,
        clock: Timer,
        validation_seconds: Callable[[], float],
        *,
        max_seconds: float | None,
        characters_seen: Callable[[int], int],
        take_diagnostics: Callable[[], Mapping[str, float]] = dict,
        forecast: Callable[[], float | None] = lambda: None,
        log_every: int = 50,
        line_seconds: float = 10.0,
        per: str = "char",
    ) -> None:
        self.console = console
        self.clock = clock
        self.validation_seconds = validation_seconds
        self.max_seconds = max_seconds
        self.characters_seen = characters_seen
        self.take_diagnostics = take_diagnostics
        self.forecast = forecast
        self.log_every = log_every
        self.per = per
        self.means: dict[str, float] = {}
        self._losses: list[float] = []  # of the measurements, for the sparkline
        self._has_bar = console.is_terminal  # asked once: it searches the environment
        self._pace = BAR_SECONDS if self._has_bar else line_seconds
        self._since = (0, 0.0)  # characters and seconds of training at the last measurement
        self._shown_at = 0.0
        text, self._line = TextColumn("{task.fields[numbers]}"), BarColumn(24)
        self._bar = Progress(self._line, TaskProgressColumn(), text, console=console, transient=True)
        self._task = self._bar.add_task("", total=1.0, numbers="", start=True)

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Show the bar."""
        self._since = (self.characters_seen(trainer.global_step), self._training_seconds())
        self._shown_at = time.monotonic()
        if self._has_bar:
            self._bar.start()

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Measure every `log_every` updates; show the numbers from time to time."""
        is_last = trainer.should_stop
        self.report_skipped(trainer)
        if trainer.global_step % self.log_every == 0 or is_last:
            self._measure(trainer)
        now = time.monotonic()
        if self.means and (now - self._shown_at >= self._pace or is_last):
            self._shown_at = now
            self._show(trainer)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Log the scores with the update they belong to."""
        if not trainer.sanity_checking:
            scores = {name: float(score) for name, score in trainer.callback_metrics.items()}
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=trainer.global_step)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Remove the bar."""
        if self._bar.live.is_started:
            self._bar.stop()

    @rank_zero_only
    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Remove the bar when the run is broken off."""
        self.on_train_end(trainer, module)

    def report_skipped(self, trainer: Trainer) -> None:
        """Say and log which updates were skipped since the last call; of several in a row, say the first."""
        module = module_of(trainer)
        skipped = module.take_skipped()
        for number, (update, reason, loss, norm) in enumerate(skipped, 1 + module.detector.streak - len(skipped)):
            if number <= 1:
                self.say(f"update {update:,} is skipped: {reason} (loss {loss:.4g} nats, gradient norm {norm:.4g})")
            for logger in trainer.loggers:
                logger.log_metrics({"skipped": 1.0, "gradient_norm": norm}, step=update)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=not self._has_bar)

    def _measure(self, trainer: Trainer) -> None:
        module = module_of(trainer)
        characters, seconds = self.characters_seen(trainer.global_step), self._training_seconds()
        if characters == self._since[0]:
            return
        means = module.take_means() or self.means
        if not means:  # every update so far was skipped
            return
        means["chars_per_second"] = (characters - self._since[0]) / max(1e-9, seconds - self._since[1])
        self.means, self._since = means, (characters, seconds)
        self._losses.append(means["train_nats_per_char"])
        values = {**means, "learning_rate": module.learning_rate, **self.take_diagnostics()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _training_seconds(self) -> float:
        return self.clock.time_elapsed() - self.validation_seconds()

    def _show(self, trainer: Trainer) -> None:
        means, seconds = self.means, self.clock.time_elapsed()
        total = module_of(trainer).schedule.total_updates
        done = trainer.global_step / total if total else seconds / self.max_seconds if self.max_seconds else 0.0
        done = min(1.0, done)
        left = seconds * (1 - done) / done if done else math.inf
        if self.max_seconds:
            left = min(left, max(0.0, self.max_seconds - seconds))
        loss = means["train_nats_per_char"]
        expected = self.forecast()
        bars = sparkline(self._losses) if self._has_bar and self.console.encoding.startswith("utf") else ""
        numbers = {
            f"loss {loss:.3f} nats{f' {bars}' if bars and self.console.width >= 100 else ''}": 0,
            f"{loss / math.log(2):.3f} {'bpc' if self.per == 'char' else 'bits/byte'}": 3,
            f"{means['chars_per_second'] / 1e3:.1f} k {self.per}s/s": 2,
            f"clipped {means.get('clip_fraction', 0.0):.0%}": 5,
            **({f"forecast {expected:.2f}": 4} if expected is not None and math.isfinite(expected) else {}),
            **({f"ends in {clock_time(left)}": 1} if math.isfinite(left) else {}),
        }
        if self._has_bar:
            width = self.console.width
            self._line.bar_width = 24 if width >= 80 else 10 if width >= 50 else 4
            fitting = joined(numbers, width - self._line.bar_width - len(" 100% "))
            self._bar.update(self._task, completed=done, numbers=fitting)
        else:
            self.say(f"{done:4.0%}  update {trainer.global_step:,}  {joined(numbers)}")


def joined(parts: Mapping[str, int], width: int | None = None) -> str:
    """Join texts with two blanks; where they are too long together, leave out those of the highest rank.

    Args:
        parts: rank by text. One text is always kept.
        width: the longest result, characters; None for no limit.
    """
    kept = dict(parts)
    while width is not None and len(kept) > 1 and len("  ".join(kept)) > width:
        del kept[max(kept, key=kept.__getitem__)]
    return "  ".join(kept)
