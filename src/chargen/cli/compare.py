"""`chargen compare`: several runs in one table, with the settings that differ."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from chargen.cli.console import ForceOption, at_home, console, escaped, is_stdout, require_new, text_output
from chargen.errors import FileError, UserError

if TYPE_CHECKING:
    from chargen.storage.run_list import RunRecord

NOT_COMPARED = ("run_dir", "data_dir", "resume", "save_every_minutes", "save_every_updates", "sample_length")
"""Settings that do not change what is learned."""

MISSING = "-"


HELP = "Compare runs, the best first: score, size, speed, time, and the settings in which they differ."


def compare(
    runs: Annotated[
        Optional[list[Path]],
        typer.Argument(
            metavar="RUN...",
            help="The folders of runs, or a folder of runs, such as that of a sweep; runs/ if none is given.",
        ),
    ] = None,
    csv_file: Annotated[
        Optional[Path],
        typer.Option("--csv", metavar="FILE", callback=at_home, help="Write the table as CSV; - for standard output."),
    ] = None,
    html_file: Annotated[
        Optional[Path],
        typer.Option("--html", metavar="FILE", callback=at_home, help="Write a page with the table and the curves."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Compare runs, the best first: score, size, speed, time, and the settings in which they differ."""
    require_new(csv_file, force=force)
    require_new(html_file, force=force)
    records = _records([at_home(run) for run in runs or [Path("runs")]])
    columns = _columns(records)
    if csv_file is not None:
        stream = io.StringIO(newline="")
        writer = csv.writer(stream)
        numbers = _columns(records, plain=True)
        writer.writerow(numbers)
        writer.writerows(zip(*numbers.values(), strict=True))
        with text_output(csv_file) as write:
            write(stream.getvalue())
    if html_file is not None:
        page = _page(records, columns)
        with text_output(html_file) as write:
            write(page)
    if not is_stdout(csv_file) and not is_stdout(html_file):
        _print_table(columns)
        for file in (csv_file, html_file):
            if file is not None:
                print(file)


def _records(places: Sequence[Path]) -> list[RunRecord]:
    """Return the runs at and below some folders, the best first.

    Raises:
        UserError: there are fewer than two.
    """
    from chargen.storage.run_list import list_runs

    found: dict[Path, RunRecord] = {}
    for place in places:
        folder = place.parent if place.is_file() else place
        below = list_runs(folder)
        if not below:
            raise FileError(f"{folder} holds no run")
        found |= {record.folder: record for record in below}
    if len(found) < 2:
        raise UserError(f"{next(iter(found))} is one run: name two or more, or a folder with several")
    return sorted(found.values(), key=lambda run: math.inf if run.score is None else run.score)


def _columns(records: Sequence[RunRecord], *, plain: bool = False) -> dict[str, list[str]]:
    """Return the columns of the table by their names; plain ones, for other programs, have numbers without commas."""
    from chargen.planning.length import clock_time

    comma = "" if plain else ","
    missing = "" if plain else MISSING
    summaries = [_summary(run.folder) for run in records]
    units = {run.unit for run in records}
    per = "byte" if units == {"byte"} else "char"
    columns = {
        "run": [str(run.folder) for run in records],
        f"nats/{per}": [
            _number(run.score, ".4f", missing) + ("" if plain or run.is_final or run.score is None else "~")
            for run in records
        ],
        f"bits/{per}": [_number(run.score and run.score / math.log(2), ".4f", missing) for run in records],
        "parameters": [_number(run.model and run.model.num_parameters, comma, missing) for run in records],
        "updates": [_number(run.updates, comma, missing) for run in records],
        "seconds" if plain else "time": [f"{run.seconds:.1f}" if plain else clock_time(run.seconds) for run in records],
        f"{per}s/s": [_number(one.get("chars_per_second"), f"{comma}.0f", missing) for one in summaries],
    }
    settings = [dict(_flat(run.config)) for run in records]
    names = list(dict.fromkeys(name for one in settings for name in one))
    for name in names:
        values = [missing if one.get(name) is None else str(one[name]) for one in settings]
        if len(set(values)) > 1 and name.partition(".")[0] not in NOT_COMPARED:
            columns[name] = values
    return columns


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with its full name, such as `model.cell`."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _number(value: Any, how: str, missing: str) -> str:
    """Format a number that a file holds."""
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return format(value, how) if is_number else missing


def _summary(folder: Path) -> dict[str, Any]:
    """Return what the summary of a run holds; nothing if there is none, or if it is damaged."""
    from chargen.cli.report import read_json
    from chargen.storage.run_folder import SUMMARY

    try:
        return read_json(folder / SUMMARY)
    except FileError:
        return {}


def _print_table(columns: Mapping[str, list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(Text(escaped(name)), overflow="fold", justify="left" if place in (0,) else "right")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(escaped(cell)) for cell in row))
    if not out.is_terminal:
        out.width = 10_000
    out.print(table)
    if any(cell.endswith("~") for cell in list(columns.values())[1]):
        out.print("~ the best validation so far, an estimate; other scores are of the whole held-out text")


def _page(records: Sequence[RunRecord], columns: Mapping[str, list[str]]) -> str:
    """Return a page with the table and the curves of the held-out text and of the gradient norm."""
    from chargen.cli.pictures import drawable, require_matplotlib

    require_matplotlib()
    from chargen.insight.drawing import as_svg
    from chargen.insight.figures import comparison
    from chargen.insight.page import heading, page, table

    body = [table(list(columns), list(zip(*columns.values(), strict=True)), numbers=range(1, len(columns)))]
    for title, column in (("Held-out text", "validation_nats_per_char"), ("Gradient norm", "gradient_norm")):
        curves = {}
        for run in records:
            points = _points(run.folder, column)
            if points:
                curves[drawable(str(run.folder))] = [points]
        if curves:
            y = "" if column == "validation_nats_per_char" else "gradient norm before clipping"
            body += [heading(title), as_svg(comparison("", curves, y=y))]
    return page("runs compared", body)


def _points(folder: Path, column: str) -> list[tuple[float, float]]:
    from chargen.storage.run_log import RunLog

    where = "learning_rate" if column == "gradient_norm" else ""
    try:
        return list(zip(*RunLog.read(folder).points(column, where=where), strict=True))
    except FileError:
        return []
