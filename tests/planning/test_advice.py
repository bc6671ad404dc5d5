"""A run that follows the advice gets no further advice."""

from __future__ import annotations

import re

import pytest

from chargen.planning.advice import (
    GOOD_PASSES,
    TOO_FEW,
    TOO_MANY,
    TrainingText,
    advice,
    good_passes,
    weight_dropout,
)
from chargen.trainer_config import parse_duration

TEXT = TrainingText(num_characters=12345, updates_per_pass=100, num_parameters=12345)


def typed(text: str) -> dict[str, str]:
    return dict(re.findall(r"(trainer\.\w+)=([\d:]+)", text))


def test_good_passes() -> None:
    """Twelve if there are as many characters as parameters, 24 for half the parameters, and always within bounds."""
    assert good_passes(10**6, 10**6) == GOOD_PASSES
    assert good_passes(10**6, 10**6 // 2) == 2 * GOOD_PASSES
    assert good_passes(10**3, 10**6) < GOOD_PASSES < good_passes(10**9, 10**6) < 50


@pytest.mark.parametrize("updates", [3, 1190, 3590, 3610, 6001, 10**7])
def test_advice_for_a_length_in_updates(updates: int) -> None:
    told = advice(updates, TEXT)
    wrong = not TOO_FEW * GOOD_PASSES <= updates / 100 <= TOO_MANY * GOOD_PASSES
    assert wrong == ("trainer.max_steps" in told)
    assert told.startswith(f"{updates / 100:.0f} passes" if updates > 1000 else f"{updates / 100:.1f} passes")
    assert "12,345" in told
    if wrong:
        again = int(typed(told)["trainer.max_steps"])
        assert again == pytest.approx(GOOD_PASSES * 100, rel=0.01)
        assert "trainer" not in advice(again, TEXT)


@pytest.mark.parametrize(("updates", "seconds"), [(3, 60.0), (10**4, 180.0), (10**5, 90_000.0)])
def test_advice_for_a_length_in_time(updates: int, seconds: float) -> None:
    """The advised time can be typed, and gives the good number of passes."""
    told = typed(advice(updates, TEXT, seconds=seconds))
    passes = updates / 100 * parse_duration(told["trainer.max_time"]) / seconds
    assert passes == pytest.approx(GOOD_PASSES, rel=0.25)


def test_a_short_run_is_never_advised_to_be_shorter() -> None:
    assert "trainer" not in advice(10**5, TrainingText(10**4, 10, 10**6), seconds=180.0)


def test_weights_are_dropped_if_a_text_is_read_often_for_its_size() -> None:
    """The measured cases: a million characters twelve times, and in 15 s; the Python reference 27 times; an hour."""
    assert weight_dropout(12, 1_003_854, 926_467) == weight_dropout(2.7, 1_003_854, 268_803) == 0
    assert weight_dropout(27, 418_543, 948_393) == 0.3
    assert weight_dropout(98, 1_003_854, 1_977_347) == 0.4
    assert "trainer" not in advice(27 * 100, TrainingText(418_543, 100, 948_393), seconds=180.0, dropped=0.3)
