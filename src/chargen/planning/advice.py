"""How many passes are good for a text and a model, what to drop meanwhile, and what to type instead.

The number of passes that is good depends on how much a model can remember of each character. Twelve passes were
measured to be good for a model with 0.9 million parameters and a text of one million characters (docs/LOG.md, "How
often a text is read"). A
text that is read much more often than that is learned better if some recurrent weights are dropped in every window
("An hour, and dropped weights"). The bounds below are drawn around these measurements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chargen.durations import format_duration

GOOD_PASSES = 12.0
"""Passes that are good for a text of as many characters as the model has parameters."""

TOO_FEW, TOO_MANY = 0.15, 3.0
"""Fractions of the good number of passes: below the first a model is undertrained, above the second it overfits."""

DROPPED = ((10.0, 0.4), (2.0, 0.3))
"""From this multiple of the good number of passes on, this fraction of the recurrent weights is dropped."""

MAX_SECONDS = 420.0
"""The longest run that is recommended: seven minutes."""

MIN_UPDATES = 1000
"""A run of fewer updates is never advised to be shorter: a small text has to be read often."""


@dataclass(frozen=True)
class TrainingText:
    """A training text and the model that reads it.

    Attributes:
        num_characters: characters of the text.
        updates_per_pass: updates in one pass over it.
        num_parameters: parameters of the model.
    """

    num_characters: int
    updates_per_pass: int
    num_parameters: int


def good_passes(num_characters: int, num_parameters: int) -> float:
    """Return how often a text should be read, from 4 to 40 times."""
    return min(40.0, max(4.0, GOOD_PASSES * num_characters / num_parameters))


def recommended(seconds: Sequence[float]) -> int:
    """Return which size of model to train: the largest one whose good number of passes takes `MAX_SECONDS` at most.

    Args:
        seconds: the time for the good number of passes of each size, the smallest size first.
    """
    return max((place for place, time in enumerate(seconds) if time <= MAX_SECONDS), default=0)


def weight_dropout(num_passes: float, num_characters: int, num_parameters: int) -> float:
    """Return the fraction of recurrent weights to drop in a run that reads its text this often."""
    ratio = num_passes * num_parameters / num_characters / GOOD_PASSES
    return next((fraction for least, fraction in DROPPED if ratio >= least), 0.0)


def num_passes_in_words(updates: int, text: TrainingText) -> str:
    """Return how often a text will be read."""
    passes = updates / text.updates_per_pass
    return f"{passes:.{0 if passes >= 10 else 1}f} passes over {text.num_characters:,} characters"


def advice(updates: int, text: TrainingText, seconds: float, *, dropped: float = 0.0) -> str:
    """Return how often a text will be read, and what to change if that is too often or too seldom.

    Args:
        updates: of the whole run.
        text: the training text and the model.
        seconds: the time of the run.
        dropped: fraction of recurrent weights dropped in each window.
    """
    passes, good = updates / text.updates_per_pass, good_passes(text.num_characters, text.num_parameters)
    often = num_passes_in_words(updates, text)
    other = f"trainer.max_time={format_duration(seconds * good / passes)}"
    if passes < TOO_FEW * good:
        return f"{often}: a longer run learns more; write {other}, or choose a smaller model, which reads faster"
    if passes > TOO_MANY * good and not dropped:
        shorter = f"; {other} may be enough" if good * text.updates_per_pass >= MIN_UPDATES else ""
        return (
            f"{often}: the model will overfit, and the best weights are kept. More text helps most; a smaller model "
            f"(model=small, tiny) or model.weight_dropout=0.3 may help{shorter}"
        )
    return often
