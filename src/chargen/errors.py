"""The errors that a user can fix: the command line prints them as one line and exits with code 2.

`cli.app.message_of` lists the other errors that are printed as one line, such as those of the file system. Every other
exception is a defect of chargen and keeps its traceback.
"""

from __future__ import annotations

from typing import Any


class UserError(ValueError):
    """A mistake that the user can fix. The message says what was given, what is allowed and what to write."""


class ConfigError(UserError):
    """A setting of a run is unknown, missing or out of range."""


class TextError(UserError):
    """A text cannot be found, fetched, read or used as it is."""


class ChangedTextError(TextError):
    """The text of a run is not the one that it has learned from."""


class FileError(UserError):
    """A file of a run is missing, damaged, or cannot be read or written."""


class ArgumentError(UserError):
    """An argument is out of range.

    The library names the argument as Python does (`top_p`). The command line turns the name into a flag.

    Args:
        name: the argument, such as `top_p`.
        value: what was given.
        allowed: what is allowed, such as `above 0 and at most 1`.
    """

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        super().__init__(name, value, allowed)  # what a copy, such as the one from another process, is made from
        self.name = name
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.name}={_shortened(self.value)}: must be {self.allowed}"


def _shortened(value: Any) -> str:
    words = repr(value) if isinstance(value, str) else " ".join(str(value).split())
    return words if len(words) <= 100 else f"{words[:97]}..."
