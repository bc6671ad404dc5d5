"""Advice about the clipping threshold: half to ten times the mean norm."""

from __future__ import annotations

import math

import pytest

from chargen.planning.clipping import clip_advice


def test_the_range_is_half_to_ten_times_the_mean() -> None:
    assert clip_advice([1.0, 2.0, 6.0]) == pytest.approx((3.0, 1.5, 30.0))


def test_explosions_do_not_decide() -> None:
    """The mean of these norms is above 3,000, and most of them are 2."""
    assert clip_advice([2.0] * 30 + [1e5]) == pytest.approx((2.0, 1.0, 20.0))


def test_norms_that_are_not_finite_are_left_out() -> None:
    assert clip_advice([math.nan, math.inf, 4.0]) == pytest.approx((4.0, 2.0, 40.0))
    assert clip_advice([math.nan, 0.0]) is None
    assert clip_advice([]) is None
