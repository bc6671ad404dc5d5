"""How much of a generated text is spelled as in the training text: its words, or its pairs of characters.

A text whose words are separated by blanks is compared word by word. Another one, such as a Chinese text, is compared by
pairs of neighbouring characters.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

WORDS_FROM = 0.04
"""The fraction of blanks from which on a text is one of words."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


class Spelling(NamedTuple):
    """What of a generated text is known.

    Attributes:
        unit: `word` or `pair`.
        known: the fraction of the units that occur in the training text, 0 to 1.
        number: units of the generated text.
        examples: some that do not occur.
    """

    unit: str
    known: float
    number: int
    examples: list[str]


def measure_spelling(training: str, text: str, *, examples: int = 12) -> Spelling:
    """Compare the words of a generated text, or its pairs of characters, with those of the training text.

    Case does not count: a word that begins a sentence is the same word.

    Args:
        training: the training text.
        text: the generated text.
        examples: how many unknown units to return at most.
    """
    has_words = training.count(" ") >= WORDS_FROM * max(1, len(training))
    units = _words if has_words else _pairs
    found = units(text)
    known = set(units(training))
    unknown = [unit for unit in found if unit not in known]
    fraction = 1 - len(unknown) / len(found) if found else 1.0
    return Spelling("word" if has_words else "pair", fraction, len(found), list(dict.fromkeys(unknown))[:examples])


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _pairs(text: str) -> list[str]:
    """Return neighbouring characters that are both letters or digits, ideographs included."""
    return [a + b for a, b in itertools.pairwise(text) if a.isalnum() and b.isalnum()]
