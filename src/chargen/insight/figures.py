"""Draw learning curves from plain arrays. No other module imports matplotlib."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # imported after the backend is set
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

DEFAULT_FONT = "DejaVu Sans"
"""The font that comes with matplotlib."""

CJK_FONTS = (
    *("Noto Sans CJK TC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans TC", "Source Han Sans TC"),
    *("PingFang TC", "PingFang HK", "Heiti TC", "Hiragino Sans", "Microsoft JhengHei", "Microsoft YaHei", "SimHei"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "AR PL UMing TW", "Droid Sans Fallback", "Arial Unicode MS"),
)
"""Fonts with Chinese characters that are tried before all others."""

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # many fonts do not have every weight

TRAIN_COLOR, VALIDATION_COLOR, RATE_COLOR = "#9ecae1", "#d94801", "#bdbdbd"
RUN_COLORS = (VALIDATION_COLOR, "#756bb1", "#31a354")

LABELS = {
    "en": {
        "train": "training windows", "validation": "held-out text", "rate": "learning rate (no scale)",
        "seconds": "seconds of training", "character": "nats per character", "byte": "nats per byte", "nats": "nats",
    },
    "zh-TW": {
        "train": "訓練視窗", "validation": "留作驗證的文字", "rate": "學習率（無刻度）",
        "seconds": "訓練秒數", "character": "每字元奈特數", "byte": "每位元組奈特數", "nats": "奈特",
    },
}  # fmt: skip
"""The words of a picture by language."""

Points = tuple[Sequence[float], Sequence[float]]
"""The x and y coordinates of points."""


def learning_curve(
    path: Path | IO[bytes],
    title: str,
    train: Points,
    validation: Points,
    rate: Points,
    *,
    per: str = "character",
    language: str = "en",
) -> None:
    """Draw the loss of a run over time, for training windows and held-out text, and its learning rate behind them.

    Args:
        path: the picture to write; its suffix sets the format. A binary stream gets a PNG.
        title: the title of the picture.
        train: seconds, and nats per character of training windows.
        validation: seconds, and nats per character of the held-out text.
        rate: seconds, and learning rate; drawn without a scale.
        per: what the loss is per: `character` or `byte`.
        language: of the words, one of `LABELS`.
    """
    words = LABELS[language]
    figure, axis = plt.subplots(figsize=(7.2, 4.2), dpi=150)
    behind = axis.twinx()
    behind.fill_between(rate[0], rate[1], color=RATE_COLOR, alpha=0.25, linewidth=0)
    behind.set_ylim(0, max(rate[1], default=1.0) * 3.5)
    behind.set_yticks([])
    axis.set_zorder(behind.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.plot(*train, color=TRAIN_COLOR, linewidth=1.4, label=words["train"])
    axis.plot(*validation, color=VALIDATION_COLOR, linewidth=1.8, marker="o", markersize=4, label=words["validation"])
    axis.fill_between([], [], color=RATE_COLOR, alpha=0.25, label=words["rate"])
    if len(validation[1]):
        nats, seconds = min(zip(validation[1], validation[0], strict=True))
        axis.annotate(
            f"{nats:.3f} {words['nats']}",
            (seconds, nats),
            xytext=(-6, 14),
            textcoords="offset points",
            ha="right",
            color=VALIDATION_COLOR,
        )
    behind.spines[["top", "right"]].set_visible(False)
    in_range = sorted([*train[1][2:], *validation[1]])  # the first losses are so high that they would hide the rest
    if in_range:
        axis.set_ylim(in_range[0] - 0.1, in_range[-1] + 0.1)
    _save(figure, axis, path, title, (words["seconds"], words[per]))


def compare_runs(path: Path, title: str, curves: Mapping[str, Sequence[Sequence[Sequence[float]]]]) -> None:
    """Draw the loss of several methods over time, each with one or more runs.

    Args:
        path: the picture to write; its suffix sets the format.
        title: the title of the picture.
        curves: the runs of up to three methods by name. A run is a list of points (seconds, nats per character).
    """
    figure, axis = plt.subplots(figsize=(7.2, 4.2), dpi=150)
    for (name, runs), color in zip(curves.items(), RUN_COLORS, strict=False):
        for number, run in enumerate(runs):
            x, y = zip(*run, strict=True)
            axis.plot(x, y, color=color, linewidth=1.8, marker="o", markersize=3, label=None if number else name)
        best = min(min(y for _, y in run) for run in runs)
        end = max(run[-1][0] for run in runs)
        axis.annotate(f"{best:.3f}", (end, best), xytext=(6, -3), textcoords="offset points", color=color)
    axis.set_xlim(left=0)
    axis.margins(x=0.08)
    _save(figure, axis, path, title)


def fonts_for(text: str) -> list[str]:
    """Return the names of fonts that have the characters of a text together; the first one is that of all pictures.

    Characters that no installed font has are missing from all of them: see `without_missing`.
    """
    names, missing = [DEFAULT_FONT], _missing(text, [_default_file()])
    if not missing:
        return names
    entries = _font_files()
    for name in (*filter(entries.__contains__, CJK_FONTS), *sorted(entries)):
        try:
            left = _missing("".join(missing), [entries[name]])
        except (OSError, RuntimeError):  # a damaged font
            continue
        if left < missing:
            names.append(name)
            missing = left
        if not missing:
            break
    return names


def without_missing(text: str, fonts: Sequence[str]) -> str:
    """Escape the characters of a text that none of these fonts has, such as `\\u4e2d`."""
    entries = _font_files()
    missing = _missing(text, [_default_file(), *(entries[name] for name in fonts if name in entries)])
    return "".join(ascii(character)[1:-1] if character in missing else character for character in text)


def _font_files() -> dict[str, str]:
    """Return the file of each installed font, except for those that draw one box for all characters of a script."""
    entries = reversed(fontManager.ttflist)
    return {entry.name: entry.fname for entry in entries if not entry.name.startswith("Last Resort")}


def _default_file() -> str:
    return str(findfont(DEFAULT_FONT))


def _missing(text: str, files: Iterable[str]) -> set[str]:
    """Return the characters of a text that no font in these files has."""
    maps = [get_font(file).get_charmap() for file in files]
    return {character for character in text if not any(ord(character) in known for known in maps)}


def _save(
    figure: Figure,
    axis: Axes,
    path: Path | IO[bytes],
    title: str,
    labels: tuple[str, str] = (LABELS["en"]["seconds"], LABELS["en"]["character"]),
) -> None:
    """Add title, labels and legend, and write the picture. `labels` are those of the x and the y axis."""
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.25)
    axis.legend(frameon=False, loc="upper right")
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            fonts = fonts_for(text.get_text())
            text.set(text=without_missing(text.get_text(), fonts), fontfamily=fonts)
        text.set_parse_math(False)  # a name is no formula
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
