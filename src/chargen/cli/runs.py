"""`chargen runs`: list runs, and remove what chargen can make again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from chargen.cli.console import at_home, console, escaped
from chargen.errors import ConfigError, UserError

if TYPE_CHECKING:
    from chargen.storage.run_list import RunRecord

NONE = "-"
"""What is shown where nothing is known."""

WIDE = 80
"""Columns of a terminal in which short cells are not broken, but for names of texts."""

SHORT = len("2026-11-26_10-00-00_2/10")
"""Characters of the longest cell that is short: a name that chargen gives to a run."""

PIPE_WIDTH = 10_000
"""The width of a table in a pipe or a file, where lines are not broken."""


def runs(
    folder: Annotated[
        Optional[Path],
        typer.Argument(
            metavar="FOLDER", callback=at_home, help="Where to look for runs, at any depth; runs/ if not given."
        ),
    ] = None,
    clear_cache: Annotated[
        bool,
        typer.Option(
            "--clear-cache",
            help="Remove encoded texts and downloads from the data folder, and nothing else: chargen makes them again "
            "when it needs them.",
        ),
    ] = False,
    data_dir: Annotated[
        Path, typer.Option(metavar="FOLDER", callback=at_home, help="The data folder, for --clear-cache.")
    ] = Path("data"),
) -> None:
    """List runs, the newest last: when written, text, size in parameters, score and state."""
    if clear_cache:
        if folder is not None:
            raise UserError(f"--clear-cache clears a data folder: write --data-dir {folder}, or leave {folder} out")
        _clear_cache(data_dir)
        return
    from chargen.storage.run_folder import RUNS
    from chargen.storage.run_list import list_runs

    top = folder or RUNS
    records = list_runs(top) if top.is_dir() or folder is not None else []
    if not records:
        print(f"there is no run in {escaped(str(top))}/ yet: train one with `chargen train`")
        return
    _print_table(records, top)


def _print_table(records: list[RunRecord], top: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = {
        f"run in {top}": [NONE if run.folder == top else str(run.folder.relative_to(top)) for run in records],
        "written": [_date(run.written) for run in records],
        "text": [_text(run) for run in records],
        "size": [_size(run) for run in records],
        "nats/char": [_score(run) for run in records],
        "state": [_state(run) for run in records],
    }
    columns = {_shown(title): [_shown(cell) for cell in cells] for title, cells in columns.items()}
    for title, cells in columns.items():
        is_short = out.width >= WIDE and title != "text" and max(map(len, cells)) <= SHORT
        justify: Literal["left", "right"] = "right" if title in ("size", "nats/char") else "left"
        table.add_column(Text(title), overflow="fold", no_wrap=is_short, justify=justify)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, row))
    if not out.is_terminal:
        out.width = PIPE_WIDTH
    out.print(table)
    if any(run.score is not None and not run.is_final for run in records):
        out.print("~ the best validation so far, an estimate; other scores are of the whole held-out text")


def _shown(cell: str) -> str:
    """Return a cell on one line that cannot steer a terminal."""
    return escaped(cell).replace("\n", "\\n")


def _date(seconds: float) -> str:
    """Return a date as `ls -l` does: with the time in the last half year, and with the year before."""
    is_recent = 0 <= time.time() - seconds < 180 * 24 * 3600
    return time.strftime("%b %d %H:%M" if is_recent else "%b %d %Y", time.localtime(seconds))


def _text(run: RunRecord) -> str:
    """Return the name of the text that a run learned from."""
    corpus = run.config.get("corpus")
    settings: dict[str, Any] = corpus if isinstance(corpus, dict) else {}
    path = settings.get("path")
    paths = [str(one) for one in (path if isinstance(path, list) else [path]) if one]
    if not paths:
        return str(settings.get("name") or run.corpus.get("name") or NONE)
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return Path(paths[0]).name + more


def _size(run: RunRecord) -> str:
    if run.model is None:
        return NONE
    number = run.model.num_parameters
    return f"{number / 1e6:.1f} M" if number >= 999_950 else f"{number / 1e3:.1f} k"


def _score(run: RunRecord) -> str:
    per = "/byte" if run.unit == "byte" else ""
    return NONE if run.score is None else f"{'' if run.is_final else '~'}{run.score:.4f}{per}"


def _state(run: RunRecord) -> str:
    done = _fraction_done(run)
    percent = "" if done is None else f" at {min(int(100 * done), 99)}%"
    if run.is_running:
        return f"running{percent}"
    if run.damaged:
        return f"damaged: {', '.join(run.damaged)}"
    if run.is_final:
        return "complete"
    return f"stopped{percent}" if run.has_checkpoint else "no checkpoint"


def _fraction_done(run: RunRecord) -> float | None:
    """Return how much of its length a run has done; None if its files do not say."""
    from chargen.config import parse_config
    from chargen.planning.length import RunPlan

    try:
        config = parse_config(run.config)
        num_train = int(run.corpus.get("characters", 0) * (1 - config.corpus.validation_fraction))
        length = RunPlan(config, max(num_train, 2), 2).length
    except (ConfigError, TypeError, OverflowError):
        return None
    if config.trainer.get("max_epochs") not in (None, -1) and not num_train:
        return None
    limits = ((run.updates, length.max_updates), (run.seconds, length.max_seconds))
    return max(done / limit for done, limit in limits if limit)


def _clear_cache(data_dir: Path) -> None:
    from chargen.cli.conf_folder import choices, values
    from chargen.corpus.cache import clear_cache

    known = [values("corpus", name) for name in choices("corpus")]
    cleared = clear_cache(data_dir, {one["file"]: one["size"] for one in known if one.get("file")})
    what = [f"{number:,} {word}{'' if number == 1 else 's'}" for number, word in
            ((cleared.encoded, "encoded text"), (cleared.downloads, "download"))]  # fmt: skip
    print(f"{cleared.num_bytes:,} bytes freed in {escaped(str(data_dir))}: {' and '.join(what)} removed")
    for left in cleared.left:
        print(f"  left: {escaped(left)}")
