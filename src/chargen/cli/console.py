"""Standard output and files of output, with text that cannot steer a terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from chargen.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

RunArgument = Annotated[
    Optional[Path],
    typer.Argument(
        metavar="RUN|FILE",
        help="A run's folder, its model.safetensors or its last.ckpt; the newest run if not given.",
    ),
]

MAX_MESSAGE = 1000
"""Characters of the longest message that is printed whole."""

_READER_GONE = 128 + 13  # the exit code of a process that SIGPIPE has killed; not every system has that signal


def one_line(text: str) -> str:
    """Put a message on one line of limited length, and escape characters that could steer a terminal."""
    text = " ".join(text.split())
    if len(text) > MAX_MESSAGE:
        half = MAX_MESSAGE // 2
        text = f"{text[:half]} … {text[-half:]}"
    return escaped(text)


def escaped(text: str) -> str:
    """Escape characters that could steer a terminal; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def warn(text: str) -> None:
    """Print a line on standard error."""
    print(f"chargen: {one_line(text)}", file=sys.stderr)


def console() -> Console:
    """Return a console on standard output that prints text as it is."""
    from rich.console import Console

    return Console(soft_wrap=True, highlight=False, markup=False, emoji=False)


def training_console() -> Console:
    """Return a console whose reader may go away (`| head`): the run then stops as if it were told to."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            discard_stdout()
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise SystemExit(_READER_GONE)
            signal.raise_signal(signal.SIGTERM)

    return Output(soft_wrap=True, highlight=False, markup=False, emoji=False)


def discard_stdout() -> None:
    """Discard what is written to standard output from now on: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def text_output(file: Path | None) -> Iterator[Any]:
    """Yield a function that writes pieces of text as they come, to the terminal or to a file.

    A file that is interrupted keeps what was written.
    """
    if file is not None:
        from chargen.storage.atomic import atomic_write

        interrupted = False
        with (
            atomic_write(file, allow_pipes=True) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as stream,
        ):
            try:
                yield stream.write
            except KeyboardInterrupt:
                interrupted = True
        if interrupted:
            raise KeyboardInterrupt
        return

    from chargen.corpus.code_points import printable

    is_terminal = sys.stdout.isatty()

    def write(text: str) -> None:
        try:
            sys.stdout.write(printable(text) if is_terminal else text)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has gone
            discard_stdout()
            raise typer.Exit() from None

    yield write


def read_text(source: str) -> str:
    """Read a file in UTF-8, or standard input for `-`.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 at byte {error.start}: convert it first") from None
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from None


def program_name() -> str:
    """Return what the user types to start this program again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m chargen"
    if shutil.which(called.name) == str(called.absolute()):
        return called.name
    return shlex.quote(os.path.relpath(called))
