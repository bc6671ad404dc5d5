"""The commands of chargen, and how their errors are printed.

Commands import what they need when they run: `chargen sample` loads torch for a `last.ckpt` only, and `chargen --help`
loads typer alone.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import chargen
from chargen.cli import compare, doctor, evaluate, info, plot, report, runs, sample, train
from chargen.cli.console import escaped, warn
from chargen.cli.explain.group import explain
from chargen.cli.inspect.group import inspect
from chargen.cli.packages import message_of_import
from chargen.cli.streams import flush_stdout, prepare_streams, release_stdout, tell
from chargen.cli.unknown_options import Command, ComputingCommand, Group
from chargen.errors import ArgumentError, UserError

app = typer.Typer(
    cls=Group,
    context_settings={"help_option_names": ["--help", "-h"]},
    help="chargen learns to write: give it text, and it writes more in that manner.",
    epilog="Begin with: chargen train my.txt   and then: chargen sample",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command(
    cls=ComputingCommand,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    short_help="Learn to write from a text.",
)(train.train)
app.command(
    cls=ComputingCommand,
    help="Write text in the manner of the training text. Pipes and files get UTF-8, whatever the locale says; "
    "PYTHONIOENCODING chooses another encoding.",
    short_help="Write text in the manner of the training text.",
)(sample.sample)
app.command(
    cls=ComputingCommand,
    help="Score a text in nats and bits per character under a model and, if asked for, under baselines.",
    short_help="Score a text under a model, and under baselines.",
)(evaluate.evaluate)
app.command(cls=Command, help=plot.HELP, short_help="Draw loss and gradient norm of a run, or of several.")(plot.plot)
app.command(cls=ComputingCommand, help=report.HELP, short_help="Write a page with all there is to know about a run.")(
    report.report
)
app.command(cls=Command, help=compare.HELP, short_help="Compare runs: scores, speed, and the settings that differ.")(
    compare.compare
)
app.command(
    cls=Command,
    help="List runs, the newest last: when they were written, their text, size, score and state.",
    short_help="List runs: their text, size, score and state.",
)(runs.runs)
app.command(
    cls=ComputingCommand,
    help="Examine a text before training: what it contains, what looks wrong, and what each size of model costs.",
    short_help="Examine a text before training.",
)(doctor.doctor)
app.add_typer(inspect, short_help="Look inside a model: gradients, memory, units, surprise.")
app.add_typer(explain, short_help="See vanishing and exploding gradients, and clipping.")
app.command(
    cls=Command,
    help="Print versions, threads and the kernels in use: for a report, or to see that this machine is fast.",
    short_help="Print versions, threads and the kernels in use.",
)(info.info)

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
    prepare_streams()
    try:
        code = app(standalone_mode=False) or 0
        flush_stdout()
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of the output has gone, as in `chargen info | head -1`
        sys.exit(0)
    except Exception as error:
        message = message_of(error)
        if message is None:
            tell(escaped(traceback.format_exc()))
            warn(
                "this is a defect of chargen, not a mistake of yours; please report it with the lines above "
                "and the output of `chargen info`"
            )
            sys.exit(1)
        if os.environ.get(TRACEBACK):
            tell(escaped(traceback.format_exc()))
        warn(message)
        sys.exit(2)
    finally:
        release_stdout()


def message_of(error: Exception) -> str | None:
    """Return the line to print for an error that the user can fix; None for a defect of chargen."""
    if isinstance(error, ArgumentError):
        return f"--{error.name.replace('_', '-')} {error.value}: must be {error.allowed}"
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ImportError):
        return message_of_import(error)
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
    return f"{file}: {error.strerror}" if file else str(error.strerror or error)


@app.callback(invoke_without_command=True)
def _chargen(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(chargen.__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())
