"""Words of a generated text that the training text has, or pairs of characters where there are no blanks."""

from __future__ import annotations

import pytest

from chargen.evaluation.spelling import measure_spelling


def test_words_are_counted_with_repetitions() -> None:
    spelling = measure_spelling("The cat doesn't see the dog.", "the dog sese The cat, doesn't it?")
    assert (spelling.unit, spelling.number) == ("word", 7)
    assert spelling.known == pytest.approx(5 / 7)
    assert spelling.examples == ["sese", "it"]


def test_pairs_are_counted_without_blanks() -> None:
    """In this text, 明月 and 月光 occur, and 光明 does not."""
    spelling = measure_spelling("床前明月光，疑是地上霜。", "明月光明")
    assert (spelling.unit, spelling.number, spelling.examples) == ("pair", 3, ["光明"])
    assert spelling.known == pytest.approx(2 / 3)


def test_the_training_text_is_spelled_as_itself() -> None:
    text = "To be, or not to be: that is the question."
    assert measure_spelling(text, text).known == 1.0
    assert measure_spelling(text, "").known == 1.0
