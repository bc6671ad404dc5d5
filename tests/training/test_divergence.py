"""A run that diverges is noticed, a text that changes is not mistaken for it, and both survive a crash."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from support.environment import CELLS as NAMES
from support.runs import Crash, everything, module_for, run

from chargen.training.checkpoints import CheckpointWriter
from chargen.training.divergence import MARGIN, MAX_SKIPPED_IN_A_ROW, Diverged, DivergenceDetector


class Poison(Callback):
    """Spoils the gradient of some updates after the backward pass."""

    def __init__(self, at: set[int], with_: float = math.nan) -> None:
        self.at = at
        self.with_ = with_

    def on_after_backward(self, trainer: Trainer, module: Any) -> None:
        if trainer.global_step in self.at:
            module.model.head.weight.grad[0, 0] = self.with_


class Weights(Callback):
    """Records the weights and the state of AdamW after every update."""

    def __init__(self) -> None:
        self.seen: list[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        moments = [part for state in trainer.optimizers[0].state.values() for part in state.values()]
        self.seen.append([part.detach().clone() for part in (*module.parameters(), *moments)])


def settle(detector: DivergenceDetector, losses: list[float]) -> None:
    for loss in losses:
        assert detector.observe(loss, 1.0, "window", lambda _: pytest.fail("no window had to be read again")) == ""


# ------------------------------------------------------------------------------- the detector alone


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_or_gradient_that_is_not_finite_is_skipped(bad: float) -> None:
    detector = DivergenceDetector()
    assert detector.observe(bad, 1.0, None, lambda _: 0.0) == "the loss is not finite"
    assert detector.observe(1.0, bad, None, lambda _: 0.0) == "the gradient is not finite"
    assert (detector.streak, detector.num_losses) == (2, 0)
    assert detector.observe(1.0, 1.0, None, lambda _: 0.0) == ""
    assert (detector.streak, detector.num_losses) == (0, 1)


def test_mean_and_deviation_are_those_of_the_losses() -> None:
    """The mean of up to `AVERAGED_LOSSES` losses is the arithmetic one."""
    detector, losses = DivergenceDetector(), [2.0, 1.9, 1.8, 2.1, 1.6]
    settle(detector, losses)
    assert detector.mean == pytest.approx(sum(losses) / 5)
    means = [sum(losses[:n]) / n for n in range(1, 5)]
    assert detector.deviation == pytest.approx(
        sum(abs(loss - mean) for loss, mean in zip(losses[1:], means, strict=True)) / 5
    )


@pytest.mark.parametrize(
    ("now", "why"), [(1.4, ""), (1.5 + MARGIN, "the model has lost what it had learned"), (math.nan, "x")]
)
def test_a_jump_of_the_loss_is_divergence_only_if_a_known_window_is_read_badly(now: float, why: str) -> None:
    """A window that was read at 1.5 nats is read again; the model is broken if that is worse by more than MARGIN."""
    detector, asked = DivergenceDetector(), []
    settle(detector, [1.5] * 50)

    def reread(window: Any) -> float:
        asked.append(window)
        return now

    assert detector.observe(1.5 + 0.99 * MARGIN, 1.0, "other", reread) == ""
    assert not asked
    assert bool(detector.observe(4.0, 1.0, "other", reread)) == bool(why)
    assert asked == ["window"]
    settle(detector, [4.0] * (0 if why else 15))  # a text that has changed is accepted


# ------------------------------------------------------------------------------- in training


@pytest.mark.parametrize("name", NAMES)
def test_a_skipped_update_changes_nothing(name: str, tmp_path: Path) -> None:
    """Weights, the means of AdamW and its count of steps stay as they are; the next update continues."""
    module, weights = module_for(name, 8), Weights()
    run(module, tmp_path, Poison({4}), weights)
    same = [all(map(torch.equal, before, after)) for before, after in itertools.pairwise(weights.seen)]
    assert same == [False, False, False, True, False, False, False]
    ((update, why, loss, norm),) = module.take_skipped()
    assert (update, why) == (4, "the gradient is not finite")
    assert math.isfinite(loss)
    assert math.isnan(norm)


def test_a_skipped_update_restores_the_carry(tmp_path: Path) -> None:
    module = module_for("gru", 6)

    class Spoil(Crash):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == self.at:
                module.model.recurrence.weight_hh_l1.data[0, 0] = math.nan
                self.before = [[part.clone() for part in state] for state in module.carry]
            elif trainer.global_step == self.at + 1:
                module.model.recurrence.weight_hh_l1.data[0, 0] = 0.1
                for state, before in zip(module.carry, self.before, strict=True):
                    assert all(map(torch.equal, state, before))

    run(module, tmp_path, Spoil(3))
    assert [event[0] for event in module.take_skipped()] == [3]
    assert all(bool(torch.isfinite(weight).all()) for weight in module.parameters())


def test_nothing_is_saved_while_updates_are_left_out(tmp_path: Path) -> None:
    module = module_for("gru", 12)
    save = CheckpointWriter(tmp_path / "last.ckpt", every_updates=1, every_seconds=0.0)
    run(module, tmp_path, Poison({5, 6, 7}), save, AtUpdate8())
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 12


class AtUpdate8(Callback):
    """At update 8, behind three that were left out, the checkpoint is of the fifth."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 8:
            file = Path(trainer.default_root_dir) / "last.ckpt"
            assert torch.load(file, weights_only=True)["global_step"] == 5


def test_too_many_skipped_updates_are_divergence(tmp_path: Path) -> None:
    module = module_for("gru", 40)
    with pytest.raises(
        Diverged, match=r"at update 14 the gradient is not finite: loss .* norm inf, learning rate 0\.0"
    ):
        run(module, tmp_path, Poison(set(range(5, 40)), math.inf))
    assert module.detector.streak == MAX_SKIPPED_IN_A_ROW
    assert [event[0] for event in module.take_skipped()] == list(range(5, 5 + MAX_SKIPPED_IN_A_ROW))


@pytest.mark.parametrize("at", [6, 9, 31, 45])
def test_the_detector_survives_a_crash(at: int, tmp_path: Path) -> None:
    """Stopped and resumed around updates that are left out, the run ends with the same bits, the guard's too."""
    poison = {3, 8, 9, 30}
    undisturbed = module_for("gru", 50)
    run(undisturbed, tmp_path / "a", Poison(poison), CheckpointWriter(tmp_path / "a" / "last.ckpt"))
    last = tmp_path / "b" / "last.ckpt"
    with pytest.raises(ZeroDivisionError):
        run(module_for("gru", 50), tmp_path / "b", Poison(poison), CheckpointWriter(last, every_updates=1), Crash(at))
    run(module_for("gru", 50), tmp_path / "b", Poison(poison), CheckpointWriter(last), resume=last)
    first, second = everything(tmp_path / "a" / "last.ckpt"), everything(last)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    saved = [
        torch.load(file, weights_only=True)["chargen"]["detector"] for file in (tmp_path / "a" / "last.ckpt", last)
    ]
    for detector in saved:
        detector.pop("window")
    assert saved[0] == saved[1]
    assert saved[0]["num_losses"] == 46
