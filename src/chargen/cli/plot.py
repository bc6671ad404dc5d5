"""`chargen plot`: draw the learning curve of a run, or those of several runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from chargen.cli.console import ForceOption, at_home, is_stdout, require_new
from chargen.cli.pictures import drawable, require_matplotlib, write_figure
from chargen.errors import FileError, UserError

if TYPE_CHECKING:
    from chargen.insight.drawing import Figure


HELP = "Draw loss and gradient norm of a run over time, or compare the losses of several runs."


def plot(
    runs: Annotated[
        Optional[list[Path]],
        typer.Argument(
            metavar="RUN...",
            help="The folders of runs, or a file in each; the newest run if none is given. Several runs are drawn into "
            "one picture.",
        ),
    ] = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            callback=at_home,
            help="The picture to write, which must be new, or - for standard output; curve.png in the run's folder, "
            "which is replaced, if not given. For several runs: comparison.png here.",
        ),
    ] = None,
    force: ForceOption = False,
    language: Annotated[Literal["en", "zh-TW"], typer.Option(help="Language of the words in the picture.")] = "en",
) -> None:
    """Draw loss and gradient norm of a run over time, or compare the losses of several runs."""
    from chargen.storage.run_folder import newest_run

    if is_stdout(output) and sys.stdout.isatty():
        raise UserError("--output -: a terminal cannot show a picture; write to a pipe or a file")
    folders = [_folder_of(at_home(run)) for run in runs or [newest_run()]]
    picture = output or (folders[0] / "curve.png" if len(folders) == 1 else Path("comparison.png"))
    require_new(picture if output is not None or len(folders) > 1 else None, force=force)
    require_matplotlib()
    if len(folders) == 1:
        figure = _curve(folders[0], language)
    else:
        figure = comparison_of(folders, [drawable(str(folder)) for folder in folders])
    write_figure(figure, picture)


def _folder_of(run: Path) -> Path:
    return run.parent if run.is_file() else run


def _curve(folder: Path, language: str) -> Figure:
    from chargen.storage.run_list import read_run
    from chargen.storage.run_log import RunLog

    log = RunLog.read(folder)
    if log.rows and not {"train_nats_per_char", "validation_nats_per_char", "learning_rate"}.issubset(log.columns):
        raise FileError(f"{log.file} is damaged: its rows are not what chargen writes")
    run, title = read_run(folder), drawable(str(folder))
    from chargen.insight.figures import curve_of_log

    return curve_of_log(log, run.config, title, per=run.unit, language=language)


def comparison_of(folders: list[Path], names: list[str]) -> Figure:
    """Draw the losses and gradient norms of several runs.

    Raises:
        FileError: a run has no validation, or its log is damaged.
    """
    from chargen.insight.figures import run_comparison
    from chargen.storage.run_list import read_run
    from chargen.storage.run_log import RunLog, clip_limit

    losses, norms, limits = {}, {}, set()
    for folder, name in zip(folders, names, strict=True):
        log, run = RunLog.read(folder), read_run(folder)
        losses[name] = log.points("validation_nats_per_char")
        if not losses[name][0]:
            raise FileError(f"{folder} has no validation yet: leave it out")
        norm = log.points("gradient_norm", where="learning_rate")
        if norm[0]:
            norms[name] = norm
        limits.add(clip_limit(run.config))
    return run_comparison(losses, norms, limits=sorted(limit for limit in limits if limit is not None))
