"""Pictures: every character of a title is drawn in a font that has it, or escaped."""

from __future__ import annotations

import io
import logging

import pytest

pytest.importorskip("matplotlib")

from matplotlib.font_manager import findfont, fontManager, get_font

from chargen.insight import drawing
from chargen.insight.drawing import CJK_FONTS, DEFAULT_FONT, fonts_for, save, without_missing
from chargen.insight.figures import LABELS, learning_curve


def characters_of(font: str) -> set[int]:
    return set(get_font(findfont(font)).get_charmap())


def test_characters_that_no_font_has_are_escaped() -> None:
    assert 0x4E2D not in characters_of(DEFAULT_FONT)
    assert without_missing("runs/a中é", [DEFAULT_FONT]) == "runs/a\\u4e2dé"


@pytest.mark.parametrize("title", ["runs/2026", "runs/唐詩三百首", "ひらがな 한글 עברית", "$x^2$ \U0001f600"])
def test_a_title_is_drawn_without_a_warning(
    title: str, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    fonts = fonts_for(title)
    drawn = without_missing(title, fonts)
    covered = set().union(*map(characters_of, fonts))
    assert fonts[0] == DEFAULT_FONT
    assert all(ord(character) in covered for character in drawn)
    assert not any(name.startswith("Last Resort") for name in fonts)  # it draws boxes
    points = ([1.0, 2.0], [3.0, 2.0])
    with caplog.at_level(logging.WARNING):
        for language in LABELS:
            save(learning_curve(title, points, points, points, norm=points, limit=1.0, language=language), io.BytesIO())
    assert not recwarn.list
    assert not caplog.records


def test_every_language_has_all_words() -> None:
    assert len({frozenset(words) for words in LABELS.values()}) == 1


def test_an_installed_font_with_chinese_characters_is_chosen() -> None:
    installed = {entry.name for entry in fontManager.ttflist}.intersection(CJK_FONTS)
    if not installed:
        pytest.skip("no font with Chinese characters is installed")
    assert without_missing("唐詩三百首", fonts_for("唐詩三百首")) == "唐詩三百首"


def test_without_other_fonts_the_default_one_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "_font_files", dict)
    assert fonts_for("唐詩") == [DEFAULT_FONT]
    assert without_missing("唐詩", fonts_for("唐詩")) == "\\u5510\\u8a69"
