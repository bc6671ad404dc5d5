"""What the commands of `chargen inspect` open: a run, its network and its text."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from chargen.cli.console import at_home, console, escaped, is_stdout, require_new
from chargen.cli.pictures import require_matplotlib
from chargen.errors import FileError, UserError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.text import Text

    from chargen.corpus.encoded import Corpus
    from chargen.corpus.tokenizer import Tokenizer
    from chargen.nn.model import CharRNN
    from chargen.storage.model_file import ModelFile

JsonOption = Annotated[
    Optional[Path],
    typer.Option(
        "--json",
        metavar="FILE",
        callback=at_home,
        help="Also write the numbers to this JSON file, which must be new; - for standard output.",
    ),
]


OutputOption = Annotated[
    Optional[Path],
    typer.Option(
        callback=at_home,
        help="A new file to write; if not given, one with the name of the command in the run's folder, which is "
        "replaced.",
    ),
]


@dataclass(frozen=True)
class Subject:
    """A run that is looked at.

    Attributes:
        folder: the folder of its model, where results go.
        model: its model.
        network: the same as a network.
        tokenizer: the characters it knows.
    """

    folder: Path
    model: ModelFile
    network: CharRNN
    tokenizer: Tokenizer
    _loaded: list[Corpus] = field(default_factory=list)

    @staticmethod
    def open(run: Path | None) -> Subject:
        """Load the model of a run.

        Args:
            run: a run's folder or a file of a model; None for the newest run.

        Raises:
            FileError: there is none, or it cannot be read.
        """
        from chargen.storage.run_folder import load_model, newest_run

        run = newest_run() if run is None else run
        model = load_model(run)
        from chargen.corpus.tokenizer import Tokenizer
        from chargen.nn.model import CharRNN

        tokenizer = Tokenizer.from_json(model.tokenizer)
        if tokenizer.vocab_size != model.config.vocab_size:
            raise FileError(f"{run}: the model's weights do not fit its tokenizer")
        return Subject(run if run.is_dir() else run.parent, model, CharRNN.from_model_file(model), tokenizer)

    @property
    def name(self) -> str:
        """The folder, and the shape of the model."""
        config = self.model.config
        return f"{self.folder}: {config.cell} {config.num_layers} x {config.hidden_size}"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the run; empty if the model does not tell them."""
        return dict(self.model.metadata.get("config") or {})

    @property
    def seed(self) -> int | None:
        """The seed of the run's first weights; None if the model does not tell it."""
        seed = self.settings.get("seed")
        return seed if isinstance(seed, int) and 0 <= seed < 2**32 else None

    @property
    def length(self) -> int:
        """T, the characters in a training window; the default if the model does not tell it."""
        from chargen.config import TrainConfig

        given = self.settings.get("sequence_length")
        return given if isinstance(given, int) and given > 0 else TrainConfig(run_dir="").sequence_length

    def corpus(self, instead: str = "name another run") -> Corpus:
        """Load the text of the run.

        Raises:
            UserError: it is not known, not there, or has changed.
        """
        from chargen.cli.stored_corpus import corpus_of

        if not self._loaded:
            self._loaded.append(corpus_of(self.model, instead=instead))
        return self._loaded[0]

    def result(self, output: Path | None, name: str, *, force: bool) -> Path:
        """Return the file to write: `output`, which must be new, or `name` in the run's folder, which is replaced."""
        require_new(output, force=force)
        if is_stdout(output) and sys.stdout.isatty() and not name.endswith((".html", ".txt")):
            raise UserError("--output -: a terminal cannot show a picture; write to a pipe or a file")
        return self.folder / name if output is None else output


@dataclass(frozen=True)
class Inspection:
    """A run that is looked at, and where the results go.

    Attributes:
        subject: the run.
        target: the file to write.
        out: where to print.
    """

    subject: Subject
    target: Path
    out: Console

    @staticmethod
    def begin(run: Path | None, output: Path | None, json_file: Path | None, name: str, *, force: bool) -> Inspection:
        """Check the files to write, and open a run.

        Args:
            run: the run; None for the newest one.
            output: the file to write; None for `name` in the run's folder.
            json_file: the file of numbers, which must be new.
            name: of the file.
            force: write over files that exist.

        Raises:
            UserError: a file exists, the run cannot be read, or matplotlib is not installed.
        """
        require_new(json_file, force=force)
        require_new(output, force=force)
        require_matplotlib()
        subject = Subject.open(run)
        return Inspection(
            subject,
            subject.result(output, name, force=force),
            console(stderr=is_stdout(output) or is_stdout(json_file)),
        )


ARTICLE_END = "¶"
"""What is shown for the end of an article."""

REST = "·"
"""What is shown for the bytes of a character behind its first one."""


def readable(ids: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    """Return what to show for each id: its character, or for a model of bytes, the character that begins with it."""
    from chargen.corpus.tokenizer import END_ID

    if tokenizer.unit == "character":
        return [ARTICLE_END if id == END_ID else tokenizer.decode([int(id)]) for id in ids]
    shown: list[str] = []
    data = [b"" if id == END_ID else tokenizer.spell(int(id)) for id in ids]
    while len(shown) < len(ids):
        place = len(shown)
        if not data[place]:
            shown.append(ARTICLE_END)
            continue
        for size in range(1, 5):
            try:
                shown += [b"".join(data[place : place + size]).decode("utf-8"), *[REST] * (size - 1)]
                break
            except UnicodeDecodeError:
                continue
        else:
            shown.append("\ufffd")
    return shown[: len(ids)]


def shade(line: Text, characters: Iterable[str], values: Sequence[float] | np.ndarray) -> None:
    """Append characters to a line of a terminal, with a background that is the deeper, the larger their values.

    Args:
        line: where to append.
        characters: as they are shown.
        values: from 0 to 1, one for each.
    """
    from chargen.insight.coloured_text import STEPS, steps

    for character, step in zip(characters, steps(values), strict=True):
        fade = 1 - 0.85 * int(step) / STEPS
        style = f"black on rgb(255,{90 + int(165 * fade)},{int(255 * fade)})" if step else ""
        line.append(escaped(character), style=style)


@contextlib.contextmanager
def progress(out: Console, description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; yield a function that adds to it."""
    from rich.progress import Progress

    with Progress(console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda number: bar.advance(task, number)


def write_json(file: Path | None, report: dict[str, Any]) -> None:
    """Write the numbers of a command, if asked for; numbers that are not finite become null."""
    if file is None:
        return
    from chargen.storage.atomic import write_text

    content = json.dumps(_finite(report), indent=2, ensure_ascii=is_stdout(file)) + "\n"
    if is_stdout(file):
        sys.stdout.write(content)
    else:
        write_text(file, content, allow_pipes=True)


def _finite(value: Any) -> Any:
    import math

    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
