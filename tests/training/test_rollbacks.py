"""A run that diverges returns to its last checkpoint with half the learning rate, or says that it did not help."""

from __future__ import annotations

import csv
import io
import math
import re
import signal
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from chargen.config import CorpusConfig, ModelConfig, OptimizerConfig, TrainConfig
from chargen.corpus.encoded import load_corpus
from chargen.errors import UserError
from chargen.nn.model import StackedRNN
from chargen.training.divergence import DEVIATIONS, MARGIN, MAX_ROLLBACKS, MAX_SKIPPED_IN_A_ROW, DivergenceDetector
from chargen.training.rollbacks import checkpoint_to_return_to
from chargen.training.run import train

PLAY = "To be, or not to be: that is the question. Whether 'tis nobler in the mind to suffer\n"
PROGRAM = "0x41,0x7f;{}[]()<>=+*&^%$#@!~`|\\0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ\n"


def config_for(folder: Path, text: str, **trainer: Any) -> TrainConfig:
    """A small run on a text."""
    (folder / "t.txt").write_text(text, encoding="utf-8")
    return TrainConfig(
        corpus=CorpusConfig(name="t", path=str(folder / "t.txt")),
        model=ModelConfig(None, "gru", 16, 1, 8, dropout=0.0, weight_dropout=0.0),
        optimizer=OptimizerConfig(learning_rate=0.02, weight_decay=0.0, warmup_updates=5, final_fraction=0.1),
        trainer={"accelerator": "cpu", "devices": 1, "max_steps": 120, "gradient_clip_val": 1.0,
                 "num_sanity_val_steps": 0, "enable_model_summary": False, "log_every_n_steps": 5, **trainer},
        sequence_length=20,
        batch_size=2,
        run_dir=str(folder / "run"),
        data_dir=str(folder / "data"),
        sample_length=0,
    )  # fmt: skip


class Outcome:
    """What a run has printed, and its metrics."""

    def __init__(self, run_dir: Path, console: Console) -> None:
        self._run_dir, self._console = run_dir, console

    @property
    def printed(self) -> str:
        return self._console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    @property
    def rows(self) -> list[dict[str, str]]:
        with open(self._run_dir / "metrics.csv", encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))


def prepare_run(config: TrainConfig) -> tuple[Outcome, Callable[[], float]]:
    """The outcome of a run, and a function that does the run."""
    console = Console(file=io.StringIO(), width=200)
    corpus = load_corpus(config.corpus, Path(config.data_dir))
    Path(config.run_dir).mkdir(exist_ok=True)
    return Outcome(Path(config.run_dir), console), lambda: train(config, corpus, console=console, program="chargen")


def test_a_text_that_changes_is_learned(tmp_path: Path) -> None:
    """From a play to a program: the loss jumps far above the losses before, and no update is skipped."""
    config = config_for(tmp_path, PLAY * 60 + PROGRAM * 60, max_steps=300, log_every_n_steps=1)
    outcome, run = prepare_run(replace(config, batch_size=1))
    run()
    losses = [float(row["train_nats_per_char"]) for row in outcome.rows if row["train_nats_per_char"]]
    known = losses[200:250]
    mean = statistics.mean(known)
    assert max(losses[250:]) > mean + DEVIATIONS * statistics.mean(abs(loss - mean) for loss in known) + MARGIN
    assert losses[-1] < max(losses[250:]) - MARGIN
    assert "skipped" not in outcome.printed
    assert not any(row["skipped"] for row in outcome.rows)


def test_an_unclipped_rnn_explodes_and_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recurrent weights three times too large, over 400 ticks: the gradient exceeds float32.

    The run returns three times, each time with half the rate, and then ends with what was seen.
    """
    initialize = StackedRNN.reset_parameters

    def large(net: StackedRNN) -> None:
        initialize(net)
        net.get_parameter("weight_hh_l0").data.mul_(3)

    monkeypatch.setattr(StackedRNN, "reset_parameters", large)
    config = config_for(tmp_path, PLAY * 100, gradient_clip_val=None)
    config = replace(config, model=replace(config.model, cell="rnn", hidden_size=64), sequence_length=400)
    outcome, run = prepare_run(config)
    message = "the run diverges, at update 9 the gradient is not finite: .* 3 rollbacks with half the rate each did not"
    with pytest.raises(UserError, match=f"{message} help: write optimizer.learning_rate=0.002 or trainer.gradient_cl"):
        run()
    assert [row["rollbacks"] for row in outcome.rows if row["rollbacks"]] == ["1", "2", "3"]
    assert outcome.printed.count("back to update 0, with half the learning rate") == MAX_ROLLBACKS
    assert outcome.printed.count("update 0 is skipped: the gradient is not finite") == MAX_ROLLBACKS + 1


def poison(monkeypatch: pytest.MonkeyPatch, is_poisoned: Callable[[DivergenceDetector, int], bool]) -> None:
    """Make the gradients of some updates infinite.

    `is_poisoned` is asked for each update, which is counted from 0 over all attempts at the run.
    """
    observe, count = DivergenceDetector.observe, 0

    def poisoned(detector: DivergenceDetector, loss: float, norm: float, *rest: Any) -> str:
        nonlocal count
        count += 1
        return observe(detector, loss, math.inf if is_poisoned(detector, count - 1) else norm, *rest)

    monkeypatch.setattr(DivergenceDetector, "observe", poisoned)


def test_a_rollback_continues_from_the_last_checkpoint_with_half_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients from update 50 on are infinite until the run has returned once."""
    poison(monkeypatch, lambda detector, update: update >= 50 and detector.rollbacks == 0)
    outcome, run = prepare_run(replace(config_for(tmp_path, PLAY * 100), save_every_updates=40))
    run()
    assert "update 50 is skipped: the gradient is not finite" in outcome.printed
    assert "back to update 4" in outcome.printed  # 40, or one after a validation
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["optimizer"]["learning_rate"] == 0.02
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 120
    assert saved["chargen"]["detector"]["rollbacks"] == 1
    rows = outcome.rows
    rates = {int(row["update"]): float(row["learning_rate"]) for row in rows if row["learning_rate"]}
    for update, rate in rates.items():
        cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (update - 1) / 120))
        halved = 0.5 if update > 49 else 1.0
        assert rate == pytest.approx(0.02 * min(1, update / 6) * cosine * halved, rel=1e-4), update
    assert len([row for row in rows if row["skipped"]]) == MAX_SKIPPED_IN_A_ROW
    assert [row["update"] for row in rows if row["rollbacks"]] == ["59"]


def test_a_run_that_is_told_to_stop_does_not_roll_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes with the last update of the detector's patience; the run stops all the same."""

    def is_poisoned(detector: DivergenceDetector, update: int) -> bool:
        if detector.streak == MAX_SKIPPED_IN_A_ROW - 1:
            signal.raise_signal(signal.SIGTERM)
        return update >= 50

    poison(monkeypatch, is_poisoned)
    outcome, run = prepare_run(replace(config_for(tmp_path, PLAY * 100), save_every_updates=40))
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 128 + signal.SIGTERM
    message = r"stopped at update 59 and saved as of update 4\d; continue with\n  chargen train resume="
    assert re.search(message, outcome.printed)
    assert "with half the learning rate" not in outcome.printed
    assert not [row for row in outcome.rows if row["rollbacks"]]


def test_the_checkpoint_of_a_rollback(chargen: Callable[..., tuple[int, str, str]], away: Path) -> None:
    """The last one; the one before if the last led to divergence; the resumed one while nothing has been saved."""
    (away / "t.txt").write_text(PLAY * 100, encoding="utf-8")
    words = ["model=tiny", "trainer.max_steps=6", "save_every_updates=4", "sample_length=0"]
    assert chargen("train", "t.txt", *words, "run_dir=r")[0] == 0
    last, previous = away / "r" / "last.ckpt", away / "r" / "last.previous.ckpt"
    saved = torch.load(previous, weights_only=True)["global_step"]
    assert 0 < saved < 6

    def returned_to(run_dir: Path, has_saved: bool, resume: Path | None, last_rollback: int) -> tuple[Path, int] | None:
        attempt: Any = SimpleNamespace(
            context=SimpleNamespace(run_dir=run_dir), checkpoints=SimpleNamespace(has_saved=has_saved), resume=resume
        )
        found = checkpoint_to_return_to(attempt, last_rollback)
        return None if found is None else (found.file, found.update)

    assert returned_to(away / "r", True, None, -1) == (last, 6)
    assert returned_to(away / "r", True, None, 6) == (previous, saved)
    assert returned_to(away / "r", False, previous, -1) == (previous, saved)
    assert returned_to(away, False, None, -1) is None
