"""A text whose characters are coloured by a value each, as HTML and as a picture.

Values from -1 to 1 are drawn from blue over no colour to orange, in 8 steps each.
"""

from __future__ import annotations

import html
import itertools
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from chargen.insight.drawing import COLORS, INK, fonts_for, new_figure, without_missing

STEPS = 8
"""Steps of the colour on each side of zero."""

DEEPEST = 0.62
"""The opacity of the colour of 1 and -1: text on it stays readable on a light and on a dark page."""

POSITIVE, NEGATIVE = COLORS[1], COLORS[0]

LINE_END = "⏎"
"""What is shown for the end of a line, before the line ends."""


def style_rules() -> str:
    """Return the CSS rules of coloured text."""

    def rule(name: str, color: str, step: int) -> str:
        red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
        return f".{name}{step}{{background:rgb({red} {green} {blue}/{DEEPEST * step / STEPS:.2f})}}"

    return "".join(
        rule(name, color, step) for name, color in (("p", POSITIVE), ("n", NEGATIVE)) for step in range(1, STEPS + 1)
    )


def steps(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return values from -1 to 1 as steps from -STEPS to STEPS."""
    return np.asarray(np.rint(np.clip(np.nan_to_num(np.asarray(values, float)), -1, 1) * STEPS), int)


def coloured_html(characters: Sequence[str], values: Sequence[float] | np.ndarray) -> str:
    """Return a text as HTML, whose characters have the colours of these values.

    Args:
        characters: as they are shown; a line ends behind one that ends with a line end.
        values: from -1 to 1, one for each.
    """
    parts = []
    for step, group in itertools.groupby(zip(steps(values), characters, strict=True), key=lambda pair: int(pair[0])):
        text = "".join(shown(character) for _, character in group)
        name = f"p{step}" if step > 0 else f"n{-step}"
        parts.append(f'<span class="{name}">{html.escape(text)}</span>' if step else html.escape(text))
    return f'<div class="text">{"".join(parts)}</div>'


def shown(character: str) -> str:
    """Return a character as it is shown: a mark at line ends, and none that a page would not show."""
    if character == "\n":
        return f"{LINE_END}\n"
    if character == "\t":
        return "→   "
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in character) or "�"


def coloured_figure(
    rows: Sequence[tuple[str, Sequence[str], Sequence[float] | np.ndarray]], *, columns: int = 100, height: int = 4
) -> Figure:
    """Draw several coloured texts below each other.

    Args:
        rows: of each, a title, its characters, and their values from -1 to 1.
        columns: narrow characters in a line; a wide one, such as a Chinese one, takes two.
        height: the most lines of each text.
    """
    size = 0.205  # inches of a line
    figure, axes = new_figure(9.0, len(rows) * size * (height + 2.4), nrows=len(rows), squeeze=False)
    for axis, (title, characters, values) in zip(axes[:, 0], rows, strict=True):
        axis.set_title(title)
        axis.set_xlim(0, columns)
        axis.set_ylim(height, 0)
        axis.axis("off")
        _draw(axis, characters, steps(values), (columns, height))
    return figure


def _draw(axis: Axes, characters: Sequence[str], colors: np.ndarray, size: tuple[int, int]) -> None:
    """Draw characters in a grid of columns and lines."""
    columns, height = size
    column = line = 0
    fonts: dict[str, Any] = {}
    for character, step in zip(characters, colors, strict=True):
        is_end = character.endswith("\n")
        glyph = LINE_END if is_end else (shown(character).strip() or " ")
        width = 2 if unicodedata.east_asian_width(glyph[0]) in "WF" else 1
        if column + width > columns:
            column, line = 0, line + 1
        if line >= height:
            return
        if step:
            color = POSITIVE if step > 0 else NEGATIVE
            alpha = DEEPEST * abs(int(step)) / STEPS
            axis.add_patch(Rectangle((column, line), width, 1, color=color, alpha=alpha, linewidth=0))
        if glyph != " ":
            if glyph not in fonts:
                names = ["DejaVu Sans Mono", *fonts_for(glyph)]
                text = without_missing(glyph, names)
                is_drawn = text == glyph  # otherwise its code point in small digits, so that it stays in its place
                fonts[glyph] = (
                    glyph if is_drawn else f"{ord(glyph[0]):X}",
                    FontProperties(family=names, size=9 if is_drawn else 4),
                )
            text, font = fonts[glyph]
            pale = 0.35 if is_end else 1.0
            axis.text(column + width / 2, line + 0.55, text, fontproperties=font, ha="center", va="center", color=INK,
                      alpha=pale)  # fmt: skip
        column += width
        if is_end:
            column, line = 0, line + 1
