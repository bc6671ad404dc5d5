"""Write figures from the command line: a title that a font can draw, and the file of the picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chargen.cli.console import is_stdout, text_output, warn
from chargen.errors import UserError

if TYPE_CHECKING:
    from chargen.insight.drawing import Figure


def drawable(title: str) -> str:
    """Return a title that a font can draw, with a warning if characters of it are escaped.

    Raises:
        UserError: matplotlib is not installed.
    """
    require_matplotlib()
    from chargen.insight.drawing import fonts_for, without_missing

    text = title.encode("utf-8", "replace").decode()
    if (shown := without_missing(text, fonts_for(text))) != text:
        warn(f"no installed font has all characters of {text}, drawn as {shown}: install one, such as Noto Sans CJK")
    return text


def require_matplotlib() -> None:
    """Refuse to draw without the package that draws.

    Raises:
        UserError: it is not installed.
    """
    try:
        import chargen.insight.drawing  # noqa: F401
    except ImportError:
        raise UserError("drawing needs matplotlib: pip install 'chargen[plots]'") from None


def write_figure(figure: Figure, picture: Path) -> None:
    """Write a figure to a file and print its name, or to standard output.

    Raises:
        UserError: the suffix is not that of a picture.
    """
    from chargen.insight.drawing import save

    try:
        save(figure, sys.stdout.buffer if is_stdout(picture) else picture)
    except ValueError as error:  # the suffix is not one of a picture
        raise UserError(f"{picture}: {error}") from None
    if not is_stdout(picture):
        print(picture)


def write_page(content: str, target: Path) -> None:
    """Write a page to a file and print its name, or to standard output."""
    with text_output(target) as write:
        write(content)
    if not is_stdout(target):
        print(target)
