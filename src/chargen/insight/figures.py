"""Learning curves: the loss, the gradient norm and the learning rate of runs over time."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from chargen.insight.drawing import COLORS, INK, PALE, log_scale, new_figure, save, style
from chargen.storage.run_log import RunLog, clip_limit

LABELS = {
    "en": {
        "train": "training windows", "validation": "held-out text", "rate": "learning rate (no scale)",
        "seconds": "seconds of training", "character": "nats per character", "byte": "nats per byte", "nats": "nats",
        "bits": "bits",
        "norm": "gradient norm", "before": "before clipping", "limit": "clipped above {:g}", "skipped": "skipped",
    },
    "zh-TW": {
        "train": "訓練視窗", "validation": "留作驗證的文字", "rate": "學習率（無刻度）",
        "seconds": "訓練秒數", "character": "每字元奈特數", "byte": "每位元組奈特數", "nats": "奈特",
        "bits": "位元",
        "norm": "梯度範數", "before": "裁剪前", "limit": "超過 {:g} 即裁剪", "skipped": "略過的更新",
    },
}  # fmt: skip
"""The words of a picture by language."""

Points = tuple[Sequence[float], Sequence[float]]
"""The x and y coordinates of points."""

NOTHING: Points = ((), ())


def learning_curve(
    title: str,
    train: Points,
    validation: Points,
    rate: Points,
    *,
    norm: Points = NOTHING,
    skipped: Points = NOTHING,
    limit: float | None = None,
    per: str = "character",
    language: str = "en",
) -> Figure:
    """Draw the loss of a run over time and, below it, the norm of its gradient.

    Args:
        title: the title of the picture.
        train: seconds, and nats per character of training windows.
        validation: seconds, and nats per character of the held-out text.
        rate: seconds, and learning rate; drawn without a scale.
        norm: seconds, and the norm of the gradient before clipping; without points, only the loss is drawn.
        skipped: seconds, and the norm of the gradient of updates that were skipped.
        limit: the norm above which the gradient was clipped; None if it was not.
        per: what the loss is per: `character` or `byte`.
        language: of the words, one of `LABELS`.
    """
    words = LABELS[language]
    if not norm[0]:
        figure, axis = new_figure()
    else:
        figure, (axis, below) = new_figure(height=6.2, nrows=2, sharex=True, height_ratios=(2, 1.15))
        draw_norm(below, norm, skipped, limit, language=language)
    behind = axis.twinx()
    behind.fill_between(rate[0], rate[1], color=INK, alpha=0.08, linewidth=0)
    behind.set_ylim(0, max(rate[1], default=1.0) * 3.5)
    behind.set_yticks([])
    axis.set_zorder(behind.get_zorder() + 1)
    axis.plot(*train, color=COLORS[5], linewidth=1.4, label=words["train"])
    axis.plot(*validation, color=COLORS[1], linewidth=1.8, marker="o", markersize=4, label=words["validation"])
    axis.fill_between([], [], color=INK, alpha=0.08, label=words["rate"])
    if len(validation[1]):
        nats, seconds = min(zip(validation[1], validation[0], strict=True))
        axis.annotate(
            f"{nats:.3f} {words['nats']}",
            (seconds, nats),
            xytext=(-6, 14),
            textcoords="offset points",
            ha="right",
            color=COLORS[1],
        )
    in_range = sorted([*train[1][2:], *validation[1]])  # the first losses are so high that they would hide the rest
    if in_range:
        axis.set_ylim(in_range[0] - 0.1, in_range[-1] + 0.1)
    style(axis, title, "" if norm[0] else words["seconds"], words[per], legend="upper right")
    bits = axis.secondary_yaxis("right", functions=(lambda nats: nats / math.log(2), lambda bits: bits * math.log(2)))
    bits.set_ylabel(words["bits"])
    return figure


def curve_of_log(
    log: RunLog, config: Mapping[str, Any], title: str, *, per: str = "character", language: str = "en"
) -> Figure:
    """Draw the learning curve of a run from its measurements and its settings; the arguments are as above."""
    return learning_curve(
        title,
        *map(log.points, ("train_nats_per_char", "validation_nats_per_char", "learning_rate")),
        norm=log.points("gradient_norm", where="learning_rate"),
        skipped=log.points("gradient_norm", where="skipped"),
        limit=clip_limit(dict(config)),
        per=per,
        language=language,
    )


def draw_norm(axis: Axes, norm: Points, skipped: Points, limit: float | None, *, language: str = "en") -> None:
    """Draw the norm of the gradient over time, with the line above which it was clipped."""
    words = LABELS[language]
    axis.plot(*norm, color=COLORS[0], linewidth=1.2, label=words["before"])
    if skipped[0]:
        axis.plot(*skipped, "x", color=COLORS[3], markersize=5, label=words["skipped"])
    if limit is not None:
        axis.axhline(limit, color=COLORS[1], linestyle="--", linewidth=1.4, label=words["limit"].format(limit))
    log_scale(axis)
    style(axis, "", words["seconds"], words["norm"], legend="best")


def compare_runs(
    path: Path, title: str, curves: Mapping[str, Sequence[Sequence[Sequence[float]]]], *, per: str = "character"
) -> None:
    """Draw the loss of several methods over time, each with one or more runs, into a file.

    Args:
        path: the picture to write; its suffix sets the format.
        title: the title of the picture.
        curves: the runs of each method by name. A run is a list of points (seconds, nats per character).
        per: what the loss is per: `character` or `byte`.
    """
    save(comparison(title, curves, per=per), path)


def comparison(
    title: str, curves: Mapping[str, Sequence[Sequence[Sequence[float]]]], *, per: str = "character", y: str = ""
) -> Figure:
    """Draw what `compare_runs` writes; something else than a loss, named by `y`, on a logarithmic scale."""
    figure, axis = new_figure()
    _draw_curves(axis, curves, is_loss=not y)
    style(axis, title, LABELS["en"]["seconds"], y or LABELS["en"][per], legend="upper right")
    return figure


def run_comparison(
    losses: Mapping[str, Points],
    norms: Mapping[str, Points],
    *,
    limits: Collection[float] = (),
    per: str = "character",
) -> Figure:
    """Draw the losses of several runs over time and, below, the norms of their gradients.

    Args:
        losses: seconds, and nats per character of the held-out text, by the name of a run.
        norms: seconds, and the norm of the gradient before clipping.
        limits: the norms above which gradients were clipped.
        per: what a loss is per: `character` or `byte`.
    """
    figure, (axis, below) = new_figure(height=6.4, nrows=2, sharex=True, height_ratios=(1.6, 1))
    words = LABELS["en"]
    _draw_curves(axis, {name: [list(zip(*points, strict=True))] for name, points in losses.items()}, is_loss=True)
    _draw_curves(below, {name: [list(zip(*points, strict=True))] for name, points in norms.items()}, is_loss=False)
    style(axis, "", "", f"{words[per]}, held-out text", legend="upper right")
    for limit in limits:
        below.axhline(limit, color=INK, linestyle="--", linewidth=1.2, label=words["limit"].format(limit))
    handles, labels = below.get_legend_handles_labels()
    clipped = [pair for pair in zip(handles, labels, strict=True) if pair[1] not in norms]
    style(below, "", words["seconds"], "gradient norm before clipping")
    if clipped:
        below.legend(*zip(*clipped, strict=True), loc="upper right")
    return figure


def _draw_curves(axis: Axes, curves: Mapping[str, Sequence[Sequence[Sequence[float]]]], *, is_loss: bool) -> None:
    """Draw the runs of each name in a colour of its own; a loss on a linear scale, a norm on a logarithmic one."""
    tops = []
    for number, (name, runs) in enumerate(curves.items()):
        color, dash = COLORS[(number + 1) % len(COLORS)], "-" if number < len(COLORS) else "--"
        best = min(value for run in runs for _, value in run)
        label = f"{name}, best {best:.3f}" if is_loss else name
        for index, run in enumerate(runs):
            times, values = zip(*run, strict=True)
            marker = "o" if is_loss else ""
            axis.plot(times, values, dash, color=color, marker=marker, markersize=3, label=None if index else label)
            tops.append(median(values))
    axis.set_xlim(left=0)
    if not is_loss:
        log_scale(axis)
    elif tops:  # the first losses of a run are so high that they would hide the rest
        low, high = axis.get_ylim()
        axis.set_ylim(low, min(high, max(tops) + 0.5 * (max(tops) - low)))


def shade(axis: Axes, x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str) -> None:
    """Draw a pale band."""
    axis.fill_between(x, low, high, color=color, alpha=PALE, linewidth=0)
