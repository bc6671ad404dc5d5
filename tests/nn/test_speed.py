"""The measurement of training speed returns a rate and leaves no trace."""

from __future__ import annotations

import math

import torch
from support.model_configs import small_config

from chargen.nn import speed
from chargen.nn.speed import measure_speed


def test_speed_is_a_positive_number() -> None:
    rate = measure_speed(small_config("gru", dropout=0.4), batch_size=2, sequence_length=6)
    assert math.isfinite(rate)
    assert rate > 0


def test_speed_leaves_the_random_generator_as_it_was() -> None:
    """Weights, characters, dropout and dropped weights are random; none of them may change what comes after."""
    before = torch.random.get_rng_state()
    measure_speed(small_config("lstm", dropout=0.4, weight_dropout=0.2), batch_size=2, sequence_length=6)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_speed_counts_the_characters_of_the_timed_passes(monkeypatch) -> None:
    """With a clock that says that each pass takes 0.25 s, two passes of 2 x 6 characters give 48 per second."""
    ticks = iter(range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: 0.25 * next(ticks))
    assert measure_speed(small_config(), batch_size=2, sequence_length=6) == 48.0
