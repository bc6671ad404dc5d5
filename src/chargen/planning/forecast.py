"""Which score a run will have at its end, from its validations so far.

While the learning rate falls to zero along its schedule, the loss is close to

    L(p) = a + b p^-0.7 + d r(p)

with p the part of the run that is done and r the learning rate relative to its peak: a power of the characters read
(Hestness et al. 2017), and a term for the noise that a high learning rate leaves, which is gone at the end (Tissue,
Wang & Wang 2024 describe learning curves by the same two parts). a, b and d are fitted by least squares. Late
validations count more, as p^2, and d is drawn towards 0.1, because few validations cannot tell it from b.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

POWER, NOISE, PRIOR_WEIGHT = 0.7, 0.1, 0.02
"""The power of p, the prior of d, and how much it counts: one validation counts 1."""

LEAST = 3
"""Fewer validations give no forecast."""


class Validation(NamedTuple):
    """One validation of a run.

    Attributes:
        progress: p, the part of the run that is done, above 0 and at most 1.
        nats: the score, nats per character.
        rate: r, the learning rate relative to its peak.
    """

    progress: float
    nats: float
    rate: float


def forecast(validations: Sequence[Validation]) -> float | None:
    """Return the score to expect at the end of a run, nats per character; None after too few validations."""
    usable = [one for one in validations if one.progress > 0 and np.isfinite(one.nats)]
    if len(usable) < LEAST:
        return None
    progress, nats, rate = np.array(usable).T
    weight = progress / progress[-1]
    columns = np.stack([np.ones(len(usable)), progress**-POWER, rate], axis=1)
    rows = np.vstack([columns * weight[:, None], [0, 0, PRIOR_WEIGHT**0.5]])
    targets = np.append(nats * weight, PRIOR_WEIGHT**0.5 * NOISE)
    (a, b, _), *_ = np.linalg.lstsq(rows, targets, rcond=None)
    return float(a + b)
