"""Nats and bits per character of a text under a model.

- Protocol A, windowed: windows of 256 characters that do not overlap, zero state at each start.
- Protocol B, streaming: the state is carried from the first character to the last, in one lane, so
  that the score depends on no batch. This is the headline.

Both score every character once, given all characters before it that the protocol lets it see.
Dimensions: B windows side by side, T ticks, N characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from chargen.nn.model import CharRNN, States

WINDOW = 256
"""Characters of protocol A's windows."""

_AT_ONCE = 16  # windows side by side, or in a row
Advance = Callable[[int], None]
"""Told how many characters have been scored since it was last told."""


@dataclass(frozen=True)
class Score:
    """A mean over characters.

    Attributes:
        nats_per_char: mean of -ln p.
        characters: how many were scored.
    """

    nats_per_char: float
    characters: int

    @property
    def bits_per_char(self) -> float:
        """Mean of -log2 p."""
        return self.nats_per_char / math.log(2)


def score_streaming(model: CharRNN, ids: np.ndarray, advance: Advance = lambda _: None) -> Score:
    """Protocol B.

    Args:
        model: in any mode; it is read in evaluation mode.
        ids: (N+1,): the first is context, the N behind it are scored.
        advance: for a progress bar.

    Returns:
        The mean over N characters.

    Raises:
        ValueError: there is nothing to score.
    """
    require_text(ids)
    nats, states = 0.0, None
    for begin in range(0, len(ids) - 1, WINDOW * _AT_ONCE):
        piece = ids[begin : begin + WINDOW * _AT_ONCE + 1]
        scored, states = _nats(model, piece[None, :-1], piece[None, 1:], states)
        nats += scored
        advance(len(piece) - 1)
    return Score(nats / (len(ids) - 1), len(ids) - 1)


def score_windowed(model: CharRNN, ids: np.ndarray, advance: Advance = lambda _: None) -> Score:
    """Protocol A; arguments and result as those of `score_streaming`."""
    require_text(ids)
    whole = (len(ids) - 1) // WINDOW * WINDOW
    inputs, targets = ids[:whole].reshape(-1, WINDOW), ids[1 : whole + 1].reshape(-1, WINDOW)
    nats = 0.0
    for begin in range(0, len(inputs), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        nats += _nats(model, inputs[rows], targets[rows], None)[0]
        advance(inputs[rows].size)
    if whole < len(ids) - 1:
        nats += _nats(model, ids[None, whole:-1], ids[None, whole + 1 :], None)[0]
        advance(len(ids) - 1 - whole)
    return Score(nats / (len(ids) - 1), len(ids) - 1)


def require_text(ids: np.ndarray) -> None:
    """Raises ValueError where there is nothing to score."""
    if len(ids) < 2:
        raise ValueError("there is no text to score: give at least one character")


@torch.no_grad()
def _nats(model: CharRNN, inputs: np.ndarray, targets: np.ndarray, states: States | None) -> tuple[float, States]:
    """The sum of -ln p over targets (B, T), and the states behind them."""
    training, device = model.training, model.head.weight.device
    model.eval()
    ids, wanted = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (inputs, targets))
    nats, states = model.nats(ids, wanted, states)
    model.train(training)
    return nats.item(), states
