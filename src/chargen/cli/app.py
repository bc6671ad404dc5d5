"""The commands of chargen, and how their errors are printed.

Commands import what they need when they run: `chargen sample` loads torch for a `last.ckpt` only, and `chargen --help`
loads typer alone.
"""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import chargen
from chargen.cli import doctor, evaluate, info, plot, sample, train
from chargen.cli.console import escaped, one_line
from chargen.errors import ArgumentError, UserError

app = typer.Typer(
    help="chargen learns to write: give it text, and it writes more in that manner.",
    epilog="Begin with: chargen train my.txt   and then: chargen sample",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    short_help="Learn to write from a text.",
)(train.train)
app.command()(sample.sample)
app.command()(evaluate.evaluate)
app.command()(plot.plot)
app.command()(doctor.doctor)
app.command()(info.info)

TRACEBACK = "CHARGEN_TRACEBACK"
"""The environment variable that shows the traceback of a user's mistake, too."""

_USER_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "EIO", "ENAMETOOLONG", "ELOOP", "ENOENT"),
        *("ENOTDIR", "EISDIR", "EEXIST", "EBUSY", "EINVAL", "EILSEQ", "EMFILE", "ENXIO", "ESTALE", "ETXTBSY"),
    )
    if hasattr(errno, name)
)
"""Errors of the file system and the disk, which the user can fix."""


def main() -> None:
    """Run a command and exit.

    The exit code is 0; 2, after one line, for a mistake of the user; 1, after a traceback, for a defect of chargen; or
    128 + the number of the signal that has stopped the command.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        message = message_of(error)
        if message is None:
            print(escaped(traceback.format_exc()), file=sys.stderr)
            print(
                "chargen: this is a defect of chargen, not a mistake of yours; please report it with the lines above "
                "and the output of `chargen info`",
                file=sys.stderr,
            )
            sys.exit(1)
        if os.environ.get(TRACEBACK):
            print(escaped(traceback.format_exc()), file=sys.stderr)
        print(f"chargen: {one_line(message)}", file=sys.stderr)
        sys.exit(2)


def message_of(error: Exception) -> str | None:
    """Return the line to print for an error that the user can fix; None for a defect of chargen."""
    if isinstance(error, ArgumentError):
        return f"--{error.name.replace('_', '-')} {error.value}: must be {error.allowed}"
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return _message_of_system(error)
    if isinstance(error, MemoryError) or (
        # torch has no class of its own for a failed allocation on the CPU
        isinstance(error, RuntimeError) and re.search("out of memory|allocate memory|not enough memory", str(error))
    ):
        return "the memory of this machine is too small: write a smaller model.hidden_size, batch_size or length"
    if hasattr(error, "format_message"):  # an error of typer's, about an argument
        commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
        command = " ".join(word for word in sys.argv[1:2] if word in commands)
        return f"{error.format_message()} (see `{' '.join(('chargen', command)).strip()} --help`)"
    return None


def _message_of_system(error: OSError) -> str | None:
    """Return the line for an error of the file system; None for one about a file of chargen itself."""
    if error.errno is None:
        return str(error) or None
    file = error.filename
    if error.errno not in _USER_ERRNOS:
        return None
    own = Path(chargen.__file__).parent
    if isinstance(file, str) and Path(file).is_absolute() and Path(file).is_relative_to(own):
        return None
    return f"{file}: {error.strerror}" if file else str(error)


@app.callback(invoke_without_command=True)
def _chargen(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(chargen.__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())
