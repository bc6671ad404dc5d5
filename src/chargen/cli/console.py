"""Standard output and files of output, with text that cannot steer a terminal."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TextIO

import typer

from chargen.cli.streams import discard_stdout, naming_stdout, tell, until_reader_goes
from chargen.config import expand_home
from chargen.errors import FileError, UserError

if TYPE_CHECKING:
    from rich.console import Console


def at_home(path: Any) -> Any:
    """Return a path, or None, with `~` replaced by the home folder: no shell does it in quotes, few after `=`."""
    return None if path is None else type(path)(expand_home(str(path)))


def as_utf8(text: str) -> str:
    """Return an argument whose bytes are UTF-8 as such, although the locale is another, such as C."""
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


RunArgument = Annotated[
    Optional[Path],
    typer.Argument(
        metavar="RUN|FILE",
        callback=at_home,
        help="A run's folder, its model.safetensors or its last.ckpt; the newest run if not given.",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write over a file that exists.")]

ErrorsOption = Annotated[
    Literal["strict", "replace", "skip"],
    typer.Option(
        metavar="HOW",
        help="Bytes that do not fit the encoding: strict refuses them, replace reads U+FFFD, skip leaves them out.",
    ),
]

STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
"""Names of standard output."""

MAX_MESSAGE = 1000
"""Characters of the longest message that is printed whole."""

READER_GONE = 128 + 13
"""The exit code of a process that SIGPIPE has killed; not every system has that signal."""


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
    tell(f"chargen: {one_line(text)}")


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: wrapped at words on a terminal, unwrapped elsewhere.

    Bars and movements of the cursor go to a terminal only, whatever `FORCE_COLOR` and `TTY_COMPATIBLE` say.

    Args:
        stderr: print on standard error instead of standard output.
    """
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            discard_stdout()
            raise typer.Exit()

    return Output(stderr=stderr, **_console_options(sys.stderr if stderr else sys.stdout))


def _console_options(stream: TextIO) -> dict[str, Any]:
    is_terminal = stream.isatty()
    plain = {"highlight": False, "markup": False, "emoji": False}
    return {"force_terminal": is_terminal, "soft_wrap": not is_terminal, **plain}


def training_console() -> Console:
    """Return a console whose reader may go away (`| head`): the run then stops as if it were told to."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = self.stderr  # standard error has no reader, either
            self.stderr = True  # where to say what was saved
            discard_stdout()
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise SystemExit(READER_GONE)
            signal.raise_signal(signal.SIGTERM)

    return Output(**_console_options(sys.stdout))


@contextlib.contextmanager
def ending_with_reader(console: Console) -> Iterator[None]:
    """Give a run that has stopped because nobody reads its output the exit code of a closed pipe.

    Raises:
        SystemExit: the run has stopped; 141 if its reader has gone.
    """
    try:
        yield
    except SystemExit:
        if console.stderr:
            raise SystemExit(READER_GONE) from None
        raise


def is_stdout(file: Path | None) -> bool:
    """Tell whether a file to write is standard output."""
    return str(file) in STDOUT


def require_new(file: Path | None, *, force: bool) -> None:
    """Refuse to write over a file or a folder. Devices and pipes can always be written to.

    Raises:
        FileError: the file exists, and `force` is not set, or it is a folder.
    """
    if file is None or is_stdout(file):
        return
    from chargen.storage.atomic import is_device

    if file.is_dir():
        raise FileError(f"{file} is a folder: name a file in it")
    if file.is_file() and not force and not is_device(file):
        raise FileError(f"{file} exists: write --force to replace it, or the name of another file")


@contextlib.contextmanager
def text_output(file: Path | None) -> Iterator[Any]:
    """Yield a function that writes pieces of text or bytes as they come, to standard output or to a file.

    On a terminal, bytes are shown as UTF-8, and a CRLF as the end of a line.

    A file that is interrupted keeps what was written.

    Args:
        file: the file to write; None or `-` for standard output.
    """
    if file is not None and not is_stdout(file):
        from chargen.storage.atomic import atomic_write

        interrupted = False
        with (
            atomic_write(file, allow_pipes=True) as temporary,
            open(temporary, "wb") as stream,
        ):
            try:
                yield lambda piece: stream.write(_as_bytes(piece))
            except KeyboardInterrupt:
                interrupted = True
        if interrupted:
            raise KeyboardInterrupt
        return

    from chargen.corpus.code_points import printable

    is_terminal = sys.stdout.isatty()
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    lines = io.IncrementalNewlineDecoder(None, translate=True)

    def write(piece: str | bytes) -> None:
        with until_reader_goes(), naming_stdout():
            if is_terminal:
                text = utf8.decode(piece) if isinstance(piece, bytes) else piece
                sys.stdout.write(printable(lines.decode(text)))
            elif isinstance(piece, bytes):
                sys.stdout.buffer.write(piece)  # nothing else is buffered
            else:
                sys.stdout.write(piece)
            sys.stdout.flush()

    yield write


def _as_bytes(piece: str | bytes) -> bytes:
    return piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogateescape")


def read_bytes(source: str) -> bytes:
    """Read a file, or standard input for `-`.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {source}: {error.strerror}") from None


def as_text(content: bytes, source: str) -> str:
    """Decode UTF-8, without a byte order mark.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 at byte {error.start}: convert it first") from None


def program_name() -> str:
    """Return what the user types to start this program again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m chargen"
    if shutil.which(called.name) == str(called.absolute()):
        return called.name
    return shlex.quote(os.path.relpath(called))
