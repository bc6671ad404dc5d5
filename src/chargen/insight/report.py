"""The report of a run: one page with its settings, text, curves, samples, scores, and what is inside its model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from chargen.evaluation.novelty import MIN_RUN_LENGTH, Novelty
from chargen.evaluation.spelling import Spelling
from chargen.insight.charts import Panel, gradient_chart, memory_chart
from chargen.insight.drawing import COLORS, as_svg, log_scale, new_figure, style
from chargen.insight.figures import curve_of_log
from chargen.insight.memory import MemoryCurve
from chargen.insight.page import heading, page, paragraph, preformatted, table
from chargen.insight.unit_views import Units, units_html
from chargen.storage.run_log import Points, RunLog, clip_limit

SHOWN_SAMPLES = 4
"""Samples of the training that are shown, from the first to the last."""

UNIT_EXCERPT = 500
"""Characters of coloured text for each unit."""


@dataclass(frozen=True)
class Sample:
    """A text that the final model has written, and what can be said about it.

    Attributes:
        text: as it can be shown.
        command: what writes it again.
        spelling: what of it is known; None if the training text is not there.
        novelty: what of it is copied; None if the training text is not there.
    """

    text: str
    command: str
    spelling: Spelling | None = None
    novelty: Novelty | None = None


@dataclass(frozen=True)
class RunReport:
    """What a report shows.

    Attributes:
        name: of the run.
        log: its measurements.
        config: its settings.
        settings: the same as they stand in its file.
        summary: what `summary.json` holds; empty for a run that has not finished.
        metadata: what its model file tells about it.
        samples: headings and texts that it wrote while it trained.
        per: `character` or `byte`.
        commands: what was typed to make the run, and what may be typed next.
        sample: what its final model has written; None if it cannot write.
        baselines: names and nats per character.
        panel: gradients over lags; None if they were not measured.
        memory: losses over the length of context; None if they were not measured.
        units: units that follow something readable; None if they were not measured.
        notes: why something is missing.
    """

    name: str
    log: RunLog
    config: Mapping[str, Any]
    settings: str
    summary: Mapping[str, Any]
    metadata: Mapping[str, Any]
    samples: Sequence[tuple[str, str]]
    per: str
    commands: Sequence[str]
    sample: Sample | None = None
    baselines: Sequence[tuple[str, float]] = ()
    panel: Panel | None = None
    memory: MemoryCurve | None = None
    units: Units | None = None
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def length(self) -> int:
        """T, the characters of a training window."""
        length = self.config.get("sequence_length")
        return length if isinstance(length, int) else 0


def report_page(report: RunReport) -> str:
    """Return the page of a run."""
    sections = {
        "Scores": _scores(report),
        "Curves": _curves(report),
        "Samples": _samples(report),
        "Gradients through time": _gradients(report),
        "Memory": _memory(report),
        "Units": units_html(report.units, length=UNIT_EXCERPT) if report.units is not None else [],
        "Text": _corpus(report),
        "Settings": [preformatted(report.settings)] if report.settings else [],
        "Commands": [preformatted("\n".join(report.commands))],
    }
    sections = {title: body for title, body in sections.items() if body}
    links = "".join(f'<a href="#{_anchor(title)}">{title}</a> ' for title in sections)
    body = [paragraph(line, note=True) for line in (*_header(report), *report.notes)]
    body.append(f"<nav>{links}</nav>")
    for title, parts in sections.items():
        body += [heading(title, anchor=_anchor(title)), *parts]
    return page(report.name, body)


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _header(report: RunReport) -> list[str]:
    """Return what computed the run: the versions, the machine, and how busy it was."""
    versions, machine = _mapping(report.metadata.get("versions")), _mapping(report.summary.get("machine"))
    commit = machine.get("commit")
    source = f" at commit {commit}{' with local changes' if machine.get('is_dirty') else ''}" if commit else ""
    lines = [f"chargen {versions.get('chargen', '?')}{source}, torch {versions.get('torch', '?')}"]
    if machine:
        others = _number(machine, "busy_with_others")
        busy = "" if others is None else f"; other processes took {others:.0%} of the processors while it trained"
        lines.append(
            f"{machine.get('processor')}, {machine.get('processors')} processors, "
            f"{machine.get('memory_gigabytes')} GB of memory{busy}"
        )
    return lines


def _scores(report: RunReport) -> list[str]:
    summary, per = report.summary, report.per
    rows: list[tuple[str, float]] = list(report.baselines)
    nats = _number(summary, "validation_nats_per_char")
    if nats is not None:
        rows.append((f"this run, {_shown(summary, 'parameters')} parameters, static", nats))
    body = []
    if rows:
        ordered = sorted(rows, key=lambda row: row[1])
        body.append(
            table(
                ("held-out text", f"nats/{per}", f"bits/{per}"),
                [(name, f"{value:.4f}", f"{value / math.log(2):.4f}") for name, value in ordered],
                numbers=(1, 2),
            )
        )
    if nats is None:
        return [*body, paragraph("The run has not finished: it has no final score.", note=True)]
    words = (
        f"Best weights of update {_shown(summary, 'best_update')} of {_shown(summary, 'updates')}; "
        f"{_shown(summary, 'characters_seen')} {per}s in {_shown(summary, 'train_seconds')} seconds of training, "
        f"{_shown(summary, 'chars_per_second')} per second, {_shown(summary, 'threads')} threads. The score is of "
        f"{_shown(summary, 'validation_characters')} held-out {per}s, with one carried state."
    )
    return [*body, paragraph(words, note=True)]


def _number(values: Mapping[str, Any], key: str) -> float | None:
    """Return a number of a file that anyone may have written; None if it is none."""
    value = values.get(key)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def _shown(values: Mapping[str, Any], key: str) -> str:
    """Return a number as it is shown."""
    value = _number(values, key)
    return "?" if value is None else f"{value:,.0f}"


def _mapping(value: Any) -> dict[str, Any]:
    """Return a mapping of a file that anyone may have written; an empty one if it is none."""
    return dict(value) if isinstance(value, Mapping) else {}


def _curves(report: RunReport) -> list[str]:
    log = report.log
    skipped = log.points("gradient_norm", where="skipped")
    limit = clip_limit(dict(report.config))
    figure = curve_of_log(log, report.config, "", per=report.per)
    _, clipped = log.points("clip_fraction")
    _, rollbacks = log.points("rollbacks")
    words = [
        f"{len(skipped[0])} updates were skipped, and the run returned to a checkpoint {len(rollbacks)} times.",
        "The gradient was not clipped by norm." if limit is None else
        f"{fmean(clipped):.1%} of the updates were clipped at a norm of {limit:g}." if clipped else "",
    ]  # fmt: skip
    body = [as_svg(figure), paragraph(" ".join(words), note=True)]
    for title, prefix, y, is_log in (
        ("Gradient norm by part of the model", "gradient_norm_", "norm before clipping", True),
        ("Size of an update, relative to the weights", "update_ratio_", "update / weights", True),
        ("Saturated gates", "saturated_", "fraction of the values", False),
    ):
        names = [name for name in log.columns if name.startswith(prefix)]
        curves = {name.removeprefix(prefix): log.points(name) for name in names}
        curves = {name: points for name, points in curves.items() if len(points[0]) > 1}
        if curves:
            body += [heading(title, level=3), as_svg(_several(curves, y, is_log=is_log))]
    return body


def _several(curves: Mapping[str, Points], y: str, *, is_log: bool) -> Figure:
    """Draw several measurements over time."""
    figure, axis = new_figure(height=2.9)
    for number, (name, points) in enumerate(curves.items()):
        dash = "-" if number < len(COLORS) else "--"
        axis.plot(*points, dash, color=COLORS[number % len(COLORS)], label=name, linewidth=1.4)
    if is_log and any(value > 0 for points in curves.values() for value in points[1]):
        log_scale(axis)
    else:
        axis.set_ylim(0, 1)
    style(axis, "", "seconds of training", y)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=6)  # above the drawing, where no line is
    return figure


def _samples(report: RunReport) -> list[str]:
    body = []
    if report.sample is not None:
        body += [paragraph("Written by the best weights:"), preformatted(report.sample.text)]
        body += [paragraph(line) for line in _about(report.sample)]
        body.append(preformatted(report.sample.command))
    if report.samples:
        body.append(heading("As they improved", level=3))
        last = len(report.samples) - 1
        places = sorted({round(last * number / (SHOWN_SAMPLES - 1)) for number in range(SHOWN_SAMPLES)})
        for place in places:
            name, text = report.samples[place]
            body += [paragraph(name, note=True), preformatted(text)]
    return body


def _about(sample: Sample) -> list[str]:
    lines = []
    if sample.spelling is not None and sample.spelling.number:
        spelling = sample.spelling
        noun = "words" if spelling.unit == "word" else "pairs of characters"
        examples = f" Unknown: {', '.join(spelling.examples)}." if spelling.examples else ""
        lines.append(f"{spelling.known:.1%} of its {spelling.number:,} {noun} occur in the training text.{examples}")
    if sample.novelty is not None:
        lines.append(
            f"{sample.novelty.copied_fraction:.1%} of it lies in passages of {MIN_RUN_LENGTH} characters or more that "
            f"occur in the training text; the longest has {sample.novelty.longest_run:,}."
        )
    return lines


def _gradients(report: RunReport) -> list[str]:
    if report.panel is None:
        return []
    return [
        paragraph(
            "How much of the gradient of a loss reaches the states before it, relative to lag 0: the median over "
            "losses in the held-out text, and the band from 10 to 90 %. Dashes: before training. Training cuts the "
            "gradient at the beginning of each window, at most T characters back, on average T/2."
        ),
        as_svg(gradient_chart([report.panel._replace(title="")])),
    ]


def _memory(report: RunReport) -> list[str]:
    if report.memory is None:
        return []
    curve = report.memory
    return [
        paragraph(
            f"The loss of held-out characters behind a context of limited length. {curve.length_for(0.9):,} characters "
            f"give 90 % of what {curve.lengths[-1]:,} give, {curve.length_for(0.99):,} give 99 %."
        ),
        as_svg(memory_chart(curve, report.length, "", report.per)),
    ]


def _corpus(report: RunReport) -> list[str]:
    corpus = _mapping(report.metadata.get("corpus"))
    if not corpus:
        return []
    runs = corpus.get("encodings")
    encodings = (
        {str(run[0]) for run in runs if isinstance(run, (list, tuple)) and run} if isinstance(runs, list) else ()
    )
    rows = [
        ("name", str(corpus.get("name"))),
        (f"{report.per}s", _shown(corpus, "characters")),
        ("symbols", _shown(corpus, "vocabulary")),
        ("articles", _shown(corpus, "articles")),
        ("encoding", ", ".join(sorted(encodings)) or "-"),
        ("SHA-256", str(corpus.get("sha256"))),
    ]
    return [table(("", ""), rows)]
