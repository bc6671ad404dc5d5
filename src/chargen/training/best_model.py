"""Write `model.safetensors` whenever a validation is better than all before, and a sample beside it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_only

from chargen.corpus.code_points import printable
from chargen.errors import FileError
from chargen.planning.length import clock_time
from chargen.sampling.generator import TextGenerator
from chargen.storage.atomic import open_no_follow
from chargen.storage.model_file import ESTIMATE, ModelFile
from chargen.storage.run_folder import MODEL, SAMPLES
from chargen.training.checkpoints import try_to_write
from chargen.training.module import VALIDATION_SCORE, CharLanguageModel, module_of


def estimate_of(file: Path, module: CharLanguageModel) -> float:
    """Return the validation score in a model file; infinity if the file is not of this run."""
    try:
        found = ModelFile.load(file)
    except (FileError, OSError):  # the file will be written again
        return math.inf
    is_own = found.config == module.model.config and found.metadata.get("corpus") == module.metadata.get("corpus")
    return max(0.0, found.estimate) if is_own and found.estimate is not None else math.inf


def model_file_of(module: CharLanguageModel, nats: float, update: int) -> ModelFile:
    """Return the model with its validation score, nats per character, and its number of updates."""
    return module.model_file(**{ESTIMATE: nats, "updates": update})


class BestModelWriter(Callback):
    """Write `model.safetensors` after each better validation, and a sample after each validation.

    Args:
        run_dir: the run's folder.
        clock: measures the seconds of the run.
        sample_length: characters of the sample; 0 for none.
        say: prints a line.
        per: what a score is per, `char` or `byte`.
    """

    def __init__(
        self, run_dir: Path, clock: Timer, sample_length: int, say: Callable[[str], None], per: str = "char"
    ) -> None:
        self.run_dir = run_dir
        self.clock = clock
        self.sample_length = sample_length
        self.say = say
        self.per = per
        self.best = math.inf
        self.error = ""  # why the last model could not be written
        self._written = math.inf  # the best score whose weights are on the disk
        self._unwritten: ModelFile | None = None  # the best model, while the disk does not take it

    def state_dict(self) -> dict[str, float]:
        """Return the best score whose weights are on the disk."""
        return {"best": self.best if self._unwritten is None else self._written}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the best score.

        Raises:
            ValueError: it is not a number.
        """
        if not isinstance(state["best"], float):
            raise ValueError(f"a score of {state['best']}")
        self.best = self._written = state["best"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Read the score on the disk: the run may have written a better model after its last checkpoint.

        If the model is not there, because the checkpoint alone was copied, the next validation writes one.
        """
        if trainer.global_step:
            on_disk = estimate_of(self.run_dir / MODEL, module_of(trainer))
            if math.isinf(on_disk) and math.isfinite(self.best):
                self.say(f"{self.run_dir / MODEL} is not there: the best weights from here on are kept")
            self.best = self._written = min(self.best, on_disk) if math.isfinite(on_disk) else math.inf

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Show the score, write the model if it is better, and write a sample."""
        if trainer.sanity_checking:
            return
        nats = float(trainer.callback_metrics[VALIDATION_SCORE])
        is_better = nats < self.best
        mark = "" if is_better else "  (not better)"
        bits = "bpc" if self.per == "char" else "bits/byte"
        self.say(
            f"{clock_time(self.clock.time_elapsed())}  update {trainer.global_step:,}  "
            f"quick validation {nats:.4f} nats/{self.per}  {nats / math.log(2):.4f} {bits}{mark}"
        )
        model = model_file_of(module_of(trainer), nats, trainer.global_step)
        if is_better:
            self.best, self._unwritten = nats, model
        self._write()
        if self.sample_length and math.isfinite(nats):
            self._write_sample(model, trainer.global_step, nats)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Try once more to write a model that the disk did not take before."""
        self._write()

    def _write(self) -> None:
        if self._unwritten is not None:
            file, model = self.run_dir / MODEL, self._unwritten
            self.error = try_to_write(lambda: model.save(file), file, self.say)
            if not self.error:
                self._unwritten, self._written = None, self.best

    def _write_sample(self, model: ModelFile, update: int, nats: float) -> None:
        sample = TextGenerator(model).generate(b"", max_length=self.sample_length, seed=update)
        with contextlib.suppress(OSError), open_no_follow(self.run_dir / SAMPLES, "ab") as stream:
            heading = f"=== update {update}, quick validation {nats:.4f} nats/{self.per}\n"
            stream.write(heading.encode() + sample + b"\n\n")
        text = sample.decode("utf-8", "replace").replace("\r\n", "\n")
        self.say("    " + printable(text).strip().replace("\n", "\n    ") + "\n")
