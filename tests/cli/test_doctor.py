"""`chargen doctor` states what each size of model costs, by the functions that `chargen train` uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.environment import Command

from chargen.cli.conf_folder import SIZES, values
from chargen.config import TrainConfig, parse_model_config
from chargen.durations import parse_duration
from chargen.nn import speed
from chargen.nn.speed import Speed
from chargen.planning.advice import good_passes
from chargen.planning.length import RunPlan
from chargen.planning.size import training_megabytes

ROW = re.compile(
    r"  model=(\w+) +([0-9,]+) +([0-9,]+) MB +([0-9,]+) to ([0-9,]+) +(\d+)   trainer.max_time=(\S+), (\S+) to (\S+)"
)


def seconds_of(clock_time: str) -> float:
    return parse_duration(f"0:{'00:' * (2 - clock_time.count(':'))}{clock_time.zfill(5)}")


def test_costs_are_those_of_training(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measured speed of 1,234 to 5,678 characters per second, typically 2,000."""
    monkeypatch.setattr(speed, "measure_speeds", lambda configs, *_: [Speed(1234.0, 2000.0, 5678.0)] * len(configs))
    (away / "t.txt").write_text("abcdefgh\n" * 1000, encoding="utf-8")
    code, out, err = chargen("doctor", "t.txt")
    assert (code, err) == (0, "")
    rows = ROW.findall(out)
    assert [row[0] for row in rows] == list(SIZES)
    num_characters = 0.9 * 9000
    for name, parameters, megabytes, slowest, fastest, passes, max_time, shortest, longest in rows:
        model = parse_model_config({**values("model", name), "vocab_size": 9 + 2})
        assert int(parameters.replace(",", "")) == model.num_parameters
        assert int(megabytes.replace(",", "")) == round(training_megabytes(model, 16, 64))
        assert (slowest, fastest) == ("1,200", "5,700")
        num_passes = good_passes(num_characters, model.num_parameters)
        assert int(passes) == round(num_passes)
        # validations read a fifth as many characters, each in a third of the time
        times = [num_passes * num_characters / rate * (1 + 0.2 / 3) for rate in (2000.0, 5678.0, 1234.0)]
        assert [parse_duration(max_time), seconds_of(shortest), seconds_of(longest)] == pytest.approx(times, abs=1)


def test_the_time_for_some_passes_is_the_time_in_which_a_run_makes_them() -> None:
    """Up to validations."""
    trainer = {"max_time": "00:00:10:00"}
    plan = RunPlan(TrainConfig(trainer=trainer, model=parse_model_config({"vocab_size": 9})), 100_000, 9)
    passes = plan.num_passes(lambda: 4321.0)
    assert plan.seconds_for(passes, 4321.0) == pytest.approx(600, rel=0.07)


def test_a_text_that_is_too_short_is_not_timed(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measure_speeds", lambda *_: pytest.fail("timed"))
    (away / "t.txt").write_text("abcdefgh\n" * 100, encoding="utf-8")
    code, out, _ = chargen("doctor", "t.txt")
    assert code == 0
    assert "too short to train on with the defaults: write batch_size=1 sequence_length=405" in out
