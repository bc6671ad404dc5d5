"""A run that follows the advice gets no further advice."""

from __future__ import annotations

import re

import pytest

from chargen.durations import parse_duration
from chargen.planning.advice import (
    GOOD_PASSES,
    TOO_FEW,
    TOO_MANY,
    TrainingText,
    advice,
    good_passes,
    num_passes_in_words,
    weight_dropout,
)

TEXT = TrainingText(num_characters=12345, updates_per_pass=100, num_parameters=12345)


def typed(text: str) -> dict[str, str]:
    return dict(re.findall(r"(trainer\.\w+)=([\d:]+)", text))


def test_good_passes() -> None:
    """Twelve if there are as many characters as parameters, 24 for half the parameters, and always within bounds."""
    assert good_passes(10**6, 10**6) == GOOD_PASSES
    assert good_passes(10**6, 10**6 // 2) == 2 * GOOD_PASSES
    assert good_passes(10**3, 10**6) < GOOD_PASSES < good_passes(10**9, 10**6) < 50


@pytest.mark.parametrize("updates", [3, 1190, 3590, 3610, 6001, 10**7])
def test_advice_is_given_for_too_few_and_too_many_passes(updates: int) -> None:
    told = advice(updates, TEXT, 3600.0)
    wrong = not TOO_FEW * GOOD_PASSES <= updates / 100 <= TOO_MANY * GOOD_PASSES
    assert wrong == ("trainer.max_time" in told)
    assert told.startswith(num_passes_in_words(updates, TEXT))
    assert told.startswith(f"{updates / 100:.0f} passes" if updates > 1000 else f"{updates / 100:.1f} passes")
    assert "12,345" in told


@pytest.mark.parametrize(("updates", "seconds"), [(3, 60.0), (10**4, 180.0), (10**5, 90_000.0)])
def test_the_advised_time_gives_the_good_number_of_passes(updates: int, seconds: float) -> None:
    """It can be typed, and a run of that time gets no further advice."""
    told = typed(advice(updates, TEXT, seconds))
    again = parse_duration(told["trainer.max_time"])
    passes = updates / 100 * again / seconds
    assert passes == pytest.approx(GOOD_PASSES, rel=0.25)
    assert "trainer" not in advice(round(100 * passes), TEXT, again)


def test_a_short_run_is_never_advised_to_be_shorter() -> None:
    assert "trainer" not in advice(10**5, TrainingText(10**4, 10, 10**6), 180.0)


def test_weights_are_dropped_if_a_text_is_read_often_for_its_size() -> None:
    """The measured cases: a million characters twelve times, and in 15 s; the Python reference 27 times; an hour."""
    assert weight_dropout(12, 1_003_854, 926_467) == weight_dropout(2.7, 1_003_854, 268_803) == 0
    assert weight_dropout(27, 418_543, 948_393) == 0.3
    assert weight_dropout(98, 1_003_854, 1_977_347) == 0.4
    assert "trainer" not in advice(27 * 100, TrainingText(418_543, 100, 948_393), 180.0, dropped=0.3)
