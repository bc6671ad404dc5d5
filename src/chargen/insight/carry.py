"""What memory is worth: the same text read with the state carried from window to window, and with it reset.

The text is divided into windows of T characters. Read with the carry kept, every character is predicted from all
before it. Read with the carry reset, the first character of a window is predicted from nothing, the second from one,
and so on; the loss at each place in the window shows how fast the network finds its way again.

Dimensions: B lanes, T characters in a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from chargen.insight.drawing import COLORS, new_figure, style
from chargen.nn.model import CharRNN, States, evaluating
from chargen.nn.threads import compute_threads

LANES = 16
"""Lanes that are read side by side."""


class CarryEffect(NamedTuple):
    """Mean losses by the place in a window, (T,) each, nats per character.

    Attributes:
        kept: with the state carried from the window before.
        reset: with each window read from the zero state.
    """

    kept: np.ndarray
    reset: np.ndarray


@compute_threads()
@torch.no_grad()
def carry_effect(
    model: CharRNN, ids: np.ndarray, length: int, advance: Callable[[int], None] = lambda _: None
) -> CarryEffect:
    """Read a text in windows, with the carry kept and with it reset.

    Args:
        model: evaluated without dropout.
        ids: (N,) the text. What does not fill a whole window in every lane is left out.
        length: T.
        advance: receives the number of characters that were read since the last call.

    Raises:
        ValueError: the text has no whole window.
    """
    lanes = min(LANES, (len(ids) - 1) // length)
    windows = (len(ids) - 1) // lanes // length if lanes else 0
    if not windows:
        raise ValueError(f"{len(ids)} characters hold no window of {length}")
    starts = np.arange(lanes)[:, None] * (windows * length)
    rows = torch.from_numpy(ids[starts + np.arange(windows * length + 1)].astype(np.int64))
    totals = np.zeros((2, length))
    with evaluating(model):
        states: States | None = None
        for window in range(windows):
            part = rows[:, window * length : (window + 1) * length + 1]
            kept, states = _losses(model, part, states)
            reset, _ = _losses(model, part, None)
            totals += np.stack([kept, reset])
            advance(2 * part[:, 1:].numel())
    return CarryEffect(*(totals / windows))


def _losses(model: CharRNN, part: torch.Tensor, states: States | None) -> tuple[np.ndarray, States]:
    """Return the mean loss at each place of a window (B, T+1), (T,), and the states after it."""
    logits, states = model(part[:, :-1], states)
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), part[:, 1:], reduction="none")
    return losses.double().mean(0).numpy(), states


def carry_figure(effect: CarryEffect, title: str = "", per: str = "character") -> Figure:
    """Draw both losses over the place in the window."""
    figure, axis = new_figure(height=3.8)
    places = np.arange(1, len(effect.kept) + 1)
    axis.plot(places, effect.reset, color=COLORS[1], label=f"carry reset, mean {effect.reset.mean():.3f}")
    axis.plot(places, effect.kept, color=COLORS[0], label=f"carry kept, mean {effect.kept.mean():.3f}")
    axis.set_xlim(left=1)
    style(axis, title, "place in the window", f"nats per {per}, held-out text", legend="upper right")
    return figure
