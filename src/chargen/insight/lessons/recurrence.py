"""One weight acts at every time, so that the gradient over k ticks holds it k times.

For the scalar recurrence h_t = u h_{t-1} + x_t, the gradient is dh_t/dh_{t-k} = u^k: above 1 it grows without bound,
below 1 it vanishes. For a matrix U the same holds of its spectral radius; with U = r Q and Q orthogonal, the norm of
the gradient is exactly r^k. With tanh, h_t = tanh(u h_{t-1} + x_t), each tick also multiplies by 1 - h_t^2, at most 1:
the gradient can still explode, but less, and vanishes faster (Hochreiter 1991; Bengio, Simard & Frasconi 1994).

Gradients are computed by autograd; the closed form is drawn beside them.

Dimensions: K ticks, H hidden.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from chargen.insight.drawing import COLORS, INK, log_scale, new_figure, style

RADII = (0.9, 1.0, 1.1)
"""The weights, or spectral radii, that are compared."""

TICKS, HIDDEN = 100, 64

INPUT_SCALE = 0.1
"""The standard deviation of the inputs."""


class RecurrenceGradients(NamedTuple):
    """Gradient norms over lags 0 to K, by spectral radius.

    Attributes:
        linear: |dh_t/dh_{t-k}|, without tanh, from autograd.
        squashed: the same with tanh.
        closed_form: r^k.
    """

    linear: dict[float, np.ndarray]
    squashed: dict[float, np.ndarray]
    closed_form: dict[float, np.ndarray]


def scalar_recurrence(radii: tuple[float, ...] = RADII, ticks: int = TICKS) -> RecurrenceGradients:
    """Measure the scalar recurrence h_t = u h_{t-1} + x_t, with and without tanh."""
    return _measure({radius: torch.tensor([[radius]], dtype=torch.float64) for radius in radii}, ticks)


def matrix_recurrence(
    radii: tuple[float, ...] = RADII, ticks: int = TICKS, hidden: int = HIDDEN, *, seed: int = 0
) -> RecurrenceGradients:
    """Measure the matrix recurrence h_t = r Q h_{t-1} + x_t with a random orthogonal Q, with and without tanh."""
    torch.manual_seed(seed)
    orthogonal = torch.nn.init.orthogonal_(torch.empty(hidden, hidden, dtype=torch.float64))
    return _measure({radius: radius * orthogonal for radius in radii}, ticks)


def _measure(weights: dict[float, Tensor], ticks: int) -> RecurrenceGradients:
    lags = np.arange(ticks + 1)
    return RecurrenceGradients(
        {radius: gradient_norms(weight, ticks, tanh=False) for radius, weight in weights.items()},
        {radius: gradient_norms(weight, ticks, tanh=True) for radius, weight in weights.items()},
        {radius: radius**lags for radius in weights},
    )


def gradient_norms(weight: Tensor, ticks: int, *, tanh: bool) -> np.ndarray:
    """Return |dL/dh_{K-k}| for k = 0 to K, where L is the product of h_K with a fixed vector of norm 1.

    Args:
        weight: U, (H, H).
        ticks: K.
        tanh: whether h_t = tanh(U h_{t-1} + x_t) rather than U h_{t-1} + x_t.
    """
    generator = torch.Generator().manual_seed(1)
    hidden = len(weight)
    h = torch.zeros(hidden, dtype=weight.dtype).requires_grad_()
    states = [h]
    for _ in range(ticks):
        x = INPUT_SCALE * torch.randn(hidden, generator=generator, dtype=weight.dtype)
        h = weight @ h + x
        h = torch.tanh(h) if tanh else h
        states.append(h)
    direction = torch.nn.functional.normalize(torch.randn(hidden, generator=generator, dtype=weight.dtype), dim=0)
    gradients = torch.autograd.grad(h @ direction, states)
    return np.array([float(torch.linalg.vector_norm(one)) for one in reversed(gradients)])


def recurrence_figure(scalar: RecurrenceGradients, matrix: RecurrenceGradients) -> Figure:
    """Draw both recurrences side by side, with the closed form as dots."""
    figure, axes = new_figure(9.2, 4.2, ncols=2, sharey=True)
    for axis, gradients, title in zip(axes, (scalar, matrix), ("one weight u", "a matrix U = r Q"), strict=True):
        for color, (radius, norms) in zip((COLORS[0], INK, COLORS[1]), gradients.linear.items(), strict=False):
            lags = np.arange(len(norms))
            axis.plot(lags, norms, color=color, label=f"{radius:g}, linear")
            axis.plot(
                lags, gradients.squashed[radius], "--", color=color, linewidth=1.3, label=f"{radius:g}, with tanh"
            )
            axis.plot(lags[::10], gradients.closed_form[radius][::10], "o", color=color, markersize=3.5)
        y = "gradient norm" if axis is axes[0] else ""
        style(axis, title, "ticks back, k", y)
    for axis in axes:
        log_scale(axis)
    axes[0].plot([], [], "o", color=INK, markersize=3.5, label="closed form r^k")
    axes[0].legend(loc="lower left")
    return figure
