"""What a reader can tell at each character of a text: line, quotes, brackets, indentation, words, articles.

Every feature describes the text up to and including a character, so that a network that has read it could know it.
"""

from __future__ import annotations

import numpy as np

OPENING, CLOSING = "([{（［【《〈", ")]}）］】》〉"
OPENING_QUOTES, CLOSING_QUOTES, STRAIGHT_QUOTES = "“«「『", "”»」』", '"'

ARTICLE_END = "\0"
"""The character that stands for the end of an article in `text_features`."""


def text_features(text: str) -> dict[str, np.ndarray]:
    """Return the features of a text by name, each (N,) float64. Features that never change are left out.

    - `position in the line`: characters since the last line end.
    - `position in the word`: letters and digits since the word began; 0 outside of words.
    - `outside of words`: 1 at a character that is neither letter nor digit.
    - `indentation`: blanks at the beginning of the line, so far.
    - `inside quotes`: 1 between quotation marks; an article and an empty line end a quotation that was never closed.
    - `bracket depth`: open brackets.
    - `position in the article`: ln(1 + characters since the article began).

    Args:
        text: N characters. `ARTICLE_END` stands where an article ends.
    """
    values: dict[str, list[float]] = {
        name: []
        for name in (
            *("position in the line", "position in the word", "outside of words", "indentation", "inside quotes"),
            *("bracket depth", "position in the article"),
        )
    }
    column = word = indentation = depth = position = 0
    is_indenting, is_quoted, before = True, False, ""
    for character in text:
        if character == ARTICLE_END or (character == before == "\n"):
            is_quoted = False
        if character == ARTICLE_END:
            depth = position = 0
        position += 1
        if character in ("\n", ARTICLE_END):
            column, indentation, is_indenting = 0, 0, True
        else:
            column += 1
            is_indenting = is_indenting and character in " \t\u3000"
            indentation += is_indenting
        word = word + 1 if character.isalnum() else 0
        if character in STRAIGHT_QUOTES:
            is_quoted = not is_quoted
        elif character in OPENING_QUOTES or character in CLOSING_QUOTES:
            is_quoted = character in OPENING_QUOTES
        depth = depth + 1 if character in OPENING else max(0, depth - (character in CLOSING))
        before = character
        row = (column, word, not word, indentation, is_quoted, depth, np.log1p(position))
        for feature, value in zip(values.values(), row, strict=True):
            feature.append(float(value))
    arrays = {name: np.array(value) for name, value in values.items()}
    return {name: array for name, array in arrays.items() if len(array) and np.ptp(array) > 0}
