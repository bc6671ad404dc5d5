"""The choice of the next character from its logits: temperature, top-k, top-p, min-p.

`SamplingParams` is the definition. The compiled kernels make the same choice (native/choice.h).

Sources: top-k, Fan et al. 2018; top-p (nucleus), Holtzman et al. 2020; min-p, Nguyen et al. 2024.
Dimensions: V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from chargen.sampling.arguments import real_number, whole_number

Array = np.ndarray


@dataclass(frozen=True)
class SamplingParams:
    """How the next character is chosen.

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest character.
        top_k: keep only the k likeliest characters; 0 keeps all.
        top_p: keep only the smallest set of likeliest characters whose probabilities sum to at least `top_p`; 1 keeps
            all.
        min_p: keep only the characters at least `min_p` times as likely as the likeliest one; 0 keeps all.

    Raises:
        ArgumentError: a value is out of range.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        checked = {
            "temperature": real_number("temperature", self.temperature, lambda t: t >= 0, "0 or more"),
            "top_k": whole_number("top_k", self.top_k, 0, "a whole number from 0 up; 0 keeps all"),
            "top_p": real_number("top_p", self.top_p, lambda p: 0 < p <= 1, "above 0 and at most 1"),
            "min_p": real_number("min_p", self.min_p, lambda p: 0 <= p <= 1, "from 0 to 1"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def probabilities(self, logits: Array) -> Array:
        """Return the distribution from which the next character is drawn.

        The temperature is applied first, then top-k, top-p and min-p, each to what the previous one has kept. Of
        equally likely characters, the one with the lower id is kept.

        Args:
            logits: (V,); -inf for a character that must not be chosen.

        Returns:
            (V,) float64, with sum 1.
        """
        logits = logits.astype(np.float64)
        if self.temperature == 0:
            return np.asarray(np.eye(1, len(logits), int(logits.argmax()))[0])
        with np.errstate(over="ignore"):  # a temperature close to 0 leaves only the likeliest characters
            scaled = (logits - logits.max()) / self.temperature
        weights = np.exp(scaled)
        if self.top_k or self.top_p < 1 or self.min_p:
            order = np.argsort(-logits, kind="stable")  # two logits may have the same weight after rounding
            kept = min(self.top_k or len(logits), len(logits))
            if self.top_p < 1:
                held = np.cumsum(weights[order[:kept]])
                kept = min(kept, int(np.searchsorted(held, self.top_p * held[-1])) + 1)
            if self.min_p > 0:
                kept = min(kept, int((scaled >= math.log(self.min_p)).sum()))
            weights[order[kept:]] = 0
        return np.asarray(weights / weights.sum())

    def draw(self, logits: Array, rng: np.random.Generator) -> int:
        """Draw one id by inverting the cumulative distribution at one random number.

        Args:
            logits: (V,); -inf for a character that must not be chosen.
            rng: the source of randomness; unused if the temperature is 0.
        """
        if self.temperature == 0:
            return int(logits.argmax())
        p = self.probabilities(logits)
        id = int(p.cumsum().searchsorted(rng.random(), side="right"))
        return id if id < len(p) and p[id] > 0 else int(np.flatnonzero(p)[-1])
