"""The bias of truncated backpropagation: how far the gradient of windows of T characters is from that of long windows.

In windows of T characters, a loss sends its gradient back to the beginning of its window only. Its state is carried,
its gradient is cut. With g_T the mean gradient of a text that is read in windows of T, the relative bias is

    |g_T - g| / |g|        with g the gradient of windows of R characters, R far above T

as Aicher, Foti & Fox 2019 ("Adaptively truncating backpropagation through time to control gradient bias") define it.
They bound it from the decay of gradient norms; here both gradients are computed on the same text by the code that
trains. The noise of a finite text would make every norm too large, so the norms are estimated from products of
different groups: for independent groups i and j, the mean of g_i . g_j is |g|^2.

Dimensions: B lanes, N characters, T characters in a window, R in a long one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from chargen.nn.model import CharRNN, detached, evaluating

ACCEPTED_BIAS = 0.1
"""The relative bias under which a window counts as long enough."""


class TruncationBias(NamedTuple):
    """Relative biases by the length of a window.

    Attributes:
        biases: relative bias by T; zero where noise hides it, NaN for a text too short to tell g from noise.
        limits: biases that are two standard errors larger.
        reference: R, the length of the windows that count as exact.
        characters: how many characters the gradients are of.
    """

    biases: dict[int, float]
    limits: dict[int, float]
    reference: int
    characters: int

    def smallest(self, accepted: float = ACCEPTED_BIAS) -> int | None:
        """Return the smallest length from which on every measured bias is below `accepted`; None if there is none."""
        found = None
        for length in sorted(self.biases, reverse=True):
            if not self.biases[length] < accepted:
                break
            found = length
        return found


def truncation_bias(
    model: CharRNN,
    groups: Sequence[np.ndarray],
    lengths: Sequence[int],
    reference: int,
    advance: Callable[[int], None] = lambda _: None,
) -> TruncationBias:
    """Measure the relative bias of windows of several lengths.

    Args:
        model: its gradients are computed without dropout; they are set to None afterwards.
        groups: at least four pieces of text, each (B, N+1) ids with N a multiple of `reference`.
        lengths: the T to measure, each below `reference` and a divisor of N.
        reference: R.
        advance: receives the number of characters that were read since the last call.
    """
    with evaluating(model):
        sums = {length: _Products() for length in lengths}
        whole = _Products()
        for ids in groups:
            tensor = torch.from_numpy(ids.astype(np.int64))
            exact = _mean_gradient(model, tensor, reference, advance)
            whole.add(exact)
            for length in lengths:
                sums[length].add(_mean_gradient(model, tensor, length, advance) - exact)
    square = whole.mean_product

    def relative(product: float) -> float:
        return math.sqrt(max(0.0, product) / square) if square > 0 else math.nan

    return TruncationBias(
        {length: relative(one.mean_product) for length, one in sums.items()},
        {length: relative(one.mean_product + 2 * one.standard_error) for length, one in sums.items()},
        reference,
        sum(ids[:, 1:].size for ids in groups),
    )


class _Products:
    """The mean product of different vectors, from their sum and the sum of their squares."""

    def __init__(self) -> None:
        self.sum: Tensor | None = None
        self.squares = 0.0
        self.number = 0
        self._first: Tensor | None = None
        self._pairs: list[float] = []

    def add(self, vector: Tensor) -> None:
        if self._first is None:
            self._first = vector.clone()
        else:  # products of pairs that have no vector in common, which are independent
            self._pairs.append(float(self._first.double() @ vector.double()))
            self._first = None
        self.sum = vector.clone() if self.sum is None else self.sum.add_(vector)
        self.squares += float(vector.double().square().sum())
        self.number += 1

    @property
    def mean_product(self) -> float:
        """The mean of v_i . v_j over i != j."""
        assert self.sum is not None
        total = float(self.sum.double().square().sum())
        return (total - self.squares) / (self.number * (self.number - 1))

    @property
    def standard_error(self) -> float:
        """Of `mean_product`: that of a product of two vectors, divided by the root of the number of all pairs."""
        if len(self._pairs) < 2:
            return math.inf
        return float(np.std(self._pairs, ddof=1)) / math.sqrt(self.number * (self.number - 1) / 2)


def _mean_gradient(model: CharRNN, ids: Tensor, length: int, advance: Callable[[int], None]) -> Tensor:
    """Return the gradient of the mean loss over lanes (B, N+1) that are read in windows of `length`, as one vector."""
    states, N = None, ids.shape[1] - 1
    for parameter in model.parameters():
        parameter.grad = None
    for begin in range(0, N, length):
        inputs, targets = ids[:, begin : begin + length], ids[:, begin + 1 : begin + length + 1]
        nats, states = model.cross_entropy(inputs, targets, states)
        states = detached(states)
        torch.autograd.backward(nats / (N * len(ids)))
        advance(inputs.numel())
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    for parameter in model.parameters():
        parameter.grad = None
    return gradient
