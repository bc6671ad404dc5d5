"""Figures of what is inside a model: gradients over lags, the bias of short windows, the use of context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from chargen.insight.drawing import COLORS, INK, log_scale, new_figure, style
from chargen.insight.figures import shade
from chargen.insight.gradient_flow import GradientFlow, fit_decay, relative
from chargen.insight.memory import MemoryCurve
from chargen.insight.truncation import ACCEPTED_BIAS, TruncationBias

LEAST, MOST = 1e-12, 1e12
"""Relative norms beyond these are not drawn."""

MAX_COLUMNS = 3
"""Drawings side by side in one figure."""


class Panel(NamedTuple):
    """One drawing of gradients over lags.

    Attributes:
        title: what the drawing is of.
        flow: of the model.
        initial: of the same model before training, drawn in dashes; None if there is none.
        length: T, the length of the training windows.
    """

    title: str
    flow: GradientFlow
    initial: GradientFlow | None
    length: int


def gradient_chart(panels: Sequence[Panel], bias: TruncationBias | None = None) -> Figure:
    """Draw the gradient norm over lags, relative to lag 0: the median over all losses, and a band from 10 to 90 %.

    Args:
        panels: one drawing for each.
        bias: of the first one's short windows, in a drawing of its own; None if it was not measured.
    """
    number = len(panels) + (bias is not None)
    columns = min(MAX_COLUMNS, number)
    rows = -(-number // columns)
    width = 7.2 if columns == 1 else 4.6 * columns if columns == 2 else 3.5 * columns
    figure, axes = new_figure(width, 4.4 * rows, nrows=rows, ncols=columns, squeeze=False)
    drawn = list(zip(axes.flat, panels, strict=False))
    for axis in list(axes.flat)[number:]:
        axis.set_visible(False)
    for axis, panel in drawn:
        _draw_flow(axis, panel)
    lows, highs = zip(*(axis.dataLim.intervaly for axis, _ in drawn), strict=True)
    bounds = max(LEAST, min(lows) / 1.5), min(MOST, max(highs) * 1.5)
    for place, (axis, panel) in enumerate(drawn):
        log_scale(axis, bounds)
        _draw_lengths(axis, panel.length)
        y = "gradient norm, relative to lag 0" if place % columns == 0 else ""
        style(axis, panel.title, "lag k, characters back", y)
        if columns == 1:
            axis.legend(loc="best")
        else:  # below the drawing, where there is room
            axis.legend(loc="upper left", bbox_to_anchor=(-0.08, -0.16), fontsize=8)
        axis.set_xlim(0, panel.flow.h.shape[1] - 1)
    if bias is not None:
        draw_bias(axes.flat[len(panels)], bias, panels[0].length)
    return figure


def _draw_flow(axis: Axes, panel: Panel) -> None:
    number, one_layer = 0, panel.flow.h.shape[0] == 1
    for part, norms in panel.flow.parts.items():
        for layer in range(norms.shape[0]):
            color = COLORS[number % len(COLORS)]
            low, middle, high = quantiles(norms[layer])
            name = part if one_layer else f"{part} of layer {layer}"
            axis.plot(middle, color=color, label=f"{name}, {_horizon(middle)}")
            shade(axis, range(len(middle)), low, high, color)
            if panel.initial is not None:
                start = quantiles(panel.initial.parts[part][layer])[1]
                axis.plot(start, "--", color=color, linewidth=1.2, label=f"{name} before training, {_horizon(start)}")
            number += 1


def quantiles(norms: np.ndarray) -> np.ndarray:
    """Return the 10 %, 50 % and 90 % quantiles (3, K+1) of gradient norms (K+1, R) relative to those at lag 0."""
    return np.asarray(np.quantile(relative(norms), (0.1, 0.5, 0.9), axis=1))


def _horizon(middle: np.ndarray) -> str:
    """Return how fast a line falls or rises."""
    try:
        decay = fit_decay(middle)
    except ValueError:
        return "vanishes at once"
    if not math.isfinite(decay.horizon):
        return "constant"
    return f"{'falls' if decay.rate < 0 else 'rises'} e-fold in {decay.horizon:.3g} characters"


def _draw_lengths(axis: Axes, length: int) -> None:
    """Draw lines at the length of the window and at half of it."""
    for place, label in ((length / 2, "T/2"), (length, "T")):
        axis.axvline(place, color=INK, linestyle=":", linewidth=1)
        axis.annotate(
            label, (place, 1), xycoords=("data", "axes fraction"), xytext=(3, -10), textcoords="offset points",
            fontsize=8.5,
        )  # fmt: skip


def draw_bias(axis: Axes, bias: TruncationBias, length: int) -> None:
    """Draw the relative bias of the gradient over the length of the training windows, up to two standard errors above.

    Args:
        axis: the drawing.
        bias: the measurements.
        length: T of the run.
    """
    lengths = sorted(one for one, value in bias.biases.items() if math.isfinite(value))
    values = [bias.biases[one] for one in lengths]
    axis.plot(lengths, values, marker="o", markersize=4, label="relative bias")
    shade(axis, lengths, values, [min(bias.limits[one], 2.0) for one in lengths], COLORS[0])
    axis.axhline(ACCEPTED_BIAS, color=COLORS[1], linestyle="--", linewidth=1.4, label=f"{ACCEPTED_BIAS:.0%}")
    axis.axvline(length, color=INK, linestyle=":", linewidth=1, label=f"T = {length}")
    log_2(axis, lengths)
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    style(axis, "truncated windows", "length of the training windows, characters", "bias of the gradient")
    axis.legend(loc="upper left", bbox_to_anchor=(-0.08, -0.16), fontsize=8)


def log_2(axis: Axes, values: Sequence[float]) -> None:
    """Make the x axis logarithmic with these values as its ticks."""
    axis.set_xscale("log", base=2)
    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.xaxis.set_minor_locator(NullLocator())


def memory_chart(curve: MemoryCurve, length: int, title: str, per: str = "character") -> Figure:
    """Draw the loss over the number of characters of context.

    Args:
        curve: the measurements.
        length: T of the run.
        title: of the figure.
        per: what the loss is per: `character` or `byte`.
    """
    figure, axis = new_figure()
    axis.errorbar(
        curve.lengths, curve.zero, curve.errors, color=COLORS[0], marker="o", markersize=4, capsize=2,
        label="from the zero state",
    )  # fmt: skip
    axis.plot(curve.lengths, curve.shuffled, "s--", color=COLORS[1], markersize=4, label="behind a shuffled past")
    axis.axvline(length, color=INK, linestyle=":", linewidth=1, label=f"T = {length}")
    log_2(axis, curve.lengths)
    style(axis, title, f"{per}s of context", f"nats per {per}, held-out text", legend="upper right")
    return figure
