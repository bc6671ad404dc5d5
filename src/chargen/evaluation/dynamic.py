"""Dynamic evaluation: the model learns from the text while it is scored on it. This is protocol C.

Each window of the text is scored first and learned from afterwards, so every character is predicted from the characters
before it alone. After a window with gradient g of its summed loss, the weights w move by one of two rules:

    sgd    w <- w - rate * g                           + decay * (w_0 - w)
    rms    w <- w - rate * g / (s + epsilon * mean(s)) + decay * min(s / mean(s), 1 / decay) * (w_0 - w)

with w_0 the weights after training, s the root mean square of each weight's gradient over windows of the training text,
and mean(s) its mean over all weights. The last term pulls the weights back to where training left them. The rms rule
scales both terms weight by weight: the larger s is, the smaller is the factor of g and the stronger is the pull.

Source: Krause et al. 2018.
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
from chargen.nn.threads import compute_threads


@dataclass(frozen=True)
class Adaptation:
    """The constants of dynamic evaluation.

    Attributes:
        learning_rate: `rate` in the equations. The gradient is that of the sum over a window, not of the mean.
        decay: the pull back to the weights after training, for each window.
        epsilon: for the rms rule, a fraction of mean(s).
        window_size: T, the number of characters in a window.
    """

    learning_rate: float
    decay: float
    epsilon: float = 0.3
    window_size: int = 20


RMS = Adaptation(learning_rate=5e-4, decay=2e-3)
"""Constants of the rms rule, chosen on 20,000 held-out characters of Shakespeare (docs/LOG.md)."""

SGD = Adaptation(learning_rate=3e-3, decay=1e-3)
"""Constants of the sgd rule, chosen on the same text."""

MAX_TRAINING_WINDOWS = 1000
"""The number of windows at the end of the training text from which `gradient_mean_squares` computes s, at most."""


@compute_threads()
def gradient_mean_squares(
    model: CharRNN, training: np.ndarray, window_size: int, advance: Advance = lambda _: None
) -> list[Tensor]:
    """Compute the mean square of each weight's gradient, s^2, over windows of the training text.

    Args:
        model: the trained model. It is not modified.
        training: (N,) ids of the training text.
        window_size: T.
        advance: progress callback.

    Returns:
        One tensor for each parameter, of the same shape.
    """
    model = copy.deepcopy(model).eval()
    training = training[-(MAX_TRAINING_WINDOWS * window_size + 1) :]
    sums = [torch.zeros_like(p) for p in model.parameters()]
    num_windows = 0
    for nats, num_targets in _window_losses(model, training, window_size):
        gradients = torch.autograd.grad(nats, list(model.parameters()))
        torch._foreach_addcmul_(sums, gradients, gradients)
        num_windows += 1
        advance(num_targets)
    return [total / max(1, num_windows) for total in sums]


@compute_threads()
def score_dynamic(
    model: CharRNN,
    ids: np.ndarray,
    adaptation: Adaptation,
    mean_squares: Sequence[Tensor] | None = None,
    advance: Advance = lambda _: None,
) -> Score:
    """Score a text by protocol C.

    Args:
        model: the trained model. It is not modified.
        ids: (N+1,) integer. The first character is context, the N after it are scored.
        adaptation: the constants.
        mean_squares: the result of `gradient_mean_squares`, for the rms rule; None for the sgd rule.
        advance: progress callback.

    Raises:
        TextError: there is no character to score.
    """
    require_text(ids)
    trained = [p.detach().clone() for p in model.parameters()]
    model = copy.deepcopy(model).eval()
    weights: list[Tensor] = list(model.parameters())
    rates, pulls = _rates_and_pulls(trained, adaptation, mean_squares)
    total = 0.0
    for nats, num_targets in _window_losses(model, ids, adaptation.window_size):
        total += nats.item()
        gradients = torch.autograd.grad(nats, weights)
        with torch.no_grad():
            way_back = torch._foreach_sub(trained, weights)  # before the step, as in the equations
            torch._foreach_addcmul_(weights, gradients, rates, -1.0)
            torch._foreach_addcmul_(weights, way_back, pulls)
        advance(num_targets)
    return Score(total / (len(ids) - 1), len(ids) - 1)


def _rates_and_pulls(
    trained: list[Tensor], adaptation: Adaptation, mean_squares: Sequence[Tensor] | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the factors of g and of w_0 - w for each parameter, of its shape."""
    if mean_squares is None:
        return (
            [torch.full_like(p, adaptation.learning_rate) for p in trained],
            [torch.full_like(p, adaptation.decay) for p in trained],
        )
    roots = [mean_square.sqrt() for mean_square in mean_squares]
    mean = float(sum(root.sum() for root in roots)) / sum(root.numel() for root in roots)
    rates = [adaptation.learning_rate / (root + adaptation.epsilon * mean) for root in roots]
    return rates, [(adaptation.decay * root / mean).clamp(max=1.0) for root in roots]


def _window_losses(model: CharRNN, ids: np.ndarray, window_size: int) -> Iterator[tuple[Tensor, int]]:
    """Yield the loss in nats and the number of targets of each window, the state carried from one to the next.

    The caller may change the weights between two windows.
    """
    device, states = model.head.weight.device, None
    for begin in range(0, len(ids) - 1, window_size):
        piece = torch.from_numpy(ids[begin : begin + window_size + 1].astype(np.int64)).to(device)
        nats, states = model.cross_entropy(piece[None, :-1], piece[None, 1:], states)
        states = detached(states)
        yield nats, len(piece) - 1
