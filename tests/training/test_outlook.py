"""What a run says about its end and about n-grams."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.runs import V, corpus, module_for

from chargen.ngrams import ladder
from chargen.ngrams.kneser_ney import kneser_ney_probabilities
from chargen.training import outlook
from chargen.training.outlook import BARS, Outlook, sparkline


class Told(Outlook):
    """An outlook whose lines are kept."""

    def __init__(self, **settings: Any) -> None:
        self.lines: list[str] = []
        super().__init__(corpus(), None, lambda: 21.0, self.lines.append, **settings)


def validate(told: Outlook, nats: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_for("gru", 10)
    monkeypatch.setattr(outlook, "module_of", lambda trainer: module)
    trainer = SimpleNamespace(
        sanity_checking=False, global_step=5, callback_metrics={"validation_nats_per_char": nats}, is_global_zero=True
    )
    told.on_validation_end(trainer, module)


def test_n_grams_are_named_when_they_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    told.scores = [3.0, 2.5, 2.0]
    for nats in (3.5, 2.6, 2.7, 2.4, 1.9):
        validate(told, nats, monkeypatch)
    assert told.lines == [
        "past Kneser-Ney n-grams of order 1 (3.0000 nats/char) at 0:21",
        "past Kneser-Ney n-grams of order 2 (2.5000 nats/char) at 0:21",
        "past Kneser-Ney n-grams of order 3 (2.0000 nats/char) at 0:21",
    ]


def test_several_that_are_passed_at_once_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    told.scores = [3.0, 2.5, 2.0]
    validate(told, 2.2, monkeypatch)
    assert told.lines == ["past Kneser-Ney n-grams of order 2 (2.5000 nats/char) at 0:21"]


def test_n_grams_are_counted_beside_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process of its own; its scores are those of the probabilities."""
    monkeypatch.setattr(outlook, "SCORED", 20)
    monkeypatch.setattr(outlook, "AFTER_SECONDS", -1.0)
    told = Told()
    told.on_train_start(None, None)
    told.on_train_batch_end(None, None)
    folder = Path(told._folder.name)
    deadline = time.monotonic() + 60
    while told._process is not None and time.monotonic() < deadline:
        told._collect()
    text = corpus()
    expected = kneser_ney_probabilities(text.train, text.validation[:21], V, outlook.MAX_ORDER)
    assert told.scores == pytest.approx([float(-np.log(p).mean()) for p in expected])
    assert not folder.exists()


def test_a_run_that_ends_stops_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "SCORED", 20)
    monkeypatch.setattr(outlook, "AFTER_SECONDS", -1.0)
    told = Told()
    told.on_train_start(None, None)
    told.on_train_batch_end(None, None)
    process, folder = told._process, Path(told._folder.name)
    told.on_exception(None, None, KeyboardInterrupt())
    assert process.returncode is not None
    assert not folder.exists()


def test_a_short_run_is_not_disturbed() -> None:
    short = Outlook(corpus(), 15.0, lambda: 0.0, print)
    short.on_train_start(None, None)
    short._started_at -= 100
    short.on_train_batch_end(None, None)
    assert short._process is None


def test_the_ladder_reads_its_task(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 5, 300)
    np.save(tmp_path / "ids.npy", ids)
    task = {"ids": str(tmp_path / "ids.npy"), "num_train": 200, "vocab_size": 5, "max_order": 3}
    (tmp_path / "task.json").write_text(json.dumps(task))
    result = subprocess.run(
        [sys.executable, ladder.__file__, str(tmp_path / "task.json")], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == pytest.approx(ladder.ladder(ids[:200], ids[199:], 5, 3))


def test_a_sparkline_spans_its_numbers() -> None:
    assert sparkline([8.0, 4.0, 1.0]) == BARS[7] + BARS[3] + BARS[0]
    assert sparkline([1.0, 1.0]) == BARS[0] * 2
    assert sparkline([float("nan"), 1.0]) == ""
    assert len(sparkline(list(map(float, range(100))), 12)) == 12
    assert sparkline(list(map(float, range(100))), 8) == BARS
