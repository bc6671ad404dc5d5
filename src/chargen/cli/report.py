"""`chargen report`: one page with all there is to know about a run."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer

from chargen.cli.console import ForceOption, RunArgument, at_home, console, is_stdout
from chargen.cli.pictures import drawable, require_matplotlib, write_page
from chargen.errors import FileError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from chargen.cli.inspect.subject import Subject
    from chargen.corpus.encoded import Corpus
    from chargen.insight.report import RunReport, Sample

Result = TypeVar("Result")

REPORT = "report.html"

SHARE = 0.1
"""The greatest part of the time of a run that its report may take to be written without being asked for."""

SAMPLE_LENGTH, TEMPERATURE, SEED = 2000, 0.7, 1
"""The sample of a report."""

POSITIONS, LONGEST = 128, 256
"""Characters that are predicted behind each length of context, and the longest of these."""

LOSSES = 16
"""Losses in each lane whose gradients are followed."""

UNIT_TEXT = 8000
"""Characters of held-out text in which units are searched."""

COMPARED = 10_000_000
"""Characters of the training text with which the words of the sample are compared."""

SCORED = 500_000
"""Characters of held-out text that the baselines score, as many as `summary.json` at most."""


HELP = (
    "Write a page about a run: scores, curves, samples, gradients, memory, units, settings and commands.\n\n"
    "The page stands alone: it needs no network, fits a phone and paper, and follows the light or dark theme."
)


def report(
    run: RunArgument = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            callback=at_home,
            help="A new page to write, or - for standard output; if not given, report.html in the run's folder, which "
            "is replaced.",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write a page about a run: scores, curves, samples, gradients, memory, units, settings and commands."""
    from chargen.cli.inspect.subject import Subject

    require_matplotlib()
    subject = Subject.open(run)
    target = subject.result(output, REPORT, force=force)
    out = console(stderr=is_stdout(output))
    write_page(page_of(subject, out), target)


def page_of(subject: Subject, out: Console) -> str:
    """Look inside the model of a run, and return the page about it."""
    from chargen.insight.report import report_page

    return report_page(gather(subject, out))


def is_cheap(run_dir: Path) -> bool:
    """Tell whether the report of a run that has just ended takes less than a tenth of the time that it has trained.

    The estimate counts what is read: half a million characters forward, at three times the speed of training; gradients
    of 128 losses over 200 lags in float64, twice; and the n-grams of the training text.
    """
    from chargen.storage.run_folder import SUMMARY

    summary = read_json(run_dir / SUMMARY)
    speed, trained = float(summary["chars_per_second"]), float(summary["train_seconds"])
    characters = min(10_000_000, int(summary["corpus"]["characters"]))
    seconds = 4 + 300_000 / speed + 6e-6 * characters if speed else float("inf")
    return seconds < SHARE * trained


def gather(subject: Subject, out: Console) -> RunReport:
    """Collect what the files of a run say, and look inside its model."""
    from chargen.cli.inspect.gradients import panel_of
    from chargen.cli.inspect.memory import curve_of
    from chargen.cli.inspect.neurons import units_of
    from chargen.insight.report import RunReport
    from chargen.storage.run_folder import CONFIG, SAMPLES, SUMMARY
    from chargen.storage.run_log import RunLog

    folder, notes = subject.folder, []

    def tried(what: str, compute: Callable[[], Result]) -> Result | None:
        try:
            with out.status(what) if out.is_terminal else contextlib.nullcontext():
                return compute()
        except UserError as error:
            if str(error) not in notes:
                notes.append(str(error))
            return None

    corpus = tried("loading the text", subject.corpus)
    panel = memory = units = None
    baselines: list[tuple[str, float]] = []
    if corpus is not None:
        panel = tried("following gradients", lambda: panel_of(subject, positions=LOSSES))
        memory = tried("measuring memory", lambda: curve_of(subject, out, positions=POSITIONS, longest=LONGEST))
        units = tried("searching units", lambda: units_of(subject, longest=UNIT_TEXT))
        baselines = tried("counting n-grams", lambda: _baselines(subject, corpus)) or []
    sample = tried("writing a sample", lambda: _sample(subject, corpus))
    summary = read_json(folder / SUMMARY)
    run = shlex.quote(str(folder))
    command = summary.get("command") or subject.model.metadata.get("command")
    commands = [str(command)] if command else []
    commands += [f"chargen sample {run}", f"chargen evaluate {run} --baselines", f"chargen inspect gradients {run}",
                 f"chargen report {run}"]  # fmt: skip
    log = tried("reading the log", lambda: RunLog.read(folder))
    return RunReport(
        name=drawable(subject.name), log=log or RunLog(folder, []), config=subject.settings,
        settings=_text(folder / CONFIG), summary=summary, metadata=subject.model.metadata,
        samples=_parsed_samples(_text(folder / SAMPLES)), per=subject.tokenizer.unit, commands=commands, sample=sample,
        baselines=baselines, panel=panel, memory=memory, units=units, notes=notes,
    )  # fmt: skip


def _baselines(subject: Subject, corpus: Corpus) -> list[tuple[str, float]]:
    from chargen.evaluation.baselines import score_baselines

    rows = score_baselines(
        corpus.train, corpus.validation[: SCORED + 1], subject.tokenizer.vocab_size, subject.tokenizer.to_bytes
    )
    return [(row.label, row.nats_per_char) for row in rows]


def _sample(subject: Subject, corpus: Corpus | None) -> Sample:
    """Write a text, and compare it with the training text."""
    from chargen.corpus.code_points import printable
    from chargen.evaluation.novelty import measure_novelty
    from chargen.evaluation.spelling import measure_spelling
    from chargen.insight.report import Sample
    from chargen.sampling.generator import TextGenerator
    from chargen.sampling.params import SamplingParams

    generator = TextGenerator(subject.model)
    params = SamplingParams(temperature=TEMPERATURE)
    text = generator.generate(max_length=SAMPLE_LENGTH, params=params, seed=SEED, ignore_eos=True)
    command = (
        f"chargen sample {shlex.quote(str(subject.folder))} --length {SAMPLE_LENGTH} --temperature {TEMPERATURE} "
        f"--seed {SEED} --ignore-eos"
    )
    if corpus is None:
        return Sample(printable(text), command)
    spelling = measure_spelling(subject.tokenizer.decode(corpus.train[:COMPARED]), text)
    novelty = measure_novelty(corpus.train, subject.tokenizer.encode(text))
    return Sample(printable(text), command, spelling, novelty)


def _parsed_samples(content: str) -> list[tuple[str, str]]:
    """Return heading and text of each sample that a run has written."""
    from chargen.corpus.code_points import printable

    parts = re.split(r"^=== (update .*)$", content, flags=re.MULTILINE)[1:]
    return [(name, printable(text.strip("\n"))) for name, text in zip(parts[::2], parts[1::2], strict=True)]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_json(file: Path) -> dict[str, Any]:
    """Return what a file of JSON holds; nothing if there is none.

    Raises:
        FileError: it is damaged.
    """
    content = _text(file)
    try:
        found = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        raise FileError(f"{file} is damaged") from None
    return found if isinstance(found, dict) else {}
