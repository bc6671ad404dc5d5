"""A run that is given a time estimates its number of updates and ends in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Timer
from support.runs import Watch, module_for, plan, run

from chargen.planning.length import RunLength
from chargen.training.checkpoints import CheckpointWriter
from chargen.training.run_length import RunLengthCallback
from chargen.training.validations import Validations


class FiftyPerSecond(Timer):
    """A clock by which every update takes as long, however busy the machine is."""

    updates = 0

    def on_train_batch_end(self, trainer: Any, *args: Any, **named: Any) -> None:
        self.updates = trainer.global_step
        super().on_train_batch_end(trainer, *args, **named)

    def time_elapsed(self, stage: Any = None) -> float:
        return self.updates / 50


def test_a_timed_run_estimates_its_length(tmp_path: Path) -> None:
    """The estimate is stored in the checkpoint, and the learning rate decays to its end."""
    module, clock = module_for("gru", None), FiftyPerSecond(duration={"seconds": 2}, verbose=False)
    said, watch = [], Watch()
    length, timed = RunLength(2.0, None), plan(max_time="00:00:00:02", val_check_interval=30)
    validations = Validations(clock, length, timed, said.append)
    run_length = RunLengthCallback(clock, length, timed, validations, said.append)
    checkpoints = CheckpointWriter(tmp_path / "last.ckpt")
    settings = {"max_steps": -1, "val_check_interval": 30, "check_val_every_n_epoch": None}
    trainer = run(module, tmp_path, clock, run_length, validations, watch, checkpoints, **settings)
    assert module.schedule.total_updates is not None
    assert 30 < trainer.global_step <= module.schedule.total_updates
    assert "updates fit into 0:02" in said[0]
    assert len(said) == 1
    rates = [seen["rate"] for seen in watch.seen]
    assert max(rates) == 0.01
    assert rates[-1] < 0.002
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again = module_for("gru", None)
    again.on_load_checkpoint(saved)
    assert again.schedule == module.schedule
