"""`last.ckpt` is written when it should be, and never with broken weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import Crash, module_for, run

from chargen.training.checkpoints import CheckpointFiles, CheckpointWriter
from chargen.training.divergence import Diverged


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The checkpoint before stays, and the run has to return to it."""
    checkpoints, module = CheckpointWriter(tmp_path / "last.ckpt", every_updates=2), module_for("gru", 12)

    class BreakWeights(Crash):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == self.at:  # neither the loss nor the gradient of this update shows it
                module.model.head.bias.data[0] = torch.nan

    with pytest.raises(Diverged, match=r"at update 6 the weights are not finite"):
        run(module, tmp_path, BreakWeights(6), checkpoints)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_a_run_that_is_told_to_stop_saves_first(tmp_path: Path) -> None:
    checkpoints = CheckpointWriter(tmp_path / "last.ckpt")
    checkpoints.stop_signal = 15
    trainer = run(module_for("gru", 24), tmp_path, checkpoints)
    assert trainer.global_step == 1
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1


def test_a_failed_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    CheckpointFiles().save_checkpoint({"a": 1}, file)
    with pytest.raises(Exception, match="pickle"):
        CheckpointFiles().save_checkpoint({"a": lambda: 1}, file)
    assert CheckpointFiles().load_checkpoint(file) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["last.ckpt"]
