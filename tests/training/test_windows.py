"""Lanes are the text: every character is predicted once, in order, from wherever the pass stood."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chargen.training.windows import IGNORE_INDEX, Lanes, WindowLoader


def rejoined(lanes: Lanes) -> tuple[list[list[int]], list[list[int]]]:
    """Inputs and targets of every lane, windows joined, what is ignored left out."""
    batches = list(lanes)
    inputs, targets = (torch.cat([batch[part] for batch in batches], dim=1) for part in (0, 1))
    kept = targets != IGNORE_INDEX
    return [row[keep].tolist() for row, keep in zip(inputs, kept, strict=True)], [
        row[keep].tolist() for row, keep in zip(targets, kept, strict=True)
    ]


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 60))
def test_every_character_is_predicted_once(batch_size: int, sequence_length: int, extra: int) -> None:
    ids = np.arange(batch_size * sequence_length + 1 + extra)  # all different, so that order shows
    lanes = Lanes(ids, batch_size, sequence_length)
    inputs, targets = rejoined(lanes)
    assert sum(targets, []) == ids[1:].tolist()
    assert sum(inputs, []) == ids[:-1].tolist()
    sizes = [len(lane) for lane in targets]
    assert max(sizes) - min(sizes) <= 1


def test_windows_touch_and_only_the_first_starts() -> None:
    """The last target of a window is the first input of the next."""
    batches = list(Lanes(np.arange(101), 4, 6))
    assert [batch.starts for batch in batches] == [True] + [False] * 4
    for before, after in itertools.pairwise(batches):
        assert torch.equal(before.targets[:, -1], after.inputs[:, 0])


@pytest.mark.parametrize("position", range(6))
def test_a_pass_goes_on_at_the_exact_window(position: int) -> None:
    whole = list(Lanes(np.arange(101), 4, 6))
    first = WindowLoader(Lanes(np.arange(101), 4, 6))
    iterator = iter(first)
    for _ in range(position):
        next(iterator)
    second = WindowLoader(Lanes(np.arange(101), 4, 6))
    second.load_state_dict(first.state_dict())
    rest = list(second)
    expected = whole[position:] or whole  # a pass that was over begins again
    assert len(rest) == len(expected)
    for got, want in zip(rest, expected, strict=True):
        assert torch.equal(got.inputs, want.inputs)
        assert got.starts == want.starts


def test_each_pass_begins_again() -> None:
    reading = WindowLoader(Lanes(np.arange(101), 4, 6))
    first, second = list(reading), list(reading)
    assert len(first) == len(second) == len(reading) == 5
    assert second[0].starts


def test_lanes_have_no_memory_but_a_reading_has() -> None:
    """Validation that is cut short must see the same windows each time; training must not."""
    lanes = Lanes(np.arange(101), 4, 6)
    assert next(iter(lanes)).starts
    assert next(iter(lanes)).starts
    reading = WindowLoader(lanes)
    assert next(iter(reading)).starts
    assert not next(iter(reading)).starts


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_ranks_share_the_lanes(num_ranks: int) -> None:
    """Rank r of W reads lanes r*B/W and on: together they read what one process reads."""
    ids = np.arange(103)
    for together in range(len(Lanes(ids, 4, 6))):
        shares = [Lanes(ids, 4, 6, rank, num_ranks).window(together) for rank in range(num_ranks)]
        one = Lanes(ids, 4, 6).window(together)
        assert torch.equal(torch.cat([share.inputs for share in shares]), one.inputs)
        assert torch.equal(torch.cat([share.targets for share in shares]), one.targets)
        assert {share.num_targets for share in shares} == {int((one.targets != IGNORE_INDEX).sum())}


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"too little text: 100 characters .* write batch_size=9 or less"):
        Lanes(np.arange(100), 10, 11)
    with pytest.raises(ValueError, match="batch_size=1 sequence_length=49"):
        Lanes(np.arange(99), 2, 200)
    with pytest.raises(ValueError, match="more text"):
        Lanes(np.arange(5), 2, 200)
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        Lanes(np.arange(100), 4, 6, 0, 3)
    shown = Lanes(np.arange(100), 9, 11)  # what the first message says to write
    assert len(shown) == 1
