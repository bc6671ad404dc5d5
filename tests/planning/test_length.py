"""A run is as long as its settings say, in seconds, updates and passes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from chargen.config import ModelConfig, TrainConfig
from chargen.nn.model import CharRNN
from chargen.planning.length import RunLength, RunPlan, clock_time
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
    assert plan_for({"max_time": "00:00:00:10"}).num_passes(lambda: 2001.0) == 10.0
    assert plan_for({"max_time": "00:00:00:10", "max_steps": 250}).num_passes(lambda: 2001.0) == 2.5


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (61.4, "1:01"), (3599.9, "1:00:00"), (7325, "2:02:05")])
def test_durations_are_written_for_people(seconds: float, shown: str) -> None:
    assert clock_time(seconds) == shown
