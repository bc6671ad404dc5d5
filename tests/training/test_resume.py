"""A run that crashes and continues ends with the same bits as one that was left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from support.environment import CELLS as NAMES
from support.runs import Crash, everything, module_for, run

from chargen.cell_types import CELL_TYPES
from chargen.training.checkpoints import CheckpointWriter

TOTAL = 20  # three passes and two windows
VALIDATE = dict(val_check_interval=4, check_val_every_n_epoch=None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The last checkpoint of an undisturbed run of each cell."""
    folder = tmp_path_factory.mktemp("whole")
    for cell in NAMES:
        run(module_for(cell, TOTAL), folder, CheckpointWriter(folder / f"{cell}.ckpt", every_updates=TOTAL), **VALIDATE)
    return {cell: folder / f"{cell}.ckpt" for cell in NAMES}


@pytest.mark.parametrize(
    ("crash", "every"),
    [(1, 1), (4, 1), (5, 1), (6, 1), (7, 1), (12, 1), (16, 1), (11, 4), (19, 6)],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("cell", NAMES)
def test_a_crashed_run_ends_with_the_same_bits(
    cell: str, crash: int, every: int, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    """Weights, optimizer, carry and generators, with dropout and clipping on.

    Cuts at 6 and 12 fall on the end of a pass, at 4, 12 and 16 on a validation; with `every` above 1
    updates are lost and repeated.
    """
    last = tmp_path / "last.ckpt"
    with pytest.raises(ZeroDivisionError):
        run(module_for(cell, TOTAL), tmp_path, CheckpointWriter(last, every_updates=every), Crash(crash), **VALIDATE)
    torch.manual_seed(99)  # a new process may draw random numbers before it continues
    run(module_for(cell, TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
    got, want = everything(last), everything(uninterrupted[cell])
    assert got.keys() == want.keys()
    assert len([name for name in want if "carry" in name]) == 2 * CELL_TYPES[cell].num_states
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def test_a_crashed_run_in_bf16_ends_with_the_same_bits(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    """And with other bits than a run in float32."""
    settings = {**VALIDATE, "precision": "bf16-mixed"}
    whole, last = tmp_path / "whole.ckpt", tmp_path / "last.ckpt"
    run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(whole, every_updates=TOTAL), **settings)
    with pytest.raises(ZeroDivisionError):
        run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=4), Crash(7), **settings)
    run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **settings)
    got, want, single = everything(last), everything(whole), everything(uninterrupted["gru"])
    assert all(torch.equal(got[name], value) for name, value in want.items())
    assert all(value.dtype != torch.bfloat16 for value in want.values())
    assert not all(torch.equal(single[name], value) for name, value in want.items())


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_crashed_run_of_sgd_ends_with_the_same_bits(momentum: float, tmp_path: Path) -> None:
    sgd = {"name": "sgd", "momentum": momentum, "learning_rate": 0.1}
    whole, last = tmp_path / "whole.ckpt", tmp_path / "last.ckpt"
    run(module_for("gru", TOTAL, sgd), tmp_path, CheckpointWriter(whole, every_updates=TOTAL), **VALIDATE)
    with pytest.raises(ZeroDivisionError):
        run(module_for("gru", TOTAL, sgd), tmp_path, CheckpointWriter(last, every_updates=4), Crash(7), **VALIDATE)
    run(module_for("gru", TOTAL, sgd), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
    got, want = everything(last), everything(whole)
    assert got.keys() == want.keys()
    assert any("momentum_buffer" in name for name in want) == bool(momentum)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def test_repeated_crashes_change_nothing(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    for crash in range(2, TOTAL, 3):
        with pytest.raises(ZeroDivisionError):
            resume = last if last.exists() else None
            run(
                module_for("gru", TOTAL),
                tmp_path,
                CheckpointWriter(last, every_updates=2),
                Crash(crash),
                resume=resume,
                **VALIDATE,
            )
    run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
    got, want = everything(last), everything(uninterrupted["gru"])
    assert all(torch.equal(got[name], value) for name, value in want.items())


def test_part_of_an_update_is_never_saved(tmp_path: Path) -> None:
    """Two windows in an update, a checkpoint as often as possible, and a crash between the two windows."""
    settings = {**VALIDATE, "accumulate_grad_batches": 2}
    run(module_for("gru", 10), tmp_path, CheckpointWriter(tmp_path / "whole.ckpt", every_updates=10), **settings)

    class CrashBetween(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 4 and batch_idx % 2 == 1:
                raise ZeroDivisionError

    last = tmp_path / "last.ckpt"
    with pytest.raises(ZeroDivisionError):
        run(module_for("gru", 10), tmp_path, CheckpointWriter(last, every_seconds=0.0), CrashBetween(), **settings)
    run(module_for("gru", 10), tmp_path, CheckpointWriter(last, every_updates=10), resume=last, **settings)
    got, want = everything(last), everything(tmp_path / "whole.ckpt")
    assert all(torch.equal(got[name], value) for name, value in want.items())


class StopAtValidation(Callback):
    """Ends the run at a validation, as early stopping does."""

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= 8


def test_a_run_that_a_validation_ended_continues_exactly(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    stopped = run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last), StopAtValidation(), **VALIDATE)
    assert stopped.global_step == torch.load(last, weights_only=True)["global_step"] == 8
    run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
    got, want = everything(last), everything(uninterrupted["gru"])
    assert all(torch.equal(got[name], value) for name, value in want.items())


def test_the_comparison_fails_without_carry_or_generators(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    """Without the carry or the generators, a resumed run ends with other weights."""
    for missing in ("carry", "generators"):
        last = tmp_path / f"{missing}.ckpt"
        with pytest.raises(ZeroDivisionError):
            run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=1), Crash(9), **VALIDATE)
        content = torch.load(last, weights_only=True)
        if missing == "carry":
            content["chargen"]["carry"] = None
        else:
            content["chargen"]["generators"]["torch"] = torch.Generator().manual_seed(5).get_state()
        torch.save(content, last)
        torch.manual_seed(99)
        run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
        got, want = everything(last), everything(uninterrupted["gru"])
        assert not torch.equal(got["state_dict.model.head.weight"], want["state_dict.model.head.weight"]), missing
