"""Figures from plain arrays. The only module that knows matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen
from matplotlib.axes import Axes
from matplotlib.figure import Figure

TRAIN, VALIDATION, RATE = "#9ecae1", "#d94801", "#bdbdbd"

Points = tuple[Sequence[float], Sequence[float]]
"""x and y."""


def learning_curve(path: Path, title: str, train: Points, validation: Points, rate: Points) -> None:
    """Nats per character over seconds, training and held-out, with the learning rate behind them.

    Args:
        path: of the picture; its suffix decides the format.
        title: above it.
        train: seconds and nats per character of training windows.
        validation: the same of the held-out text.
        rate: seconds and learning rate.
    """
    figure, axis = plt.subplots(figsize=(7.2, 4.2), dpi=150)
    behind = axis.twinx()
    behind.fill_between(rate[0], rate[1], color=RATE, alpha=0.25, linewidth=0)
    behind.set_ylim(0, max(rate[1], default=1.0) * 3.5)
    behind.set_yticks([])
    axis.set_zorder(behind.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.plot(*train, color=TRAIN, linewidth=1.4, label="training windows")
    axis.plot(*validation, color=VALIDATION, linewidth=1.8, marker="o", markersize=4, label="held-out text")
    axis.fill_between([], [], color=RATE, alpha=0.25, label="learning rate (no scale)")
    if len(validation[1]):
        best = min(zip(validation[1], validation[0], strict=True))
        axis.annotate(
            f"{best[0]:.3f} nats",
            (best[1], best[0]),
            xytext=(-6, 14),
            textcoords="offset points",
            ha="right",
            color=VALIDATION,
        )
    behind.spines[["top", "right"]].set_visible(False)
    shown = sorted([*train[1][2:], *validation[1]])
    if shown:
        axis.set_ylim(shown[0] - 0.1, shown[-1] + 0.1)
    _save(figure, axis, path, title)


def compared(path: Path, title: str, curves: Mapping[str, Sequence[Sequence[Sequence[float]]]]) -> None:
    """Nats per character over seconds, of several contenders.

    Args:
        path: of the picture; its suffix decides the format.
        title: above it.
        curves: by contender, its runs; of a run, its points (seconds, nats per character).
    """
    figure, axis = plt.subplots(figsize=(7.2, 4.2), dpi=150)
    for (name, runs), color in zip(curves.items(), (VALIDATION, "#756bb1", "#31a354"), strict=False):
        for number, run in enumerate(runs):
            x, y = zip(*run, strict=True)
            axis.plot(x, y, color=color, linewidth=1.8, marker="o", markersize=3, label=None if number else name)
        best = min(min(y for _, y in run) for run in runs)
        end = max(run[-1][0] for run in runs)
        axis.annotate(f"{best:.3f}", (end, best), xytext=(6, -3), textcoords="offset points", color=color)
    axis.set_xlim(left=0)
    axis.margins(x=0.08)
    _save(figure, axis, path, title)


def _save(figure: Figure, axis: Axes, path: Path, title: str) -> None:
    """Says what the axes are and writes the picture."""
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xlabel("seconds of training")
    axis.set_ylabel("nats per character")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
    axis.legend(frameon=False, loc="upper right")
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
