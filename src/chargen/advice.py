"""What a run's length means for its text: how often it is read, and what to type where that is too often or too seldom.

Twelve passes were best for a megabyte in three minutes; the bounds are drawn around that (docs/LOG.md, "How often a
text is read").
"""

from __future__ import annotations

TOO_SELDOM, GOOD, TOO_OFTEN = 2.0, 12.0, 60.0
"""Passes over the text: below the first a model has hardly met it, beyond the last it knows it by heart."""

FEW = 1000
"""Updates below which a run is no shorter for the better: a small text is read often, or not learned at all."""


def advice(updates: int, per_pass: int, characters: int, seconds: float | None) -> str:
    """How often a text will be read, and what to change where that does not fit.

    Args:
        updates: of the whole run.
        per_pass: updates of one pass over the training text.
        characters: of it.
        seconds: of the run, if its length was given so.
    """
    passes = updates / per_pass
    often = f"{passes:.{0 if passes >= 10 else 1}f} passes over {characters:,} characters"
    other = _length(GOOD * per_pass, seconds and seconds * GOOD / passes)
    if passes < TOO_SELDOM:
        return f"{often}: more would teach it more; write {other}, or a smaller model, which reads faster"
    if passes > TOO_OFTEN:
        shorter = f"; {other} may do" if GOOD * per_pass >= FEW else ""
        return (
            f"{often}: it will know them by heart, and the best weights on the way are kept. More text would teach it "
            f"more, and model.dropout=0.5 may help{shorter}"
        )
    return often


def _length(updates: float, seconds: float | None) -> str:
    """What to type for a run of that length."""
    if seconds is None:
        return f"trainer.max_steps={max(1, round(updates))}"
    minutes, rest = divmod(max(1, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"trainer.max_time={days:02}:{hours:02}:{minutes:02}:{rest:02}"
