"""A run that falls apart is noticed, a text that changes is not taken for it, and both survive being stopped."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import signal
import statistics
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from conftest import CELLS as NAMES
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from support.runs import Crash, everything, module_for, run

from chargen.corpus.encoded import load_corpus
from chargen.nn.model import StackedRNN
from chargen.training.callbacks import CheckpointWriter
from chargen.training.divergence import DEVIATIONS, MARGIN, MAX_ROLLBACKS, PATIENCE, Diverged, DivergenceDetector
from chargen.training.module import CharLanguageModel
from chargen.training.run import _last_good, fit


class Poison(Callback):
    """Spoils the gradient of some updates, behind the backward pass."""

    def __init__(self, at: set[int], with_: float = math.nan) -> None:
        self.at = at
        self.with_ = with_

    def on_after_backward(self, trainer: Trainer, module: Any) -> None:
        if trainer.global_step in self.at:
            module.model.head.weight.grad[0, 0] = self.with_


class Weights(Callback):
    """Writes down the weights and AdamW's moments behind every update."""

    def __init__(self) -> None:
        self.seen: list[list[torch.Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        moments = [part for state in trainer.optimizers[0].state.values() for part in state.values()]
        self.seen.append([part.detach().clone() for part in (*module.parameters(), *moments)])


def settle(guard: DivergenceDetector, losses: list[float]) -> None:
    for loss in losses:
        assert guard.judge(loss, 1.0, "window", lambda _: pytest.fail("there was nothing to doubt")) == ""


# ------------------------------------------------------------------------------- the guard alone


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_left_out(bad: float) -> None:
    guard = DivergenceDetector()
    assert guard.judge(bad, 1.0, None, lambda _: 0.0) == "the loss is not finite"
    assert guard.judge(1.0, bad, None, lambda _: 0.0) == "the gradient is not finite"
    assert (guard.streak, guard.known) == (2, 0)
    assert guard.judge(1.0, 1.0, None, lambda _: 0.0) == ""
    assert (guard.streak, guard.known) == (0, 1)


def test_the_mean_and_the_deviation_are_of_the_losses() -> None:
    """Of as many as `MEMORY` takes, the mean is the arithmetic one."""
    guard, losses = DivergenceDetector(), [2.0, 1.9, 1.8, 2.1, 1.6]
    settle(guard, losses)
    assert guard.mean == pytest.approx(sum(losses) / 5)
    means = [sum(losses[:n]) / n for n in range(1, 5)]
    assert guard.deviation == pytest.approx(
        sum(abs(loss - mean) for loss, mean in zip(losses[1:], means, strict=True)) / 5
    )


@pytest.mark.parametrize(
    ("now", "why"), [(1.4, ""), (1.5 + MARGIN, "the model has lost what it knew"), (math.nan, "x")]
)
def test_a_jump_is_a_fault_only_if_the_model_has_forgotten(now: float, why: str) -> None:
    """It reads again what it has read at 1.5, and is broken if that has become worse by more than the margin."""
    guard, asked = DivergenceDetector(), []
    settle(guard, [1.5] * 50)

    def reread(window: Any) -> float:
        asked.append(window)
        return now

    assert guard.judge(1.5 + 0.99 * MARGIN, 1.0, "other", reread) == ""
    assert not asked
    assert bool(guard.judge(4.0, 1.0, "other", reread)) == bool(why)
    assert asked == ["window"]
    settle(guard, [4.0] * (0 if why else 15))  # a text that has changed is got used to


# ------------------------------------------------------------------------------- in training


@pytest.mark.parametrize("name", NAMES)
def test_an_update_that_is_left_out_leaves_everything(name: str, tmp_path: Path) -> None:
    """Weights, moments and AdamW's count of steps are as they were; the next update goes on."""
    module, weights = module_for(name, 8), Weights()
    run(module, tmp_path, Poison({4}), weights)
    same = [all(map(torch.equal, before, after)) for before, after in itertools.pairwise(weights.seen)]
    assert same == [False, False, False, True, False, False, False]
    ((update, why, loss, norm),) = module.skipped
    assert (update, why) == (4, "the gradient is not finite")
    assert math.isfinite(loss)
    assert math.isnan(norm)


def test_a_carry_that_is_not_finite_goes_with_its_window(tmp_path: Path) -> None:
    module = module_for("gru", 6)

    class Spoil(Crash):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == self.at:
                module.model.recurrence.weight_hh_l1.data[0, 0] = math.nan
                self.whole = [[part.clone() for part in state] for state in module.carry]
            elif trainer.global_step == self.at + 1:
                module.model.recurrence.weight_hh_l1.data[0, 0] = 0.1
                for state, whole in zip(module.carry, self.whole, strict=True):
                    assert all(map(torch.equal, state, whole))

    run(module, tmp_path, Spoil(3))
    assert [event[0] for event in module.skipped] == [3]
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


def test_patience_has_an_end(tmp_path: Path) -> None:
    module = module_for("gru", 40)
    with pytest.raises(
        Diverged, match=r"at update 14 the gradient is not finite: loss .* norm inf, learning rate 0\.0"
    ):
        run(module, tmp_path, Poison(set(range(5, 40)), math.inf))
    assert module.guard.streak == PATIENCE
    assert [event[0] for event in module.skipped] == list(range(5, 5 + PATIENCE))


@pytest.mark.parametrize("at", [6, 9, 31, 45])
def test_what_the_guard_knows_survives_a_crash(at: int, tmp_path: Path) -> None:
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
    saved = [torch.load(file, weights_only=True)["chargen"]["guard"] for file in (tmp_path / "a" / "last.ckpt", last)]
    for guard in saved:
        guard.pop("kept")
    assert saved[0] == saved[1]
    assert saved[0]["known"] == 46


# ------------------------------------------------------------------------------- whole runs


PLAY = "To be, or not to be: that is the question. Whether 'tis nobler in the mind to suffer\n"
PROGRAM = "0x41,0x7f;{}[]()<>=+*&^%$#@!~`|\\0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ\n"


def settings_for(folder: Path, text: str, **changes: Any) -> dict[str, Any]:
    """Of a small run on a text, as plain data."""
    (folder / "t.txt").write_text(text, encoding="utf-8")
    settings: dict[str, Any] = {
        "corpus": {"name": "t", "path": str(folder / "t.txt")},
        "model": {"cell": "gru", "hidden_size": 16, "num_layers": 1, "embedding_size": 8, "dropout": 0.0,
                  "weight_dropout": 0.0, "residual": False},
        "optimizer": {"learning_rate": 0.02, "weight_decay": 0.0, "beta1": 0.9, "beta2": 0.99, "warmup_updates": 5,
                      "final_fraction": 0.1},
        "trainer": {"accelerator": "cpu", "devices": 1, "max_steps": 120, "gradient_clip_val": 1.0,
                    "num_sanity_val_steps": 0, "enable_model_summary": False, "log_every_n_steps": 5},
        "sequence_length": 20, "batch_size": 2, "seed": 1, "run_dir": str(folder / "run"),
        "data_dir": str(folder / "data"), "resume": None, "logger": None, "early_stopping": None, "sample_length": 0,
    }  # fmt: skip
    for key, value in changes.items():
        outer, _, inner = key.partition("__")
        settings[outer] = {**settings[outer], inner: value} if inner else value
    return settings


def train(settings: dict[str, Any]) -> tuple[str, list[dict[str, str]]]:
    """What the run says, and its metrics."""
    console = Console(file=io.StringIO(), width=200)
    corpus = load_corpus(folder=Path(settings["data_dir"]), **settings["corpus"])
    Path(settings["run_dir"]).mkdir(exist_ok=True)
    try:
        fit(settings, corpus, console, False, "chargen")
    finally:
        with open(Path(settings["run_dir"]) / "metrics.csv", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        said = console.file.getvalue()  # type: ignore[attr-defined]
        train.last = said, rows  # type: ignore[attr-defined]
    return said, rows


def test_a_text_that_changes_is_learned(tmp_path: Path) -> None:
    """From a play to a program: the loss jumps far above what is known of it, and nothing is left out."""
    settings = settings_for(tmp_path, PLAY * 60 + PROGRAM * 60, batch_size=1, trainer__max_steps=300)
    said, rows = train({**settings, "trainer": {**settings["trainer"], "log_every_n_steps": 1}})
    losses = [float(row["train_nats_per_char"]) for row in rows if row["train_nats_per_char"]]
    known = losses[200:250]
    mean = statistics.mean(known)
    assert max(losses[250:]) > mean + DEVIATIONS * statistics.mean(abs(loss - mean) for loss in known) + MARGIN
    assert losses[-1] < max(losses[250:]) - MARGIN
    assert "left out" not in said
    assert not any(row["skipped"] for row in rows)


def test_an_unclipped_rnn_explodes_and_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recurrent weights three times too large, over 400 ticks: the gradient is beyond float32.

    Three returns, each at half the rate, and then the evidence.
    """
    begin = StackedRNN.reset_parameters

    def large(net: StackedRNN) -> None:
        begin(net)
        net.get_parameter("weight_hh_l0").data.mul_(3)

    monkeypatch.setattr(StackedRNN, "reset_parameters", large)
    shape = {"model__cell": "rnn", "model__hidden_size": 64, "sequence_length": 400}
    settings = settings_for(tmp_path, PLAY * 100, trainer__gradient_clip_val=None, **shape)
    message = "the run falls apart, at update 9 the gradient is not finite: .* 3 returns to half the rate did not help"
    with pytest.raises(
        ValueError, match=f"{message}: write optimizer.learning_rate=0.002 or trainer.gradient_clip_val"
    ):
        train(settings)
    said, rows = train.last  # type: ignore[attr-defined]
    assert [row["returns"] for row in rows if row["returns"]] == ["1", "2", "3"]
    assert said.count("back to update 0, with half the learning rate") == MAX_ROLLBACKS
    assert said.count("update 0 is left out: the gradient is not finite") == MAX_ROLLBACKS + 1


def test_a_return_goes_on_from_the_last_checkpoint_at_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poisoned from update 50 on until it has returned once; afterwards it is a run whose rate is halved from there."""
    judged = CharLanguageModel._is_good

    def poisoned(module: CharLanguageModel, norm: torch.Tensor) -> bool:
        if module.global_step >= 50 and module.guard.returns == 0:
            norm = norm * math.inf
        return judged(module, norm)

    monkeypatch.setattr(CharLanguageModel, "_is_good", poisoned)
    settings = settings_for(tmp_path, PLAY * 100, save_every_updates=40)
    said, rows = train(settings)
    assert "update 50 is left out: the gradient is not finite" in said
    assert "back to update 4" in said  # 40, or one behind a validation
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["optimizer"]["learning_rate"] == 0.02
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 120
    assert saved["chargen"]["guard"]["returns"] == 1
    rates = {int(row["update"]): float(row["learning_rate"]) for row in rows if row["learning_rate"]}
    for update, rate in rates.items():
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (update - 1) / 120))
        halved = 0.5 if update > 49 else 1.0
        assert rate == pytest.approx(0.02 * min(1, update / 6) * cosine * halved, rel=1e-4), update
    assert len([row for row in rows if row["skipped"]]) == PATIENCE
    assert [row["update"] for row in rows if row["returns"]] == ["59"]


def test_a_run_that_is_told_to_stop_does_not_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes with the last update that the guard has patience for; it is answered, not lost."""
    judged = CharLanguageModel._is_good

    def poisoned(module: CharLanguageModel, norm: torch.Tensor) -> bool:
        if module.guard.streak == PATIENCE - 1:
            signal.raise_signal(signal.SIGTERM)
        return judged(module, norm * math.inf if module.global_step >= 50 else norm)

    monkeypatch.setattr(CharLanguageModel, "_is_good", poisoned)
    with pytest.raises(SystemExit) as stopped:
        train(settings_for(tmp_path, PLAY * 100, save_every_updates=40))
    said, rows = train.last  # type: ignore[attr-defined]
    assert stopped.value.code == 128 + signal.SIGTERM
    assert re.search(r"stopped at update 59 and saved as of update 4\d; go on with\n  chargen train resume=", said)
    assert "with half the learning rate" not in said
    assert not [row for row in rows if row["returns"]]


def test_which_checkpoint_a_run_returns_to(chargen: Callable[..., tuple[int, str, str]], away: Path) -> None:
    """The last; the one before where the last led to a fall; what it went on from while it has saved nothing."""
    (away / "t.txt").write_text(PLAY * 100, encoding="utf-8")
    words = ["model=tiny", "trainer.max_steps=6", "save_every_updates=4", "sample_length=0"]
    assert chargen("train", "t.txt", *words, "run_dir=r")[0] == 0
    saved = torch.load(away / "r" / "last.previous.ckpt", weights_only=True)["global_step"]
    assert 0 < saved < 6
    run: Any = SimpleNamespace(run_dir=away / "r", save=SimpleNamespace(has_saved=True))
    assert _last_good(run, None, -1)[:2] == (away / "r" / "last.ckpt", 6)
    assert _last_good(run, None, 6)[:2] == (away / "r" / "last.previous.ckpt", saved)
    run.save.has_saved = False
    assert _last_good(run, str(away / "r" / "last.previous.ckpt"), -1)[1] == saved
    run.run_dir = away
    assert _last_good(run, None, -1) == (None, 0, 0.0)
