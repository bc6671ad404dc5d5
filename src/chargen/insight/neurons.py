"""Find the units of a network that follow something readable, such as the position in the line.

For each feature of a text, the unit with the largest correlation on the first half of a text is chosen, and its
correlation on the second half is reported. The same is done with the feature shifted in a circle against the text,
many times: what a shifted feature reaches is chance, because a shift keeps how slowly a feature changes and destroys
what it has to do with the text.

Cells that follow quotes and the length of a line: Karpathy, Johnson & Fei-Fei 2015, Visualizing and understanding
recurrent networks.

Dimensions: N characters, U units of all layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from chargen.nn.model import CharRNN, States
from chargen.nn.trajectory import read_layers

SHIFTS = 40
"""How often a feature is shifted to find out what chance reaches."""

PIECE = 512
"""Characters that are read at once."""


class UnitName(NamedTuple):
    """Which unit: `h` or `c`, the layer from 0 on, and the number in it."""

    part: str
    layer: int
    number: int

    def __str__(self) -> str:
        return f"{self.part} {self.number} of layer {self.layer}"


class Match(NamedTuple):
    """The unit that follows a feature best.

    Attributes:
        feature: its name.
        unit: the unit.
        correlation: Pearson's, on text that was not used to choose the unit.
        chance: the size of the correlation that shifted features stay below in 95 of 100 cases.
    """

    feature: str
    unit: UnitName
    correlation: float
    chance: float

    @property
    def is_found(self) -> bool:
        """Whether the correlation is above what chance reaches."""
        return abs(self.correlation) > self.chance


@torch.no_grad()
def activations(model: CharRNN, ids: np.ndarray) -> tuple[np.ndarray, list[UnitName]]:
    """Read a text from the zero state and return the values of all units.

    Args:
        model: the model.
        ids: (N,).

    Returns:
        (N, U) float32 values after each character, and the names of the units.
    """
    states: States | None = None
    pieces = []
    for begin in range(0, len(ids), PIECE):
        piece = torch.from_numpy(ids[begin : begin + PIECE].astype(np.int64))[None]
        layers, _ = read_layers(model, piece, states)
        states = tuple(layer.final for layer in layers)
        pieces.append(torch.cat([part[1:, 0] for layer in layers for part in layer.trajectory], dim=-1))
    parts = "hc"[: model.recurrence.cell.num_states]
    names = [
        UnitName(part, layer, number)
        for layer in range(model.recurrence.num_layers)
        for part in parts
        for number in range(model.recurrence.hidden_size)
    ]
    return torch.cat(pieces).numpy(), names


def match_units(
    values: np.ndarray, names: list[UnitName], features: Mapping[str, np.ndarray], *, seed: int = 0
) -> list[Match]:
    """Find the unit that follows each feature best; the best-followed feature first.

    Args:
        values: (N, U).
        names: of the U units.
        features: (N,) each, by name. A feature that does not change in both halves is left out.
        seed: of the shifts.
    """
    half = len(values) // 2
    first, second = _standardized(values[:half]), _standardized(values[half:])
    generator, matches = np.random.default_rng(seed), []
    for name, feature in features.items():
        if min(np.ptp(feature[:half]), np.ptp(feature[half:])) == 0:
            continue
        unit, correlation = _best(first, second, feature)
        shifts = generator.integers(len(feature) // 10, len(feature) - len(feature) // 10, SHIFTS)
        reached = [abs(_best(first, second, np.roll(feature, shift))[1]) for shift in shifts]
        matches.append(Match(name, names[unit], correlation, float(np.quantile(reached, 0.95))))
    return sorted(matches, key=lambda match: -abs(match.correlation))


def _best(first: np.ndarray, second: np.ndarray, feature: np.ndarray) -> tuple[int, float]:
    """Choose the unit on the first half; return it and its correlation on the second."""
    half = len(first)
    unit = int(np.abs(_standardized(feature[:half, None])[:, 0] @ first).argmax())
    return unit, float(_standardized(feature[half:, None])[:, 0] @ second[:, unit] / len(second))


def _standardized(values: np.ndarray) -> np.ndarray:
    """Return values (N, U) with mean 0 and variance 1; zeros for those that do not change."""
    centred = values - values.mean(0)
    deviation = centred.std(0)
    return np.asarray(np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-12))
