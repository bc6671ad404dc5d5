"""The measurement of training speed returns rates and leaves no trace."""

from __future__ import annotations

import math

import pytest
import torch
from support.model_configs import small_config

from chargen.nn import speed
from chargen.nn.speed import LOOP_SECONDS, NUM_ROUNDS, measure_speed, measure_speeds


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "ROUND_SECONDS", 0.0)


def test_speed_is_a_positive_number() -> None:
    rate = measure_speed(small_config("gru", dropout=0.4), batch_size=2, sequence_length=6)
    assert math.isfinite(rate)
    assert rate > 0


def test_speed_leaves_the_random_generator_as_it_was() -> None:
    """Weights, characters, dropout and dropped weights are random; none of them may change what comes after."""
    before = torch.random.get_rng_state()
    measure_speed(small_config("lstm", dropout=0.4, weight_dropout=0.2), batch_size=2, sequence_length=6)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_speeds_are_the_characters_of_the_timed_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models in turns, with a clock by which their rounds of one update take 1, 2, ... 10 seconds."""
    assert NUM_ROUNDS == 5
    times = (time for number in range(1, 11) for time in (0.0, float(number)))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(times))
    calls: list[None] = []
    found = measure_speeds([small_config(), small_config("rnn")], 2, 6, lambda: calls.append(None))
    for number, rates in enumerate(found, start=1):
        seconds = (number + 8, number + 4, number)  # of the slowest, the middle and the fastest round
        assert list(rates) == pytest.approx([2 * 6 / (duration + LOOP_SECONDS) for duration in seconds])
    assert len(calls) == 2 * (NUM_ROUNDS + 1)


def test_a_round_is_as_long_as_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock by which an update takes a quarter of a second, a round of a second has four updates."""
    monkeypatch.setattr(speed, "ROUND_SECONDS", 1.0)
    ticks = iter(range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: 0.25 * next(ticks))
    assert measure_speed(small_config(), batch_size=2, sequence_length=6) == pytest.approx(12 / (0.25 + LOOP_SECONDS))
    # The first update is not timed. Each round reads the clock when it begins and after each of its updates.
    assert next(ticks) == NUM_ROUNDS * 5


def test_the_timed_updates_are_those_of_an_optimizer() -> None:
    """An update changes every parameter."""
    models: list[torch.nn.Module] = []

    class Recorded(speed.CharRNN):
        def __init__(self, config):
            super().__init__(config)
            models.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "CharRNN", Recorded)
        update = speed._updates(small_config(), 2, 6)
    before = [parameter.detach().clone() for parameter in models[0].parameters()]
    update()
    assert all(not torch.equal(old, new) for old, new in zip(before, models[0].parameters(), strict=True))
