"""The text of `chargen train --help`: every setting with its default and meaning, from the schema."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Any

from chargen.cli.conf_folder import choices, values

EXAMPLES = (
    ("chargen train", "three minutes on the Python language reference"),
    ("chargen train my.txt trainer.max_time=10m", ""),
    ("chargen train articles/ model=small model.cell=lstm", ""),
    ("chargen train corpus=tinyshakespeare trainer.max_epochs=3", ""),
    ("chargen train resume=runs/x", "continue a run that was stopped"),
    ("chargen train -m model.cell=rnn,gru,lstm", "one run of each"),
    ("chargen train -m corpus=text corpus.path=a.txt,b.txt", "one run of each"),
    ("chargen train --cfg job", "show the composed settings and exit"),
)

WIDE = 120
"""Characters of a line where standard output is no terminal."""


def train_help() -> str:
    """Return the help text, wrapped at the width of the terminal."""
    from chargen.config import help_rows
    from chargen.trainer_settings import TRAINER_SETTINGS

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE

    def wrapped(text: str) -> list[str]:
        return textwrap.wrap(text, width)

    def row(left: str, right: str, column: int) -> list[str]:
        """Put `right` behind `left`, from a column on, or below it on a narrow terminal."""
        if not right:
            return [f"  {left}"]
        if width < 80 or len(left) + 3 > column:
            below = textwrap.wrap(right, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
            return [f"  {left}", *below]
        first, *more = textwrap.wrap(right, width - column)
        return [f"  {left:{column - 2}}{first}", *(" " * column + line for line in more)]

    lines = [
        "Usage: chargen train [TEXT ...] [SETTING=VALUE ...]",
        "",
        *wrapped(
            "Learn to write from a text. TEXT is a file, several, a folder or a 'glob' of .txt, .md, .jsonl (also "
            ".gz); without one, the articles of the Python language reference. In a folder and in a glob, linked "
            "folders are followed once; hidden files, lock files (~$...) and what chargen wrote, such as samples and "
            "downloads, are left out."
        ),
        "",
        *(line for left, right in EXAMPLES for line in row(left, right, 56)),
        "",
        "Choices",
    ]
    for group in ("corpus", "model", "+experiment"):
        names, indent = ", ".join(choices(group.lstrip("+"))), " " * (len(group) + 3)
        lines += textwrap.wrap(names, width, initial_indent=f"  {group}=", subsequent_indent=indent)
    lines += ["", "Settings"]
    for title, settings in help_rows():
        lines += ["", *wrapped(title)] if title else []
        for key, default, meaning in settings:
            lines += row(f"{key}={_shown(default)}", meaning, 37)
    lines += ["", *wrapped("trainer: Lightning's Trainer, under its own names (docs/TRAINER.md)")]
    defaults = values("trainer", "default")
    for name, setting in TRAINER_SETTINGS.items():
        if not setting.is_refused:
            default = _shown(defaults[name]) if name in defaults else ""
            lines += row(f"trainer.{name}={default}", setting.meaning, 37)
    return "\n".join(lines)


def _shown(default: Any) -> str:
    return {"None": "null", "???": "", "True": "true", "False": "false"}.get(str(default), str(default))
