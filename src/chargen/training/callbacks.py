"""What happens beside training: fit the schedule to the time, report, keep the best, save.

Nothing here changes what is learned, except that `RunLengthCallback` decides how long the run is.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, Timer
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from chargen.corpus.code_points import printable
from chargen.sampling.generator import TextGenerator
from chargen.storage.atomic import add_checksum, atomic_write, checksum_matches, keep, open_no_follow, previous_path
from chargen.storage.model_file import ESTIMATE, ModelFile
from chargen.storage.plain_data import load_plain
from chargen.storage.run_folder import MODEL
from chargen.training.divergence import Diverged
from chargen.training.module import VALIDATION_SCORE, CharLanguageModel, Plan

VALIDATIONS = 10
"""How often a run looks at the held-out text, unless told otherwise."""


def module_of(trainer: Trainer) -> CharLanguageModel:
    """The module, with its own type."""
    module = trainer.lightning_module
    assert isinstance(module, CharLanguageModel)
    return module


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`, for a person."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_HOOKS_OF_A_STEP = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)


def leave_out_empty_hooks(callbacks: Sequence[Callback], module: LightningModule) -> None:
    """Lightning enters a profiler's context for each hook of each callback, though most do nothing; None it skips."""
    for owner, kind in (*((callback, Callback) for callback in callbacks), (module, LightningModule)):
        for hook in _HOOKS_OF_A_STEP:
            if getattr(type(owner), hook) is getattr(kind, hook):
                setattr(owner, hook, None)


class RunLengthCallback(Callback):
    """Ends the run at its last update, and finds out which one that is where a time was given.

    The cosine needs to know its end. Given a time, the speed so far says how many updates will fit;
    at every tenth of the time that number is corrected, and the cosine goes on from where it stands.
    It is kept in the checkpoint, so that a run that was stopped follows the same curve.

    Args:
        clock: counts the run's seconds, those before it was last stopped included.
        max_seconds: how long the run may take; None for no limit.
        max_updates: how many updates it may have; None for no limit.
        say: prints a line.
        advise: says what so many updates mean.
    """

    def __init__(
        self,
        clock: Timer,
        max_seconds: float | None,
        max_updates: int | None,
        say: Callable[[str], None],
        advise: Callable[[int], str],
    ) -> None:
        self.clock = clock
        self.max_seconds = max_seconds
        self.max_updates = max_updates
        self.say = say
        self.advise = advise
        self._validating = 0.0  # seconds spent on it in all
        self._since = (0, 0.0)  # updates and learning seconds at the last measurement
        self._next = 0.01  # fraction of the time at which to measure again; the first updates are slow

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that goes on measures from here; with a new time, it stands where that time says."""
        module, elapsed = module_of(trainer), self.clock.time_elapsed()
        self._since = (trainer.global_step, elapsed)
        if self.max_seconds is not None:
            self._next = elapsed / self.max_seconds + 0.01
            if module.plan.total is None and trainer.global_step:
                module.plan = Plan(None, trainer.global_step, min(1.0, elapsed / self.max_seconds))

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Corrects the number of updates when it is time, and stops behind the last one."""
        module, update = module_of(trainer), trainer.global_step
        if self.max_seconds is not None and self.clock.time_elapsed() >= self._next * self.max_seconds:
            self._correct(module, update, self.clock.time_elapsed(), self.max_seconds)
        if module.plan.total is not None and update >= module.plan.total:
            trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Validation is not learning."""
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Its time is set aside."""
        self._validating += time.monotonic() - self._validation_began

    def _correct(self, module: CharLanguageModel, update: int, elapsed: float, max_seconds: float) -> None:
        measured = self._next >= 0.1
        updates, learning = update - self._since[0], elapsed - self._validating - self._since[1]
        self._since = (update, elapsed - self._validating)
        self._next = math.floor(10 * elapsed / max_seconds + 1) / 10
        if not measured or updates < 1 or learning <= 0:
            return
        total = update + updates_that_fit(max_seconds - elapsed, learning / updates, self._validating / elapsed)
        total = min(total, self.max_updates or total)
        if module.plan.total is None:
            self.say(f"about {total:,} updates fit into {duration(max_seconds)}: {self.advise(total)}")
        module.plan = Plan(total, update, module.plan.progress_at(update))


def updates_that_fit(seconds_left: float, seconds_per_update: float, validating: float) -> int:
    """How many updates the time left has room for.

    Two in a hundred are kept back, for it is worse to be cut off than to end early.

    Args:
        seconds_left: of the run.
        seconds_per_update: as measured.
        validating: the share of the time that goes into validation.

    Returns:
        At least 1.
    """
    return max(1, int(0.98 * seconds_left * (1 - validating) / seconds_per_update))


class ProgressReport(Callback):
    """Shows how the run goes and logs its numbers: a bar on a terminal, plain lines elsewhere.

    Args:
        console: where to show it.
        clock: the run's seconds.
        max_seconds: how long the run may take, if it was given so.
        chars_per_update: B * T.
        log_every: updates from one measurement to the next.
        line_seconds: the pace of plain lines.
    """

    def __init__(
        self,
        console: Console,
        clock: Timer,
        max_seconds: float | None,
        chars_per_update: int,
        log_every: int = 50,
        line_seconds: float = 10.0,
    ) -> None:
        self.console = console
        self.clock = clock
        self.max_seconds = max_seconds
        self.chars_per_update = chars_per_update
        self.log_every = log_every
        self.line_seconds = line_seconds
        self.means: dict[str, float] = {}
        self._live = console.is_terminal  # asked once, for it looks through the environment
        self._since = (0, 0.0)  # updates and seconds at the last measurement
        self._shown = 0.0
        text = TextColumn("{task.fields[numbers]}")
        self._bar = Progress(BarColumn(24), TaskProgressColumn(), text, console=console, transient=True)
        self._task = self._bar.add_task("", total=1.0, numbers="", start=True)

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Shows the bar."""
        self._since = (trainer.global_step, self.clock.time_elapsed())
        self._shown = time.monotonic()
        if self._live:
            self._bar.start()

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Measures every `log_every` updates, and shows it four times a second or line by line."""
        last = trainer.should_stop
        self.tell_left_out(trainer)
        if trainer.global_step % self.log_every == 0 or last:
            self._measure(trainer)
        now = time.monotonic()
        pace = 0.25 if self._live else self.line_seconds
        if self.means and (now - self._shown >= pace or last):
            self._shown = now
            self._show(trainer)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Logs the scores with the update they belong to."""
        if not trainer.sanity_checking:
            scores = {name: float(score) for name, score in trainer.callback_metrics.items()}
            for logger in trainer.loggers:
                logger.log_metrics(scores, step=trainer.global_step)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Takes the bar away."""
        if self._bar.live.is_started:
            self._bar.stop()

    @rank_zero_only
    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Also when the run broke off."""
        self.on_train_end(trainer, module)

    def tell_left_out(self, trainer: Trainer) -> None:
        """Says and logs which updates the guard has left out since the last call."""
        module = module_of(trainer)
        events, module.skipped = module.skipped, []
        for number, (update, why, loss, norm) in enumerate(events, 1 + module.guard.streak - len(events)):
            if number <= 1:
                self.say(f"update {update:,} is left out: {why} (loss {loss:.4g} nats, gradient norm {norm:.4g})")
            for logger in trainer.loggers:
                logger.log_metrics({"skipped": 1.0, "gradient_norm": norm}, step=update)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self.console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def _measure(self, trainer: Trainer) -> None:
        module = module_of(trainer)
        update, seconds = trainer.global_step, self.clock.time_elapsed()
        if update == self._since[0]:
            return
        means = module.take_means() or self.means
        if not means:  # every update so far was left out
            return
        chars = (update - self._since[0]) * self.chars_per_update
        means["chars_per_second"] = chars / max(1e-9, seconds - self._since[1])
        self.means, self._since = means, (update, seconds)
        for logger in trainer.loggers:
            logger.log_metrics({**means, "learning_rate": module.learning_rate}, step=update)

    def _show(self, trainer: Trainer) -> None:
        module, means, seconds = module_of(trainer), self.means, self.clock.time_elapsed()
        total = module.plan.total
        done = trainer.global_step / total if total else seconds / self.max_seconds if self.max_seconds else 0.0
        done = min(1.0, done)
        left = seconds * (1 - done) / done if done else math.inf
        if self.max_seconds:
            left = min(left, max(0.0, self.max_seconds - seconds))
        loss = means["train_nats_per_char"]
        numbers = (
            f"loss {loss:.3f} nats  {loss / math.log(2):.3f} bpc  {means['chars_per_second'] / 1e3:.1f} k chars/s  "
            f"clipped {means.get('clip_fraction', 0.0):.0%}"
        )
        ends = f"  ends in {duration(left)}" if math.isfinite(left) else ""
        if self._live:
            self._bar.update(self._task, completed=done, numbers=numbers + ends)
        else:
            self.say(f"{done:4.0%}  update {trainer.global_step:,}  {numbers}{ends}")


def estimate_of(file: Path, module: CharLanguageModel) -> float:
    """How well the weights in a file have read the held-out text; infinity if they are not of this run."""
    try:
        found = ModelFile.load(file)
    except (ValueError, OSError):  # which is written again
        return math.inf
    is_own = found.settings == asdict(module.model.settings) and found.notes.get("corpus") == module.run.get("corpus")
    return max(0.0, found.notes.get(ESTIMATE, math.inf)) if is_own else math.inf


class BestModelWriter(Callback):
    """Writes `model.safetensors` whenever the held-out text is read better, and a sample beside it.

    Args:
        run_dir: the run's folder.
        clock: the run's seconds.
        sample_length: of the text shown, characters; 0 shows none.
        say: prints a line.
    """

    def __init__(self, run_dir: Path, clock: Timer, sample_length: int, say: Callable[[str], None]) -> None:
        self.run_dir = run_dir
        self.clock = clock
        self.sample_length = sample_length
        self.say = say
        self.best = math.inf
        self.written = math.inf  # the best score whose weights are on the disk
        self.unwritten: ModelFile | None = None  # the best weights, while the disk does not take them
        self.error = ""  # what it said

    def state_dict(self) -> dict[str, float]:
        """The best score whose weights are on the disk."""
        return {"best": self.best if self.unwritten is None else self.written}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes it back.

        Raises:
            ValueError: it is no score.
        """
        if not isinstance(state["best"], float):
            raise ValueError(f"a score of {state['best']}")
        self.best = self.written = state["best"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that was stopped may have written a better model than its checkpoint knows."""
        if trainer.global_step:
            self.best = self.written = min(self.best, estimate_of(self.run_dir / MODEL, module_of(trainer)))

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Compares, writes and shows."""
        if trainer.sanity_checking:
            return
        module = module_of(trainer)
        nats = float(trainer.callback_metrics[VALIDATION_SCORE])
        better = nats < self.best
        mark = "" if better else "  (not better)"
        self.say(
            f"{duration(self.clock.time_elapsed())}  update {trainer.global_step:,}  "
            f"validation {nats:.4f} nats/char  {nats / math.log(2):.4f} bpc{mark}"
        )
        notes = {**module.run, ESTIMATE: nats, "updates": trainer.global_step}
        portable = module.model.to_model_file(module.tokenizer, notes)
        if better:
            self.best, self.unwritten = nats, portable
        self._write()
        if self.sample_length and math.isfinite(nats):
            text = "".join(TextGenerator(portable).write(length=self.sample_length, seed=trainer.global_step))
            samples = self.run_dir / "samples.txt"
            with contextlib.suppress(OSError), open_no_follow(samples, "a", encoding="utf-8", newline="") as stream:
                stream.write(f"=== update {trainer.global_step}, validation {nats:.4f} nats/char\n{text}\n\n")
            self.say("    " + printable(text).strip().replace("\n", "\n    ") + "\n")

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The last chance for what could not be written before."""
        self._write()

    def _write(self) -> None:
        if self.unwritten is not None:
            file, portable = self.run_dir / MODEL, self.unwritten
            self.error = _reason(lambda: portable.save(file), file, self.say)
            if not self.error:
                self.unwritten, self.written = None, self.best


class CheckpointWriter(Checkpoint):
    """Writes `last.ckpt`: every so often, behind each validation, at the end, and when told to stop.

    It is written between two updates, when everything stands still. Lightning runs it behind all
    other callbacks. A disk that does not take it is tried again the next time.

    Args:
        path: of the checkpoint.
        every_seconds: the longest time that can be lost.
        every_updates: also after so many updates; for those who count.
        say: prints a line.
    """

    def __init__(
        self,
        path: Path,
        every_seconds: float = 60.0,
        every_updates: int | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.path = path
        self.every_seconds = every_seconds
        self.every_updates = every_updates
        self.say = say
        self.error = ""  # why the last checkpoint could not be written
        self.stop_signal: int | None = None
        self.has_saved = self.has_stepped = False
        self.saved_update = self._update = 0
        self._saved = -math.inf

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """The clock starts with the first update."""
        self._saved, self.saved_update = time.monotonic(), trainer.global_step
        self._update = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Saves if it is time and an update has just ended: half an update cannot be saved."""
        stepped, self._update = trainer.global_step > self._update, trainer.global_step
        if not stepped:
            return
        self.has_stepped = True
        if self.stop_signal is not None:
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # whoever says stop does not want to wait for a validation
        counted = self.every_updates and trainer.global_step % self.every_updates == 0
        waited = trainer.strategy.broadcast(time.monotonic() - self._saved >= self.every_seconds)
        if trainer.should_stop or counted or waited:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The best score may have changed: save at the next update."""
        self._saved = -math.inf

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """A run that a validation has ended has no next update."""
        if trainer.global_step > self.saved_update:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        module, update = module_of(trainer), trainer.global_step
        if module.guard.streak:
            return  # the weights may be broken: the checkpoint before is the one to return to
        if not all(bool(torch.isfinite(weight).all()) for weight in module.parameters()):
            raise Diverged(update, "the weights are not finite", math.nan, math.nan, module.learning_rate)
        self.error = _reason(lambda: trainer.save_checkpoint(self.path), self.path, self.say)
        self._saved = time.monotonic()
        if not self.error:
            self.saved_update, self.has_saved = update, True


def _reason(write: Callable[[], None], file: Path, say: Callable[[str], None]) -> str:
    """Why a file could not be written; nothing if it was."""
    try:
        write()
    except OSError as error:
        reason = f"cannot write {file}: {error.strerror or error}"
        say(f"{reason}; going on, and trying again later")
        return reason
    return ""


class CheckpointFiles(CheckpointIO):
    """Checkpoints that are whole or absent, that say when a bit has changed, and that can hold nothing but data."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes under a temporary name, seals, reads it back, and only then lets it take the place of the one before.

        That one stays beside it, as `previous_path(path)`.
        """
        path = Path(path)
        with atomic_write(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's word for a disk that is full
                raise OSError(str(error).splitlines()[0]) from None
            add_checksum(temporary)
            if not checksum_matches(temporary):
                raise OSError(f"{path} did not come back from the disk as it was written")
            if path.is_file() and checksum_matches(path):
                keep(path, previous_path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads tensors and plain data, to the CPU; anything else in the file is refused."""
        return load_plain(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Removes the file."""
        Path(path).unlink(missing_ok=True)
