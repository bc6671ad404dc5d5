"""A run is as long as its settings say, in seconds, updates and passes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chargen.config import ModelConfig, TrainConfig
from chargen.errors import ConfigError
from chargen.nn.model import CharRNN
from chargen.planning.length import RunLength, RunPlan, clock_time, extended_time
from chargen.training.windows import Lanes

CONFIG = TrainConfig(run_dir="r", sequence_length=10, batch_size=2, model=ModelConfig(None, "lstm", 6, 2, 3))


def plan_for(trainer: dict[str, Any], num_characters: int = 2001) -> RunPlan:
    """Two lanes of windows of 10 characters: 100 windows in a pass over 2,001 characters."""
    return RunPlan(replace(CONFIG, trainer=trainer), num_characters, 7)


@pytest.mark.parametrize(
    ("trainer", "length"),
    [
        ({}, (180.0, None)),
        ({"max_time": None, "max_steps": -1, "max_epochs": -1}, (180.0, None)),
        ({"max_steps": 50}, (None, 50)),
        ({"max_epochs": 3}, (None, 300)),
        ({"max_epochs": 3, "accumulate_grad_batches": 8}, (None, 39)),
        ({"max_epochs": 3, "max_steps": 50}, (None, 50)),
        ({"max_time": "00:00:01:00", "max_steps": 50}, (60.0, 50)),
    ],
)
def test_the_length_follows_the_trainers_settings(
    trainer: dict[str, Any], length: tuple[float | None, int | None]
) -> None:
    assert plan_for(trainer).length == RunLength(*length)


@pytest.mark.parametrize("num_characters", [41, 42, 60, 61, 62, 2001, 12345])
def test_windows_per_pass_are_those_of_the_lanes(num_characters: int) -> None:
    lanes = Lanes(np.zeros(num_characters, np.uint8), 2, 10)
    assert plan_for({}, num_characters).windows_per_pass == len(lanes) == len(list(lanes))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_characters_seen_are_the_targets_of_the_windows(accumulate: int) -> None:
    lanes = Lanes(np.zeros(2001, np.uint8), 2, 10)
    plan, counts = plan_for({"accumulate_grad_batches": accumulate}), [batch.num_targets for batch in lanes]
    for updates in (0, 1, 7, 33):
        assert plan.characters_seen(updates) == sum(counts[: updates * accumulate])
    if accumulate == 1:
        assert plan.characters_seen(250) == 2 * sum(counts) + sum(counts[:50])


def test_the_number_of_parameters_is_that_of_the_model() -> None:
    model = CharRNN(replace(CONFIG.model, vocab_size=7))
    assert plan_for({}).num_parameters == sum(p.numel() for p in model.parameters())


def test_passes_of_a_run() -> None:
    """By updates, by time at a measured speed, and by whichever ends first."""
    assert plan_for({"max_steps": 250}).num_passes(lambda: math.nan) == 2.5
    assert plan_for({"max_steps": 250, "accumulate_grad_batches": 2}).num_passes(lambda: math.nan) == 5.0
    assert plan_for({"max_time": "00:00:00:10"}).num_passes(lambda: 2000.0) == 10.0
    assert plan_for({"max_time": "00:00:00:10", "max_steps": 250}).num_passes(lambda: 2000.0) == 2.5


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (61.4, "1:01"), (3599.9, "1:00:00"), (7325, "2:02:05")])
def test_durations_are_written_for_people(seconds: float, shown: str) -> None:
    assert clock_time(seconds) == shown


@pytest.mark.parametrize(
    ("trainer", "windows"),
    [
        ({"limit_train_batches": 5}, 5),
        ({"limit_train_batches": 0.25}, 25),
        ({"limit_train_batches": 1.0}, 100),
        ({"limit_train_batches": 1}, 1),
        ({"limit_train_batches": 3.0}, 3),
        ({"limit_train_batches": 1000}, 100),
        ({"overfit_batches": 2}, 2),
        ({"overfit_batches": 0.02, "limit_train_batches": 50}, 2),
        ({"overfit_batches": 0, "limit_train_batches": None}, 100),
    ],
)
def test_a_limited_pass_has_fewer_windows(trainer: dict[str, Any], windows: int) -> None:
    """As Lightning counts them: a number of windows, or a fraction with a decimal point."""
    plan = plan_for({**trainer, "max_epochs": 3})
    assert plan.windows_per_pass == plan.updates_per_pass == windows
    assert plan.length.max_updates == 3 * windows
    assert plan.characters_seen(3 * windows) == 3 * min(20 * windows, 2000)


def test_a_limit_that_leaves_no_window_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^trainer\.limit_train_batches=0\.001: a pass has 100 windows"):
        plan_for({"limit_train_batches": 0.001}).windows_per_pass  # noqa: B018


@pytest.mark.parametrize("accumulate", [1, 3, 7, 100, 300])
def test_characters_seen_are_never_more_than_were_read(accumulate: int) -> None:
    """The last update of a pass averages the windows that are left, so every pass ends with an update."""
    plan, passes = plan_for({"accumulate_grad_batches": accumulate}), 3
    updates = passes * math.ceil(100 / accumulate)
    assert plan.characters_seen(updates) == passes * 2000
    counts = [plan.characters_seen(update) for update in range(updates + 1)]
    assert all(before < after <= before + 20 * accumulate for before, after in itertools.pairwise(counts))


@pytest.mark.parametrize(
    ("trainer", "number"),
    [
        ({}, 10),
        ({"val_check_interval": 50}, 6),
        ({"val_check_interval": 0.25}, 12),
        ({"val_check_interval": 1.0, "check_val_every_n_epoch": 3}, 1),
        ({"check_val_every_n_epoch": 1}, 3),
        ({"val_check_interval": "00:00:00:20", "max_time": "00:00:02:00"}, 6),
        ({"val_check_interval": 50, "accumulate_grad_batches": 2}, 12),
    ],
)
def test_the_number_of_validations_follows_the_settings(trainer: dict[str, Any], number: int) -> None:
    """300 updates of one window each are three passes; two windows in an update make 600 windows."""
    assert plan_for(trainer).num_validations(300) == number


def test_validations_together_read_a_fifth_of_what_is_trained() -> None:
    for trainer, validations in (({}, 10), ({"val_check_interval": 10}, 30)):
        plan = plan_for(trainer)
        assert plan.validated_characters(300) == int(0.2 * plan.characters_seen(300) / validations)


@pytest.mark.parametrize(
    ("trainer", "validates"),
    [
        ({"max_steps": 5}, True),
        ({"max_steps": 5, "limit_val_batches": 0}, False),
        ({"max_steps": 5, "limit_val_batches": 0.0}, False),
        ({"max_steps": 5, "limit_val_batches": 0, "overfit_batches": 1}, True),
        ({"max_epochs": 2, "check_val_every_n_epoch": 3}, False),
        ({"max_epochs": 3, "check_val_every_n_epoch": 3}, True),
    ],
)
def test_a_run_without_validations_is_recognized(trainer: dict[str, Any], validates: bool) -> None:
    assert plan_for(trainer).has_validations is validates


@pytest.mark.parametrize(
    ("given", "elapsed", "planned", "total"),
    [
        (60.0, 59.0, 60.0, 119.0),  # the same time once more
        (30.0, 59.0, 60.0, 89.0),  # less than it has had
        (90.0, 59.0, 60.0, 90.0),  # a longer time is that of the whole run
        (60.0, 20.0, None, 60.0),  # a run that was stopped has the rest of its time
        (10.0, 20.0, None, 30.0),
    ],
)
def test_a_time_that_a_run_has_had_is_added(given: float, elapsed: float, planned: float | None, total: float) -> None:
    assert extended_time(given, elapsed, planned) == total


@pytest.mark.parametrize(
    "trainer", [{"max_steps": 3}, {"max_epochs": 1}, {"max_time": "00:00:00:59"}, {"max_time": "00:01:00:00"}]
)
def test_advice_is_given_only_where_the_time_is_meant(trainer: dict[str, Any]) -> None:
    """Not to somebody who has set a number of updates or of passes, or tries a run of seconds."""
    advised = plan_for(trainer).advice(3)
    assert ("a longer run learns more" in advised) == (trainer == {"max_time": "00:01:00:00"})
    assert advised.startswith("0.0 passes over 2,000 characters")
