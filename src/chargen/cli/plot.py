"""`chargen plot`: draw the learning curve of a run."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from chargen.cli.console import ForceOption, RunArgument, at_home, is_stdout, require_new, warn
from chargen.errors import FileError, UserError

Points = tuple[list[float], list[float]]


def plot(
    run: RunArgument = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            callback=at_home,
            help="The picture to write, which must be new, or - for standard output; curve.png in the run's folder, "
            "which is replaced, if not given.",
        ),
    ] = None,
    force: ForceOption = False,
    language: Annotated[Literal["en", "zh-TW"], typer.Option(help="Language of the words in the picture.")] = "en",
) -> None:
    """Draw the learning curve of a run."""
    from chargen.storage.run_folder import METRICS, newest_run
    from chargen.storage.run_list import list_runs

    require_new(output, force=force)
    if is_stdout(output) and sys.stdout.isatty():
        raise UserError("--output -: a terminal cannot show a picture; write to a pipe or a file")
    folder = run or newest_run()
    folder = folder.parent if folder.is_file() else folder
    rows = _read_metrics(folder / METRICS)
    try:
        from chargen.insight.figures import fonts_for, learning_curve, without_missing
    except ImportError:
        raise UserError("drawing needs matplotlib: pip install 'chargen[plots]'") from None
    try:
        train, validation, rate = (
            _column(rows, name) for name in ("train_nats_per_char", "validation_nats_per_char", "learning_rate")
        )
    except (KeyError, TypeError, ValueError):
        raise _damaged(folder / METRICS) from None
    picture = output or folder / "curve.png"
    try:
        title = str(folder).encode("utf-8", "replace").decode()
        per = next((record.unit for record in list_runs(folder) if record.folder == folder), "character")
        target = sys.stdout.buffer if is_stdout(output) else picture
        learning_curve(target, title, train, validation, rate, per=per, language=language)
    except ValueError as error:  # the suffix is not one of a picture
        raise UserError(f"{picture}: {error}") from None
    if (shown := without_missing(title, fonts_for(title))) != title:
        warn(f"no installed font has all characters of {title}, drawn as {shown}: install one, such as Noto Sans CJK")
    if not is_stdout(output):
        print(picture)


def _read_metrics(file: Path) -> list[dict[str, str]]:
    try:
        if not file.is_file():
            raise FileNotFoundError
        with open(file, encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError:
        raise FileError(f"{file.parent} holds no metrics.csv: give the folder of a run") from None
    except (csv.Error, UnicodeDecodeError):
        raise _damaged(file) from None


def _column(rows: list[dict[str, str]], name: str) -> Points:
    """Return seconds and values of a column, without values of skipped updates, which may not be finite."""
    points = [(float(row["seconds"]), float(row[name])) for row in rows if row.get(name)]
    points = [point for point in points if all(map(math.isfinite, point))]
    return [x for x, _ in points], [y for _, y in points]


def _damaged(file: Path) -> FileError:
    return FileError(f"{file} is damaged: its rows are not what chargen writes")
