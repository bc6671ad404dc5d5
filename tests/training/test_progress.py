"""The line of a progress bar fits the terminal."""

from __future__ import annotations

import pytest

from chargen.training.progress import joined

PARTS = {"loss 1.234 nats": 0, "1.780 bpc": 3, "120.0 k chars/s": 2, "clipped 3%": 4, "ends in 1:02:03": 1}


def test_parts_are_left_out_by_rank_until_the_rest_fits() -> None:
    by_rank = sorted(PARTS, key=PARTS.__getitem__)
    for width in range(15, 100):
        kept = joined(PARTS, width).split("  ")
        fits = [num for num in range(1, 6) if sum(map(len, by_rank[:num])) + 2 * (num - 1) <= width]
        assert kept == [part for part in PARTS if part in by_rank[: max(fits)]]


@pytest.mark.parametrize("width", [0, 5, 14])
def test_one_part_is_always_shown(width: int) -> None:
    assert joined(PARTS, width) == "loss 1.234 nats"


def test_without_a_width_everything_is_shown() -> None:
    assert joined(PARTS) == "  ".join(PARTS)
