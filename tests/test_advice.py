"""Who does as advised is advised no more."""

from __future__ import annotations

import re

import pytest

from chargen.advice import GOOD, TOO_OFTEN, TOO_SELDOM, advice
from chargen.config import run_seconds


def typed(text: str) -> dict[str, str]:
    return dict(re.findall(r"(trainer\.\w+)=([\d:]+)", text))


@pytest.mark.parametrize("updates", [3, 190, 6001, 10**7])
def test_a_length_in_updates(updates: int) -> None:
    told = advice(updates, 100, 12345, None)
    wrong = not TOO_SELDOM <= updates / 100 <= TOO_OFTEN
    assert wrong == ("trainer.max_steps" in told)
    assert told.startswith(f"{updates / 100:.0f} passes" if updates > 1000 else f"{updates / 100:.1f} passes")
    assert "12,345" in told
    if wrong:
        again = int(typed(told)["trainer.max_steps"])
        assert again == pytest.approx(GOOD * 100, rel=0.01)
        assert "trainer" not in advice(again, 100, 12345, None)


@pytest.mark.parametrize(("updates", "seconds"), [(3, 60.0), (10**4, 180.0), (10**5, 90_000.0)])
def test_a_length_in_minutes(updates: int, seconds: float) -> None:
    """The time that is named is one that can be typed, and lets the text be read as often as is good for it."""
    told = typed(advice(updates, 100, 12345, seconds))
    passes = updates / 100 * run_seconds(told["trainer.max_time"]) / seconds
    assert passes == pytest.approx(GOOD, rel=0.25)
