"""A model that goes on learning from the text it is scored on (Krause et al. 2018): protocol C.

Each window of the text is scored first and learned from afterwards, so every character is still predicted from
those before it alone. With g the gradient of a window's nats, s the root of its mean square over windows of the
training text, r = s / mean(s), and w_0 the weights that training left:

    rms    w <- w - rate * g / (s + epsilon * mean(s)) + decay * min(r, 1 / decay) * (w_0 - w)
    sgd    w <- w - rate * g                           + decay * (w_0 - w)

What changes quickly in training may change quickly here, and is drawn back as quickly.

Dimensions: T ticks, N characters.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chargen.evaluation.score import Advance, Score, require_text
from chargen.nn.model import CharRNN, detached


@dataclass(frozen=True)
class Adaptation:
    """How fast it learns.

    Attributes:
        learning_rate: as above, for the sum of a window's nats.
        decay: the pull back to the weights that training left, per window.
        epsilon: of the rms rule, as a share of the mean of s.
        window: T, characters from one update to the next.
    """

    learning_rate: float
    decay: float
    epsilon: float = 0.3
    window: int = 20


RMS = Adaptation(learning_rate=5e-4, decay=2e-3)
SGD = Adaptation(learning_rate=3e-3, decay=1e-3)
"""Chosen on 20,000 held-out characters of Shakespeare: docs/LOG.md."""

TRAINING_WINDOWS = 1000
"""Of the training text, from which the mean squares are taken."""


def mean_squares(model: CharRNN, training: np.ndarray, window: int, advance: Advance = lambda _: None) -> list[Tensor]:
    """Of each parameter's gradients, over windows of the training text.

    Args:
        model: as trained; left as it is.
        training: (N,) ids; its last windows are read.
        window: T.
        advance: for a progress bar.

    Returns:
        One tensor for each parameter, of its shape.
    """
    model = copy.deepcopy(model).eval()
    training = training[-(TRAINING_WINDOWS * window + 1) :]
    sums = [torch.zeros_like(p) for p in model.parameters()]
    num = 0
    for nats, num_targets in _windows(model, training, window):
        gradients = torch.autograd.grad(nats, list(model.parameters()))
        torch._foreach_addcmul_(sums, gradients, gradients)
        num += 1
        advance(num_targets)
    return [total / max(1, num) for total in sums]


def score_dynamic(
    model: CharRNN,
    ids: np.ndarray,
    adaptation: Adaptation,
    squares: Sequence[Tensor] | None = None,
    advance: Advance = lambda _: None,
) -> Score:
    """Protocol C; the other arguments, the result and the error are those of `evaluation.score_streaming`.

    Args:
        model: as trained; left as it is.
        adaptation: how fast it learns.
        squares: of `mean_squares`, for the rms rule; None for the sgd rule.
    """
    require_text(ids)
    left = [p.detach().clone() for p in model.parameters()]
    model = copy.deepcopy(model).eval()
    weights: list[Tensor] = list(model.parameters())
    rates, pulls = _rates(left, adaptation, squares)
    total = 0.0
    for nats, num_targets in _windows(model, ids, adaptation.window):
        total += nats.item()
        gradients = torch.autograd.grad(nats, weights)
        with torch.no_grad():
            back = torch._foreach_sub(left, weights)
            torch._foreach_addcmul_(weights, gradients, rates, -1.0)
            torch._foreach_addcmul_(weights, back, pulls)
        advance(num_targets)
    return Score(total / (len(ids) - 1), len(ids) - 1)


def _rates(left: list[Tensor], how: Adaptation, squares: Sequence[Tensor] | None) -> tuple[list[Tensor], list[Tensor]]:
    """What a gradient is multiplied by, and what the way back to the trained weights is, for each parameter."""
    if squares is None:
        return (
            [torch.full_like(p, how.learning_rate) for p in left],
            [torch.full_like(p, how.decay) for p in left],
        )
    roots = [square.sqrt() for square in squares]
    mean = float(sum(root.sum() for root in roots)) / sum(root.numel() for root in roots)
    rates = [how.learning_rate / (root + how.epsilon * mean) for root in roots]
    return rates, [(how.decay * root / mean).clamp(max=1.0) for root in roots]


def _windows(model: CharRNN, ids: np.ndarray, window: int) -> Iterator[tuple[Tensor, int]]:
    """The nats of one window after the other, to be differentiated before the next is asked for."""
    device, states = model.head.weight.device, None
    for begin in range(0, len(ids) - 1, window):
        piece = torch.from_numpy(ids[begin : begin + window + 1].astype(np.int64)).to(device)
        nats, states = model.nats(piece[None, :-1], piece[None, 1:], states)
        states = detached(states)
        yield nats, len(piece) - 1
