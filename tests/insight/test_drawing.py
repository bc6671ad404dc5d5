"""Figures as SVG for light and dark pages, coloured text, and pages that escape what they show."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.patches import Rectangle

from chargen.insight.charts import Panel, gradient_chart, memory_chart, quantiles
from chargen.insight.coloured_text import LINE_END, STEPS, coloured_figure, coloured_html, steps
from chargen.insight.drawing import COLORS, INK, as_svg, as_themed_svg, log_scale, new_figure, save, style
from chargen.insight.figures import learning_curve, run_comparison
from chargen.insight.gradient_flow import GradientFlow
from chargen.insight.memory import MemoryCurve
from chargen.insight.page import page, paragraph, table
from chargen.insight.truncation import TruncationBias
from chargen.storage.run_log import RunLog, clip_limit

LINE = ([1.0, 2.0, 3.0], [3.0, 2.0, 1.5])


def figures() -> dict:
    """One figure of every kind."""
    flow = GradientFlow(np.exp(-np.arange(30.0))[None, :, None] * np.ones((2, 30, 5)), None)
    panel = Panel("a run", flow, flow, 16)
    return {
        "learning curve": learning_curve("runs/唐詩 <b>", LINE, LINE, LINE, norm=LINE, skipped=LINE, limit=1.0),
        "comparison": run_comparison({"a": LINE, "b": LINE}, {"a": LINE}, limits=[1.0]),
        "gradients": gradient_chart([panel]),
        "several": gradient_chart([panel] * 4),
        "bias": gradient_chart([panel], TruncationBias({8: 0.4, 16: 0.1}, {8: 0.5, 16: 0.2}, 128, 1000)),
        "memory": memory_chart(MemoryCurve([1, 2, 4], [3, 2, 1.5], [3.5, 2.2, 1.5], [0.1, 0.1, 0.0]), 4, "memory"),
        "text": coloured_figure([("a unit", list("ab\ncd"), [0.5, -1, 0, 0.1, 1])]),
    }


@pytest.mark.parametrize("name", figures())
def test_a_figure_takes_its_colours_from_the_page(name: str) -> None:
    svg = as_svg(figures()[name])
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    colours = {found.lower() for found in re.findall("#[0-9a-fA-F]{6}", re.sub("url\\([^)]*\\)", "", svg))}
    assert not colours & {INK, *COLORS}
    assert "var(--ink)" in svg
    assert "<text" in svg  # text stays text, so that the reader's fonts draw it
    assert svg == as_svg(figures()[name])  # the same data give the same file


def test_a_figure_for_a_file_follows_the_theme_of_its_reader() -> None:
    svg = as_themed_svg(figures()["memory"])
    ElementTree.fromstring(svg)
    assert "prefers-color-scheme:dark" in svg
    assert {"--ink", "--paper", "--c0"} <= set(re.findall(r"(--\w+):#", svg))


def test_a_picture_for_print_has_plain_colours(tmp_path: Path) -> None:
    save(figures()["memory"], tmp_path / "m.svg")
    text = (tmp_path / "m.svg").read_text(encoding="utf-8")
    assert "var(" not in text
    assert COLORS[0] in text


@pytest.mark.parametrize(
    ("values", "labels"),
    [((1.0, 20.0), {"1", "2", "5", "10", "20"}), ((1e-8, 1e4), {"1e-08", "0.0001", "1", "10000"})],
)
def test_a_logarithmic_axis_has_plain_numbers(values: tuple[float, float], labels: set[str]) -> None:
    figure, axis = new_figure()
    axis.plot([0, 1], values)
    log_scale(axis)
    style(axis)
    figure.canvas.draw()
    shown = {label.get_text() for label in axis.get_yticklabels()}
    assert labels <= shown
    assert not any("$" in text for text in shown)


def test_quantiles_are_relative_to_lag_0() -> None:
    norms = np.array([[2.0, 4.0, 8.0], [1.0, 4.0, 16.0]])  # lags 0 and 1 of three losses
    np.testing.assert_allclose(quantiles(norms)[1], [1.0, 1.0])
    np.testing.assert_allclose(quantiles(norms)[:, 1], np.quantile([0.5, 1.0, 2.0], (0.1, 0.5, 0.9)))


# ------------------------------------------------------------------------------- coloured text and pages


def test_coloured_text_is_the_text() -> None:
    characters = list("a<b> & c\nd\t")
    values = np.linspace(-1, 1, len(characters))
    found = coloured_html(characters, values)
    plain = html.unescape(re.sub("<[^>]*>", "", found))
    assert plain == "".join(characters).replace("\n", f"{LINE_END}\n").replace("\t", "→   ")
    names = re.findall('class="([pn])([0-9]+)"', found)
    assert names[0] == ("n", str(STEPS))
    assert names[-1] == ("p", str(STEPS))


def test_steps_are_rounded_and_bounded() -> None:
    assert steps([0, 1, -1, 5, -5, 0.5, np.nan]).tolist() == [0, STEPS, -STEPS, STEPS, -STEPS, STEPS // 2, 0]


def test_every_coloured_character_has_its_place_in_a_picture() -> None:
    """A line ends behind its line end; a wide character takes two columns."""
    figure = coloured_figure([("t", ["a", "中", "b\n", "c"], [1, 1, 0, -1])])
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [(box.get_x(), box.get_y(), box.get_width()) for box in boxes] == [(0, 0, 1), (1, 0, 2), (0, 1, 1)]


def test_a_page_escapes_what_it_shows() -> None:
    content = page("<title>", [paragraph("<b>&"), table(["<i>"], [["<script>"]])])
    assert "<b>" not in content
    assert "<i>" not in content
    assert "<script" not in content
    assert content.count("&lt;title&gt;") == 2
    assert not re.search(r'(?:src|href)="', content)


# ------------------------------------------------------------------------------- the log of a run


def test_values_of_a_log_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    rows = "update,seconds,loss,gradient_norm,skipped\n1,1.0,3.0,0.5,\n2,2.0,nan,inf,1\n3,3.0,2.0,0.25,\n4,4.0,,7,1\n"
    (tmp_path / "metrics.csv").write_text(rows)
    log = RunLog.read(tmp_path)
    assert log.points("loss") == ([1.0, 3.0], [3.0, 2.0])
    assert log.points("gradient_norm", where="skipped") == ([4.0], [7.0])
    assert log.points("loss", against="update") == ([1.0, 3.0], [3.0, 2.0])
    assert log.points("nothing") == ([], [])


@pytest.mark.parametrize(
    ("trainer", "limit"),
    [
        ({"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm"}, 0.5),
        ({"gradient_clip_val": 5}, 5.0),
        ({"gradient_clip_val": 5.0, "gradient_clip_algorithm": "value"}, None),
        ({"gradient_clip_val": None}, None),
        ({}, None),
        ("x", None),
    ],
)
def test_the_clip_line_is_that_of_clipping_by_norm(trainer: object, limit: float | None) -> None:
    assert clip_limit({"trainer": trainer}) == limit
