"""Who does as advised is advised no more."""

from __future__ import annotations

import re

import pytest

from chargen.config import parse_duration
from chargen.planning.advice import GOOD, OFTEN, SELDOM, advice, good_passes, weight_dropout


def typed(text: str) -> dict[str, str]:
    return dict(re.findall(r"(trainer\.\w+)=([\d:]+)", text))


def test_what_is_good() -> None:
    """Twelve passes for as many characters as parameters; twice as often for half as many parameters; within bounds."""
    assert good_passes(10**6, 10**6) == GOOD
    assert good_passes(10**6, 10**6 // 2) == 2 * GOOD
    assert good_passes(10**3, 10**6) < GOOD < good_passes(10**9, 10**6) < 50


@pytest.mark.parametrize("updates", [3, 1190, 3590, 3610, 6001, 10**7])
def test_a_length_in_updates(updates: int) -> None:
    told = advice(updates, 100, 12345, 12345, None)
    wrong = not SELDOM * GOOD <= updates / 100 <= OFTEN * GOOD
    assert wrong == ("trainer.max_steps" in told)
    assert told.startswith(f"{updates / 100:.0f} passes" if updates > 1000 else f"{updates / 100:.1f} passes")
    assert "12,345" in told
    if wrong:
        again = int(typed(told)["trainer.max_steps"])
        assert again == pytest.approx(GOOD * 100, rel=0.01)
        assert "trainer" not in advice(again, 100, 12345, 12345, None)


@pytest.mark.parametrize(("updates", "seconds"), [(3, 60.0), (10**4, 180.0), (10**5, 90_000.0)])
def test_a_length_in_minutes(updates: int, seconds: float) -> None:
    """The time that is named is one that can be typed, and lets the text be read as often as is good for it."""
    told = typed(advice(updates, 100, 12345, 12345, seconds))
    passes = updates / 100 * parse_duration(told["trainer.max_time"]) / seconds
    assert passes == pytest.approx(GOOD, rel=0.25)


def test_a_small_text_is_not_told_to_be_left_after_seconds() -> None:
    assert "trainer" not in advice(10**5, 10, 10**4, 10**6, 180.0)


def test_weights_are_dropped_where_a_text_is_read_often_for_its_size() -> None:
    """As measured: a million characters twelve times, and fifteen seconds; the Python reference 27 times; an hour."""
    assert weight_dropout(12, 1_003_854, 926_467) == weight_dropout(2.7, 1_003_854, 268_803) == 0
    assert weight_dropout(27, 418_543, 948_393) == 0.3
    assert weight_dropout(98, 1_003_854, 1_977_347) == 0.4
    assert "trainer" not in advice(27 * 100, 100, 418_543, 948_393, 180.0, 0.3)
