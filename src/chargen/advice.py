"""What a run's length means for its text: how often it is read, and what to type where that is too often or too seldom.

How often is good depends on how much a model can remember of each character. Measured were twelve passes with 0.9
parameters for each of a million characters (docs/LOG.md, "How often a text is read"); the bounds are drawn around that.
"""

from __future__ import annotations

from chargen.config import max_time

GOOD = 12.0
"""Passes over the text that are good for as many characters as parameters; more for fewer parameters."""

SELDOM, OFTEN = 0.15, 3.0
"""Of what is good: below the first a model has hardly met the text, beyond the second it knows it by heart."""

FEW = 1000
"""Updates below which a run is no shorter for the better: a small text is read often, or not learned at all."""


def good_passes(characters: int, parameters: int) -> float:
    """How often a text should be read, from 4 to 40 times."""
    return min(40.0, max(4.0, GOOD * characters / parameters))


def advice(updates: int, per_pass: int, characters: int, parameters: int, seconds: float | None) -> str:
    """How often a text will be read, and what to change where that does not fit.

    Args:
        updates: of the whole run.
        per_pass: updates of one pass over the training text.
        characters: of it.
        parameters: of the model.
        seconds: of the run, if its length was given so.
    """
    passes, good = updates / per_pass, good_passes(characters, parameters)
    often = f"{passes:.{0 if passes >= 10 else 1}f} passes over {characters:,} characters"
    other = _length(good * per_pass, seconds and seconds * good / passes)
    if passes < SELDOM * good:
        return f"{often}: more would teach it more; write {other}, or a smaller model, which reads faster"
    if passes > OFTEN * good:
        shorter = f"; {other} may do" if good * per_pass >= FEW else ""
        return (
            f"{often}: it will know them by heart, and the best weights on the way are kept. More text would teach it "
            f"more; a smaller model (model=small, tiny) or model.dropout=0.6 may help{shorter}"
        )
    return often


def _length(updates: float, seconds: float | None) -> str:
    """What to type for a run of that length."""
    if seconds is None:
        return f"trainer.max_steps={max(1, round(updates))}"
    return f"trainer.max_time={max_time(seconds)}"
