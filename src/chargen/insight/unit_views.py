"""How units that follow something readable are shown: as coloured text in a picture and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from chargen.insight.coloured_text import coloured_figure, coloured_html
from chargen.insight.neurons import Match
from chargen.insight.page import heading, paragraph, table

EXCERPT, PAGE_EXCERPT = 330, 1200
"""Characters of a coloured text in a picture, and on a page."""

DRAWN = 6
"""Units in a picture."""


class Excerpt(NamedTuple):
    """A part of a text: where it begins, and the values of a unit from there on, from -1 to 1."""

    begin: int
    values: np.ndarray


class Units(NamedTuple):
    """The units that follow the features of a text.

    Attributes:
        characters: of the text, as they are shown.
        num_units: how many units the model has.
        matches: of each feature, the unit that follows it best.
        excerpts: of each, a part of the text that shows it.
    """

    characters: list[str]
    num_units: int
    matches: list[Match]
    excerpts: list[Excerpt]


def excerpt_of(match: Match, values: np.ndarray, feature: np.ndarray, characters: Sequence[str]) -> Excerpt:
    """Return the part of a text in which a feature changes most, and what the unit says there.

    It begins with a line, if there are lines, and lies in the half of the text on which the correlation was measured.
    The sign is that of the feature: a positive value says that the feature is large.

    Args:
        match: the unit and its feature.
        values: (N,) of the unit.
        feature: (N,).
        characters: N of them.
    """
    half = len(values) // 2
    size = min(EXCERPT, len(values) - half)
    lines = [place + 1 for place, character in enumerate(characters) if character == "\n"]
    begins = [place for place in lines if half <= place <= len(values) - size]
    begins = begins or list(range(half, len(values) - size + 1, max(1, size // 4)))
    begin = max(begins, key=lambda place: float(np.std(feature[place : place + size])))
    sign = -1.0 if match.correlation < 0 else 1.0
    centred = values[begin:] - np.median(values)
    return Excerpt(begin, sign * centred / max(1e-9, float(np.quantile(np.abs(centred), 0.98))))


def units_figure(units: Units) -> Figure:
    """Draw the units that were found; the best one if there is none above chance."""
    found = [pair for pair in zip(units.matches, units.excerpts, strict=True) if pair[0].is_found][:DRAWN]
    found = found or [(units.matches[0], units.excerpts[0])]
    rows = [
        (_title(match), units.characters[excerpt.begin :][:EXCERPT], excerpt.values[:EXCERPT])
        for match, excerpt in found
    ]
    return coloured_figure(rows)


def units_html(units: Units, *, length: int = PAGE_EXCERPT) -> list[str]:
    """Return a table of all features, and so many characters of coloured text for each unit that was found."""
    body = [
        paragraph(
            "Which hidden units follow something readable? Each unit was chosen on one half of the held-out text and "
            "measured on the other. Chance is the size of the correlation that the same feature reaches in 95 of 100 "
            "cases after it has been shifted against the text."
        ),
        table(
            ("feature", "unit", "correlation", "chance", ""),
            [
                (
                    match.feature,
                    str(match.unit),
                    f"{match.correlation:.2f}",
                    f"{match.chance:.2f}",
                    "" if match.is_found else "not above chance",
                )
                for match in units.matches
            ],
            numbers=(2, 3),
        ),
        paragraph("Orange: the unit says that the feature is large; blue: that it is small.", note=True),
    ]
    for match, excerpt in zip(units.matches, units.excerpts, strict=True):
        if match.is_found:
            characters = units.characters[excerpt.begin :][:length]
            body += [heading(_title(match), level=3), coloured_html(characters, excerpt.values[:length])]
    return body


def _title(match: Match) -> str:
    return f"{match.feature}: {match.unit}, correlation {match.correlation:.2f} (chance {match.chance:.2f})"
