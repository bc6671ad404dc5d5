"""What a run's length means for its text: how often it is read, what to drop meanwhile, and what to type instead.

How often is good depends on how much a model can remember of each character. Measured were twelve passes with 0.9
parameters for each of a million characters (docs/LOG.md, "How often a text is read"), and that a text which is read
more often than that, for its size, is learned far better with some of the recurrent weights missing in every window
("An hour, and dropped weights"); the bounds are drawn around that.
"""

from __future__ import annotations

from chargen.config import max_time

GOOD = 12.0
"""Passes over the text that are good for as many characters as parameters; more for fewer parameters."""

SELDOM, OFTEN = 0.15, 3.0
"""Of what is good: below the first a model has hardly met the text, beyond the second it knows it by heart."""

DROPPED = ((10.0, 0.4), (2.0, 0.3))
"""Of what is good: from so often on, that fraction of the recurrent weights is dropped."""

FEW = 1000
"""Updates below which a run is no shorter for the better: a small text is read often, or not learned at all."""


def good_passes(characters: int, parameters: int) -> float:
    """How often a text should be read, from 4 to 40 times."""
    return min(40.0, max(4.0, GOOD * characters / parameters))


def weight_dropout(passes: float, characters: int, parameters: int) -> float:
    """The fraction of the recurrent weights to be dropped in each window of a run that reads its text so often."""
    ratio = passes * parameters / characters / GOOD
    return next((fraction for least, fraction in DROPPED if ratio >= least), 0.0)


def advice(
    updates: int, per_pass: int, characters: int, parameters: int, seconds: float | None, dropped: float = 0.0
) -> str:
    """How often a text will be read, and what to change where that does not fit.

    Args:
        updates: of the whole run.
        per_pass: updates of one pass over the training text.
        characters: of it.
        parameters: of the model.
        seconds: of the run, if its length was given so.
        dropped: fraction of the recurrent weights that each window does without.
    """
    passes, good = updates / per_pass, good_passes(characters, parameters)
    often = f"{passes:.{0 if passes >= 10 else 1}f} passes over {characters:,} characters"
    other = _length(good * per_pass, seconds and seconds * good / passes)
    if passes < SELDOM * good:
        return f"{often}: more would teach it more; write {other}, or a smaller model, which reads faster"
    if passes > OFTEN * good and not dropped:
        shorter = f"; {other} may do" if good * per_pass >= FEW else ""
        return (
            f"{often}: it will know them by heart, and the best weights on the way are kept. More text would teach it "
            f"more; a smaller model (model=small, tiny) or model.weight_dropout=0.3 may help{shorter}"
        )
    return often


def _length(updates: float, seconds: float | None) -> str:
    """What to type for a run of that length."""
    if seconds is None:
        return f"trainer.max_steps={max(1, round(updates))}"
    return f"trainer.max_time={max_time(seconds)}"
