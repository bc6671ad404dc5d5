"""Which clipping threshold fits a run, from the gradient norms that it measured.

Pascanu, Mikolov & Bengio 2013 ("On the difficulty of training recurrent neural networks") recommend to look at the mean
norm over many updates: thresholds from half to ten times this value worked for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

LOW, HIGH = 0.5, 10.0
"""Multiples of the mean norm between which a threshold is usual."""

OUTLIERS = 10.0
"""A mean above this multiple of the median says more about a few explosions than about the run."""


class ClipAdvice(NamedTuple):
    """Usual thresholds for a run.

    Attributes:
        norm: the typical norm of its gradient before clipping.
        low: half of it.
        high: ten times it.
    """

    norm: float
    low: float
    high: float


def clip_advice(norms: Sequence[float]) -> ClipAdvice | None:
    """Return the usual thresholds for gradient norms; None if there are none.

    The typical norm is their mean, or their median if a few explosions are most of the mean.
    """
    positive = [norm for norm in norms if math.isfinite(norm) and norm > 0]
    if not positive:
        return None
    middle = median(positive)
    mean = fmean(positive)
    norm = mean if mean <= OUTLIERS * middle else middle
    return ClipAdvice(norm, LOW * norm, HIGH * norm)
