"""Standard input, output and error: their encodings, and what happens if one is closed, full or no longer read.

Pipes and files get UTF-8, whatever the locale says: a locale such as C cannot hold most texts, and a file in UTF-8 can
be read anywhere. `PYTHONIOENCODING` chooses another encoding. A terminal keeps its own.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

import typer

ENCODING = "PYTHONIOENCODING"
"""Python's environment variable for the encoding of the standard streams."""

_OUTPUT_ERRORS = "chargen.output"


def prepare_streams() -> None:
    """Choose the encodings of standard output and standard error; a closed stream reads and writes nothing.

    A character that standard output cannot encode is replaced, and a line on standard error says so once. Standard
    error writes it as an escape sequence.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # in the order of their descriptors
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))
    asked = "" if sys.flags.ignore_environment else os.environ.get(ENCODING, "")
    chosen, _, errors = asked.partition(":")
    codecs.register_error(_OUTPUT_ERRORS, _error_handler(errors or "replace", was_chosen=bool(chosen)))
    for stream, errors in ((sys.stdout, _OUTPUT_ERRORS), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            keeps_encoding = bool(chosen) or stream.isatty()
            stream.reconfigure(encoding=None if keeps_encoding else "utf-8", errors=errors)


def _error_handler(errors: str, *, was_chosen: bool) -> Callable[[UnicodeError], tuple[str | bytes, int]]:
    """Return a handler of characters that standard output cannot encode.

    Args:
        errors: the handler of `codecs` that replaces them.
        was_chosen: whether the user has chosen the encoding.
    """
    has_told = False

    def handle(error: UnicodeError) -> tuple[str | bytes, int]:
        nonlocal has_told
        if not isinstance(error, UnicodeEncodeError):
            raise error
        if all("\ud800" <= character <= "\udfff" for character in error.object[error.start : error.end]):
            return codecs.backslashreplace_errors(error)  # of the name of a file; no encoding has it
        if not has_told:
            has_told = True
            remedy = f"{ENCODING}=utf-8" if was_chosen else "a UTF-8 locale such as LC_ALL=C.UTF-8, or --output FILE"
            tell(
                f"chargen: standard output is in {error.encoding}, which cannot write some characters of this text: "
                f"they are replaced; choose {remedy}"
            )
        try:
            return codecs.lookup_error(errors)(error)
        except (UnicodeError, LookupError):  # PYTHONIOENCODING=ascii:strict
            return codecs.replace_errors(error)

    return handle


def tell(line: str) -> None:
    """Print a line on standard error, wrapped at words on a terminal, if it can be written."""
    try:
        if sys.stderr.isatty():
            from rich.console import Console

            Console(file=sys.stderr, force_terminal=True, highlight=False, markup=False, emoji=False).print(line)
        else:
            print(line, file=sys.stderr)
    except OSError:
        pass


def flush_stdout() -> None:
    """Write what is still in the buffer of standard output.

    Raises:
        OSError: it cannot be written.
    """
    with naming_stdout():
        sys.stdout.flush()


@contextlib.contextmanager
def naming_stdout() -> Iterator[None]:
    """Name standard output in an error of the file system, which names a file otherwise."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def release_stdout() -> None:
    """Discard what is still in the buffer of standard output and cannot be written: Python would try it again."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # ValueError: it is closed
        with contextlib.suppress(OSError, ValueError):
            discard_stdout()


def discard_stdout() -> None:
    """Discard what is written to standard output from now on: its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def until_reader_goes() -> Iterator[None]:
    """End the command without an error when the reader of standard output has gone."""
    try:
        yield
    except BrokenPipeError:
        discard_stdout()
        raise typer.Exit() from None


@contextlib.contextmanager
def unfailing_stdout() -> Iterator[None]:
    """Let the block go on if standard output cannot be written, such as a log on a full disk, and say so once.

    A reader that has gone is an error as before.
    """
    log = _UnfailingOutput(sys.stdout)
    with contextlib.redirect_stdout(cast(TextIO, log)):
        try:
            yield
        finally:
            log.flush()
    if log.has_failed:
        release_stdout()


class _UnfailingOutput:
    """A stream that goes on where `stream` fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.has_failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text if that is possible."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream if that is possible."""
        self._try(self._stream.flush)

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except BrokenPipeError:
            raise
        except OSError as error:
            if not self.has_failed:
                self.has_failed = True
                tell(f"chargen: standard output: {error.strerror}; the run goes on without it")
