"""How much of a text was copied: its longest run of characters that stands in the training text, and its long runs.

Runs are found by prefix doubling, the first half of a suffix array (Manber & Myers 1993): every place of both
texts gets a number for the 1, 2, 4, ... characters that begin there, equal numbers for equal characters. Only
what the short text has is numbered, so that ever fewer places of the long one are left to look at.

Dimensions: N characters of the training text, n of the text in question.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LONG = 20
"""Characters from which on a run counts as copied; shorter ones are the common property of a language."""

_PIECE = 1 << 22  # places of the training text at a time


class Novelty(NamedTuple):
    """What was found.

    Attributes:
        longest: characters of the longest run that stands in both texts.
        place: where in the text in question it begins.
        copied: the share of the text in question that lies in runs of `LONG` characters or more, 0 to 1.
    """

    longest: int
    place: int
    copied: float


def novelty(training: np.ndarray, text: np.ndarray) -> Novelty:
    """Compares a text with the one that it was learned from.

    Args:
        training: (N,) ids; may be a memory map.
        text: (n,) ids.

    Returns:
        Exact figures; nothing is estimated. Time grows with N log n.
    """
    text = text.astype(np.int64)
    if len(text) == 0 or len(training) == 0:
        return Novelty(0, 0, 0.0)
    longest, place, copied = 0, 0, np.zeros(len(text), bool)
    for begin in range(0, len(training), _PIECE):
        piece = training[begin : begin + _PIECE + len(text)]  # a run that begins in this piece ends in it
        runs = _Runs(np.asarray(piece).astype(np.int64), text)
        length, where = runs.longest(longest)
        if length > longest:
            longest, place = length, where
        for start in np.flatnonzero(runs.starts(LONG)):
            copied[start : start + LONG] = True
    return Novelty(longest, place, float(copied.mean()))


class _Runs:
    """Which runs of the text stand in the training text.

    `levels[k]` holds, for runs of 2^k characters, the text's numbers by place and the training text's places that
    begin with one of them, with their numbers.
    """

    def __init__(self, training: np.ndarray, text: np.ndarray) -> None:
        symbols, numbers = np.unique(text, return_inverse=True)
        table = np.full(max(int(training.max()), int(text.max())) + 1, -1)
        table[symbols] = np.arange(len(symbols))
        places = np.flatnonzero(table[training] >= 0)
        self._size, self._num = len(training), len(text)
        self.levels = [(numbers, places, table[training[places]])]
        while len(places) and 2 ** len(self.levels) <= len(text):
            level = self._pairs(len(self.levels) - 1, 2 ** (len(self.levels) - 1))
            if level is None:
                break
            self.levels.append(level)
            places = level[1]

    def _pairs(self, k: int, apart: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Runs of 2^k + `apart` characters, from two of 2^k that overlap or touch; None where there is none."""
        numbers, places, found = self.levels[k]
        count = int(numbers.max()) + 1
        if len(numbers) <= apart:
            return None
        of_text = numbers[:-apart] * count + numbers[apart:]
        at_place = np.full(self._size + apart, -1)
        at_place[places] = found
        second = at_place[places + apart]
        both = second >= 0
        of_training = found[both] * count + second[both]
        keys, numbers = np.unique(of_text, return_inverse=True)
        at = np.minimum(np.searchsorted(keys, of_training), len(keys) - 1)
        same = keys[at] == of_training
        return numbers, places[both][same], at[same]

    def starts(self, length: int) -> np.ndarray:
        """(n,) whether a run of so many characters begins here that stands in the training text."""
        k = length.bit_length() - 1
        result = np.zeros(self._num, bool)
        if k < len(self.levels):
            level = self.levels[k] if length == 1 << k else self._pairs(k, length - (1 << k))
            if level is not None:
                result[: len(level[0])] = np.isin(level[0], level[2])
        return result

    def longest(self, at_least: int) -> tuple[int, int]:
        """The longest run's characters and its place in the text; no search below `at_least`."""
        low, high = at_least, min(self._num, (1 << len(self.levels)) - 1)  # a run of 2^levels would have a level
        place = 0
        while low < high:
            middle = (low + high + 1) // 2
            starts = self.starts(middle)
            if starts.any():
                low, place = middle, int(np.argmax(starts))
            else:
                high = middle - 1
        return low, place
