"""The forecast of the end of a run, on curves whose end is known."""

from __future__ import annotations

import math

import pytest

from chargen.planning.forecast import Validation, forecast


def curve(progress: float, a: float = 1.4, b: float = 0.06, d: float = 0.1) -> Validation:
    """A validation of a run that follows the formula, with a cosine for the learning rate."""
    rate = (1 + math.cos(math.pi * progress)) / 2
    return Validation(progress, a + b * progress**-0.7 + d * rate, rate)


@pytest.mark.parametrize("number", [3, 5, 9])
def test_the_end_of_a_curve_of_the_formula_is_exact(number: int) -> None:
    """L(1) = a + b, because the learning rate is zero then."""
    assert forecast([curve(step / 10) for step in range(1, number + 1)]) == pytest.approx(1.46, abs=1e-9)


def test_another_noise_is_found_from_many_validations() -> None:
    points = [curve(step / 20, d=0.3) for step in range(1, 20)]
    assert forecast(points) == pytest.approx(1.46, abs=0.02)
    assert abs(forecast(points[:4]) - 1.46) > abs(forecast(points) - 1.46)


def test_few_validations_give_none() -> None:
    assert forecast([curve(0.1), curve(0.2)]) is None
    assert forecast([curve(0.1), curve(0.2), Validation(0.3, math.nan, 0.5)]) is None
    assert forecast([Validation(0.0, 4.0, 0.0)] * 5) is None
