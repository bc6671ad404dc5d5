"""How figures look: colours, fonts for every script, light and dark, and how a figure becomes a file. Owns matplotlib.

A figure is drawn once, in the colours of `COLORS` and `INK`. An SVG for a page gets its colours from the page, so that
one figure fits a light and a dark theme. The colours are those of Okabe & Ito (2008), which can be told apart with
colour blindness, too.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Figure
from matplotlib.font_manager import findfont, findSystemFonts, fontManager, get_font
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

DEFAULT_FONT = "DejaVu Sans"
"""The font that comes with matplotlib."""

CJK_FONTS = (
    *("Noto Sans CJK TC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans TC", "Source Han Sans TC"),
    *("PingFang TC", "PingFang HK", "Heiti TC", "Hiragino Sans", "Microsoft JhengHei", "Microsoft YaHei", "SimHei"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "AR PL UMing TW", "Droid Sans Fallback", "Arial Unicode MS"),
)
"""Fonts with Chinese characters that are tried before all others."""

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # many fonts do not have every weight

INK = "#1f2328"
"""The colour of text and axes."""

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The colours of lines, in this order."""

DARK_INK = "#e6e8eb"
DARK_COLORS = ("#4ba3e3", "#ff8a3d", "#2bc79a", "#e29acb", "#f2bc45", "#9ad5f7")
"""The same on a dark page."""

PAPER, DARK_PAPER = "#ffffff", "#14171c"
"""The background of a page."""

PALE = 0.18
"""The opacity of areas and grids behind lines."""

matplotlib.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "chargen", "figure.facecolor": "none", "axes.facecolor": "none",
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.5, "axes.titlelocation": "left",
    "axes.labelsize": 9.5, "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLORS), "grid.color": INK, "grid.alpha": PALE, "grid.linewidth": 0.6,
    "lines.linewidth": 1.7,
})  # fmt: skip


def new_figure(width: float = 7.2, height: float = 4.2, **grid: Any) -> tuple[Figure, Any]:
    """Return an empty figure of so many inches, and its axes as `Figure.subplots` does with the same arguments.

    It is not one of pyplot's, which keeps every figure until it is closed.
    """
    figure = Figure(figsize=(width, height), dpi=150)
    height_ratios = grid.pop("height_ratios", None)
    return figure, figure.subplots(**grid, gridspec_kw={"height_ratios": height_ratios} if height_ratios else None)


def style(axis: Axes, title: str = "", x: str = "", y: str = "", *, legend: Any = None) -> None:
    """Add title, labels, a pale grid and, at a place such as `upper right`, a legend to one drawing of a figure."""
    axis.set_title(title)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    if legend is not None and axis.get_legend_handles_labels()[0]:
        axis.legend(loc=legend)


def log_scale(axis: Axes, bounds: tuple[float, float] | None = None) -> None:
    """Make the y axis of a drawing logarithmic, with plain numbers; call it after the lines are drawn.

    Args:
        axis: the drawing.
        bounds: the least and the largest value to show; None for all.
    """
    axis.set_yscale("log")
    if bounds is not None:
        axis.set_ylim(*bounds)
    low, high = axis.get_ylim()
    is_short = high < 300 * low
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, target: Path | IO[bytes]) -> None:
    """Write a figure to a file, whose suffix sets the format, or as PNG to a stream.

    Raises:
        ValueError: the suffix is not that of a format.
    """
    _finish(figure)
    figure.savefig(target, facecolor=PAPER)


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG for a page that defines the colours `--ink`, `--c0`, `--c1`, ..."""
    _finish(figure)
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for number, color in enumerate(COLORS):
        text = text.replace(color, f"var(--c{number})")
    return text.replace(INK, "var(--ink)")


def as_themed_svg(figure: Figure) -> str:
    """Return a figure as a file of SVG of its own that follows the theme of its reader."""
    svg = as_svg(figure)
    begin = svg.index(">") + 1
    paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:begin]}<style>{theme("svg")}</style>{paper}{svg[begin:]}'


def theme(selector: str = ":root") -> str:
    """Return CSS that defines the colours of figures for a light and a dark theme."""

    def rules(ink: str, paper: str, colors: Sequence[str]) -> str:
        lines = "".join(f"--c{number}:{color};" for number, color in enumerate(colors))
        return f"{selector}{{--ink:{ink};--paper:{paper};{lines}}}"

    dark = rules(DARK_INK, DARK_PAPER, DARK_COLORS)
    return f"{rules(INK, PAPER, COLORS)}@media screen and (prefers-color-scheme:dark){{{dark}}}"


def _finish(figure: Figure) -> None:
    """Give each text a font that has its characters, and arrange the parts of a figure."""
    for text in figure.findobj(Text):
        if not text.get_text().isascii():
            fonts = fonts_for(text.get_text())
            text.set(text=without_missing(text.get_text(), fonts), fontfamily=fonts)
        text.set_parse_math(False)  # a name is no formula
    figure.tight_layout()


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


@cache
def _add_new_fonts() -> None:
    """Find fonts that were installed after matplotlib has made its list, which it keeps in a file."""
    known = {entry.fname for entry in fontManager.ttflist}
    for file in findSystemFonts():
        if file not in known:
            with contextlib.suppress(Exception):  # a damaged font, or one of a kind that matplotlib cannot draw
                fontManager.addfont(file)


def _font_files() -> dict[str, str]:
    """Return the file of each installed font, except for those that draw one box for all characters of a script."""
    _add_new_fonts()
    entries = reversed(fontManager.ttflist)
    return {entry.name: entry.fname for entry in entries if not entry.name.startswith("Last Resort")}


def _default_file() -> str:
    return str(findfont(DEFAULT_FONT))


def _missing(text: str, files: Iterable[str]) -> set[str]:
    """Return the characters of a text that no font in these files has."""
    maps = [get_font(file).get_charmap() for file in files]
    return {character for character in text if not any(ord(character) in known for known in maps)}
