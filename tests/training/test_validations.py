"""Validations take a small part of a run, and read what the run says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from support.runs import Crash, module_for, plan, run

from chargen.planning.length import RunLength, RunPlan
from chargen.training import windows
from chargen.training.checkpoints import CheckpointWriter
from chargen.training.run_length import RunLengthCallback
from chargen.training.validations import Validations
from chargen.training.windows import HeldOutWindows, Lanes


class Clock(Timer):
    """A clock by which every update takes 20 ms."""

    def time_elapsed(self, stage: Any = None) -> float:
        return self.update / 50

    update = 0

    def on_train_batch_end(self, trainer: Any, *args: Any, **named: Any) -> None:
        self.update = trainer.global_step
        super().on_train_batch_end(trainer, *args, **named)


class Slow(Validations):
    """Validations that are said to take some seconds each."""

    each = 0.0

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        super().on_validation_end(trainer, module)
        self.seconds = self.number * self.each


def validated_updates(seconds_each: float, folder: Path) -> list[int]:
    """Run 10 s of 20 ms an update, and return when it validated."""
    clock, timed = Clock(duration={"seconds": 10}, verbose=False), plan(max_time="10s")
    length, said, updates = RunLength(10.0, None), [], []
    validations = Slow(clock, length, timed, said.append)
    validations.each = seconds_each
    validations._num_validations = lambda *_: 10  # type: ignore[method-assign]  # the held-out text is small
    original = validations.on_validation_start

    def on_validation_start(trainer: Any, module: Any) -> None:
        updates.append(trainer.global_step)
        original(trainer, module)

    validations.on_validation_start = on_validation_start  # type: ignore[method-assign]
    settings = {"max_steps": -1, "val_check_interval": 2**31 - 1, "check_val_every_n_epoch": None}
    length_callback = RunLengthCallback(clock, length, timed, validations, said.append)
    run(module_for("gru", None, num_layers=1), folder, clock, length_callback, validations, **settings)
    return updates


@pytest.mark.parametrize(("seconds_each", "number"), [(0.01, 10), (3.0, 2)])
def test_slow_validations_are_left_out(seconds_each: float, number: int, tmp_path: Path) -> None:
    """Fast ones come after each tenth; one that takes 3 of 10 s is followed by the last one alone."""
    updates = validated_updates(seconds_each, tmp_path)
    assert len(updates) == number
    assert updates[0] <= 60
    assert updates[-1] >= 400


def test_the_number_of_windows_may_be_set_when_lightning_has_begun() -> None:
    """Lightning asks for an iterator before it says that a validation begins."""
    held_out = HeldOutWindows(Lanes(np.arange(101), 4, 6))
    windows = iter(held_out)
    held_out.num_windows = 2
    assert len(list(windows)) == 2
    assert len(held_out) == len(list(Lanes(np.arange(101), 4, 6))) == 5
    assert held_out.windows_of(50) == 2
    assert held_out.windows_of(3) == 1
    assert held_out.characters_in(1) == 24
    assert held_out.characters_in(5) == 100


def test_the_size_of_validations_survives_a_crash(tmp_path: Path) -> None:
    """A resumed run compares its scores with those before, so they have to be those of the same text."""

    def validations() -> Validations:
        clock, counted = Timer(verbose=False), plan(max_steps=12)
        small = replace(counted.config, batch_size=1, sequence_length=1)  # a small part of the text is enough
        return Validations(clock, RunLength(None, 12), RunPlan(small, counted.num_characters, 9), lambda _: None)

    settings = {"val_check_interval": 2**31 - 1, "check_val_every_n_epoch": None}
    first, last = validations(), tmp_path / "last.ckpt"
    with pytest.raises(ZeroDivisionError):
        run(module_for("gru", 12), tmp_path, first, CheckpointWriter(last, every_updates=1), Crash(8), **settings)
    stored = torch.load(last, weights_only=True)["callbacks"]["Validations"]
    second = validations()
    run(module_for("gru", 12), tmp_path, second, resume=last, **settings)
    assert second.num_windows == first.num_windows == 1
    assert second.seconds > stored["seconds"] > 0


@pytest.mark.parametrize(("is_new", "num_windows"), [(True, 1), (False, 5)])
def test_a_checkpoint_of_an_earlier_version_keeps_its_validations(
    is_new: bool, num_windows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say how the run validates; its best score is of all windows."""
    monkeypatch.setattr(windows, "VALIDATION_WINDOW", 8)  # of 40 characters that are held out
    monkeypatch.setattr(windows, "VALIDATION_LANES", 1)
    last, settings = tmp_path / "last.ckpt", {"val_check_interval": 2**31 - 1, "check_val_every_n_epoch": None}
    counted = plan(max_steps=12)

    def validations() -> Validations:
        return Validations(Timer(verbose=False), RunLength(None, 12), counted, lambda _: None)

    before = [validations()] if is_new else []
    with pytest.raises(ZeroDivisionError):
        run(module_for("gru", 12), tmp_path, *before, CheckpointWriter(last, every_updates=1), Crash(8), **settings)
    again = validations()
    run(module_for("gru", 12), tmp_path, again, resume=last, **settings)
    assert again.num_windows == num_windows


@pytest.mark.parametrize(
    "change",
    [{"seconds": -1.0}, {"seconds": float("nan")}, {"seconds": "1"}, {"num_windows": 0}, {"num_windows": 1.5},
     {"number": -1}, {"last_update": None}, {"last_update": True}],
)  # fmt: skip
def test_a_forged_state_is_refused(change: dict[str, Any]) -> None:
    validations = Validations(Timer(verbose=False), RunLength(None, 12), plan(max_steps=12), print)
    good = validations.state_dict()
    validations.load_state_dict(good)
    with pytest.raises(ValueError, match="does not say how the run validates"):
        validations.load_state_dict({**good, **change})
