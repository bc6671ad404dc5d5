"""The learning rate follows warm-up and cosine, and a given time is filled with updates."""

from __future__ import annotations

import pytest

from chargen.config import OptimizerConfig
from chargen.planning.schedule import Schedule, TimeBudget, learning_rate, updates_that_fit

OPTIMIZER = OptimizerConfig(learning_rate=1.0, warmup_updates=50, final_fraction=0.1)


@pytest.mark.parametrize("total", [None, 20, 1000])
def test_the_learning_rate_warms_up_and_decays(total: int | None) -> None:
    rates = [learning_rate(update, Schedule(total), OPTIMIZER) for update in range((total or 1000) + 1)]
    peak = min(50, total // 10) if total else 50
    assert rates[0] == pytest.approx(1 / (peak + 1), rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(peak, abs=1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 if total else 1.0)


def test_a_corrected_schedule_continues_from_its_present_progress() -> None:
    """The progress does not jump when the end moves, nearer or further, and reaches 1 at the new end."""
    schedule = Schedule(1000)
    for update, total in ((300, 2000), (900, 1000)):
        moved = Schedule(total, update, schedule.progress_at(update))
        assert moved.progress_at(update) == schedule.progress_at(update)
        assert moved.progress_at(total) == pytest.approx(1.0)
        halfway = (moved.progress_at(update) + 1) / 2
        assert moved.progress_at((update + total) // 2) == pytest.approx(halfway)
        schedule = moved
    assert Schedule(1000).progress_at(250) == 0.25
    assert Schedule().progress_at(250) == 0.0


def test_the_scale_multiplies_the_learning_rate() -> None:
    for update in (0, 30, 700):
        full = learning_rate(update, Schedule(1000), OPTIMIZER)
        assert learning_rate(update, Schedule(1000), OPTIMIZER, 0.25) == pytest.approx(full / 4)


def test_updates_that_fit_leave_out_two_in_a_hundred() -> None:
    fit = updates_that_fit(90.0, 0.01)
    assert fit == pytest.approx(0.98 * 9000, abs=1)
    assert fit * 0.01 <= 90
    assert updates_that_fit(0.001, 10.0) == 1


def test_a_time_budget_estimates_the_updates_of_the_run() -> None:
    """An update takes 0.1 s, a validation 1 s: 98 % of the updates that fit into the rest of 100 s are planned."""
    budget = TimeBudget(100.0)
    budget.start(0, 0.0)
    assert not budget.is_due(0.99)
    assert budget.is_due(1.0)
    assert budget.estimate_total(9, 1.0, 0.0, 7.0) is None  # the first updates are slow, and are not measured
    assert not budget.is_due(9.9)
    total = budget.estimate_total(99, 11.0, 1.0, 9.0)  # 90 updates in 10 s, of which 1 s was validation
    assert total == 99 + updates_that_fit(89.0 - 9.0, 0.1)
    assert not budget.is_due(19.9)
    assert budget.is_due(20.0)


def test_a_time_budget_respects_a_limit_on_updates() -> None:
    budget = TimeBudget(100.0, max_updates=150)
    budget.start(0, 0.0)
    budget.estimate_total(9, 1.0, 0.0, 0.0)
    assert budget.estimate_total(99, 10.0, 0.0, 0.0) == 150


def test_a_resumed_time_budget_measures_from_its_start() -> None:
    """Resumed after 50 of 100 s: neither the first updates after that nor the time before it counts as measured."""
    budget = TimeBudget(100.0)
    budget.start(500, 50.0, 5.0)
    assert not budget.is_due(50.9)
    assert budget.estimate_total(502, 51.0, 5.0, 5.0) is None  # the first updates are slow
    total = budget.estimate_total(592, 61.0, 6.0, 4.0)  # 90 updates in 10 s, of which 1 s was validation
    assert total == 592 + updates_that_fit(39.0 - 4.0, 0.1)
