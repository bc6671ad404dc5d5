"""How much of a generated text is copied from the training text, character by character.

A run is a sequence of consecutive characters. Runs that both texts share are found by prefix doubling, the first half
of the construction of a suffix array (Manber & Myers 1993). For runs of 1, 2, 4, 8, ... characters, every position of a
text gets a number, such that two positions get the same number if and only if the same run begins there. The number
of a run of 2^(k+1) characters follows from those of its two halves. Only positions of the training text whose run also
occurs in the generated text are kept, so that fewer and fewer are left.

Dimensions: N characters of the training text, M characters of the generated text.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MIN_RUN_LENGTH = 20
"""The number of characters from which on a shared run counts as copied. Shorter runs are common phrases."""


class Novelty(NamedTuple):
    """What two texts share.

    Attributes:
        longest_run: the number of characters in the longest run that occurs in both texts.
        position: where this run begins in the generated text.
        copied_fraction: the fraction of the generated text, 0 to 1, that lies in shared runs of at least
            `MIN_RUN_LENGTH` characters.
    """

    longest_run: int
    position: int
    copied_fraction: float


def measure_novelty(training: np.ndarray, text: np.ndarray, *, chunk_size: int = 1 << 22) -> Novelty:
    """Compare a generated text with the training text. The result is exact. The time grows with N log M.

    Args:
        training: (N,) ids; may be a memory map.
        text: (M,) ids.
        chunk_size: the number of positions of the training text that are in memory at a time. It does not change the
            result.
    """
    text = text.astype(np.int64)
    if len(text) == 0 or len(training) == 0:
        return Novelty(0, 0, 0.0)
    longest, position, copied = 0, 0, np.zeros(len(text), bool)
    for begin in range(0, len(training), chunk_size):
        chunk = training[begin : begin + chunk_size + len(text)]  # long enough for a run that begins in the chunk
        runs = _SharedRuns(np.asarray(chunk).astype(np.int64), text)
        length, start = runs.longest(longest)
        if length > longest:
            longest, position = length, start
        for begin_of_run in np.flatnonzero(runs.starts(MIN_RUN_LENGTH)):
            copied[begin_of_run : begin_of_run + MIN_RUN_LENGTH] = True
    return Novelty(longest, position, float(copied.mean()))


class _SharedRuns:
    """The runs of a text that also occur in the training text.

    `levels[k]` describes runs of 2^k characters by three arrays: the number of the run at each position of the text;
    the positions of the training text at which one of these runs begins; and the numbers of the runs there.
    """

    def __init__(self, training: np.ndarray, text: np.ndarray) -> None:
        symbols, numbers = np.unique(text, return_inverse=True)
        table = np.full(max(int(training.max()), int(text.max())) + 1, -1)
        table[symbols] = np.arange(len(symbols))
        positions = np.flatnonzero(table[training] >= 0)
        self._training_size, self._text_size = len(training), len(text)
        self.levels = [(numbers, positions, table[training[positions]])]
        while len(positions) and 2 ** len(self.levels) <= len(text):
            level = self._join(len(self.levels) - 1, 2 ** (len(self.levels) - 1))
            if level is None:
                break
            self.levels.append(level)
            positions = level[1]

    def _join(self, k: int, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Describe runs of 2^k + distance characters, each made of two runs of 2^k that overlap or touch.

        Args:
            k: the level of the two runs.
            distance: how far the second one begins after the first, from 1 to 2^k.

        Returns:
            The three arrays of a level, or None if the text is shorter than such a run.
        """
        numbers, positions, training_numbers = self.levels[k]
        num_runs = int(numbers.max()) + 1
        if len(numbers) <= distance:
            return None
        text_pairs = numbers[:-distance] * num_runs + numbers[distance:]
        at_position = np.full(self._training_size + distance, -1)
        at_position[positions] = training_numbers
        second = at_position[positions + distance]
        has_both = second >= 0
        training_pairs = training_numbers[has_both] * num_runs + second[has_both]
        pairs, numbers = np.unique(text_pairs, return_inverse=True)
        index = np.minimum(np.searchsorted(pairs, training_pairs), len(pairs) - 1)
        is_shared = pairs[index] == training_pairs
        return numbers, positions[has_both][is_shared], index[is_shared]

    def starts(self, length: int) -> np.ndarray:
        """Return (M,) booleans: whether a shared run of `length` characters begins at each position of the text."""
        k = length.bit_length() - 1
        result = np.zeros(self._text_size, bool)
        if k < len(self.levels):
            level = self.levels[k] if length == 1 << k else self._join(k, length - (1 << k))
            if level is not None:
                numbers, _, training_numbers = level
                result[: len(numbers)] = np.isin(numbers, training_numbers)
        return result

    def longest(self, at_least: int) -> tuple[int, int]:
        """Search the longest shared run by bisection.

        Args:
            at_least: only runs longer than this are searched for.

        Returns:
            The number of its characters and its position in the text; `at_least` and 0 if no run is longer.
        """
        low, high = at_least, min(self._text_size, (1 << len(self.levels)) - 1)  # a longer run would add a level
        position = 0
        while low < high:
            middle = (low + high + 1) // 2
            starts = self.starts(middle)
            if starts.any():
                low, position = middle, int(np.argmax(starts))
            else:
                high = middle - 1
        return low, position
