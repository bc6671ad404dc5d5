"""Show a progress bar over bytes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

MIN_WIDTH = 80
"""On a narrower terminal, the bar is shown without bytes and times."""

Advance = Callable[[int], None]
"""A function that is called with the number of bytes read since its last call."""


@contextmanager
def byte_progress(label: str, total: int, done: int = 0) -> Iterator[Callable[[float], None]]:
    """Show a progress bar while the block runs, if standard output is a terminal.

    Args:
        label: the text in front of the bar.
        total: the number of bytes to process.
        done: how many of them are already processed.

    Yields:
        A function to call with the number of bytes processed since its last call.
    """
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
    if shutil.get_terminal_size().columns >= MIN_WIDTH:
        columns += [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(label, total=total, completed=done)
        yield lambda num_bytes: progress.advance(task, num_bytes)
