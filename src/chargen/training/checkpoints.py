"""Write `last.ckpt` while a run trains, and read it when the run continues."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback

from chargen.storage.checkpoint import Checkpoint, write_checkpoint
from chargen.storage.plain_data import load_plain
from chargen.training.divergence import Diverged
from chargen.training.module import module_of


class CheckpointWriter(CheckpointCallback):
    """Write `last.ckpt` from time to time, after each validation, at the end, and when the run is told to stop.

    It is written between two updates, after all other callbacks. If the disk does not take it, it is tried again later.

    Args:
        path: the checkpoint.
        every_seconds: the longest time between two checkpoints.
        every_updates: also write after this many updates; None for not.
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
        self.before_training: Callable[[], object] = lambda: None  # called when training starts
        self.has_saved = False
        self.saved_update = self._update = 0
        self._saved_at = -math.inf

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock with the first update."""
        self.before_training()
        self._saved_at, self.saved_update = time.monotonic(), trainer.global_step
        self._update = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Write a checkpoint if it is time and an update has just ended: part of an update cannot be stored."""
        has_stepped, self._update = trainer.global_step > self._update, trainer.global_step
        if not has_stepped:
            return
        if self.stop_signal is not None:
            trainer.should_stop = True
            trainer.limit_val_batches = 0  # stop without a validation
        is_counted = self.every_updates and trainer.global_step % self.every_updates == 0
        is_late = trainer.strategy.broadcast(time.monotonic() - self._saved_at >= self.every_seconds)
        if trainer.should_stop or is_counted or is_late:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write a checkpoint at the next update, because the best score may have changed."""
        self._saved_at = -math.inf

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Write the last checkpoint of a run that a validation has ended."""
        if trainer.global_step > self.saved_update:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        module, update = module_of(trainer), trainer.global_step
        if module.detector.streak:
            return  # the weights may be broken: keep the checkpoint before, to which the run may return
        if not all(bool(torch.isfinite(weight).all()) for weight in module.parameters()):
            raise Diverged(
                update, "the weights are not finite", loss=math.nan, norm=math.nan, learning_rate=module.learning_rate
            )
        self.error = try_to_write(lambda: trainer.save_checkpoint(self.path), self.path, self.say)
        self._saved_at = time.monotonic()
        if not self.error:
            self.saved_update, self.has_saved = update, True


def try_to_write(write: Callable[[], None], file: Path, say: Callable[[str], None]) -> str:
    """Write a file. Return "", or, if the disk does not take it, print and return the reason."""
    try:
        write()
    except OSError as error:
        reason = f"cannot write {file}: {error.strerror or error}"
        say(f"{reason}; the run continues and tries again later")
        return reason
    return ""


class CheckpointFiles(CheckpointIO):
    """Lightning's access to checkpoint files: written atomically with a checksum, read as plain data.

    Args:
        checkpoint: a checkpoint that has been read already, so that Lightning does not read its file again.
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self._checkpoint = checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; the one before it stays beside it."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the content of a checkpoint: tensors on the CPU and plain data."""
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is not None and checkpoint.file == Path(path):
            return checkpoint.take()
        return load_plain(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint file."""
        Path(path).unlink(missing_ok=True)
