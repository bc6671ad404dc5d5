"""`chargen inspect text`: a text coloured by surprise, with its most surprising passages and typing errors."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from chargen.cli.console import ErrorsOption, ForceOption, at_home, escaped
from chargen.cli.inspect.subject import (
    Inspection,
    JsonOption,
    OutputOption,
    Subject,
    progress,
    readable,
    shade,
    write_json,
)
from chargen.cli.pictures import write_page
from chargen.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from chargen.insight.surprise import CharacterScores

MAX_SCORED = 200_000
"""Characters of a text that are scored."""

MAX_SHOWN = 20_000
"""Characters of a text that are on the page."""

PREVIEW = 1200
"""Characters of a text that are coloured in a terminal."""


HELP = (
    "Colour a text by surprise, character by character, and find what looks like typing errors.\n\n"
    "The page shows the ten likeliest characters at each place. A terminal gets the beginning of the text in "
    "colours, the most surprising passages, and corrections that make the text much more probable."
)


def text(
    words: Annotated[
        Optional[list[Path]],
        typer.Argument(
            metavar="[RUN] [FILE]",
            help="A run, and the text to read, or - for standard input. If none is given: the newest run, and the "
            "held-out text of the run.",
        ),
    ] = None,
    output: OutputOption = None,
    encoding: Annotated[str, typer.Option(help="The encoding of the text; auto: find it.")] = "auto",
    errors: ErrorsOption = "strict",
    alternatives: Annotated[
        int,
        typer.Option(min=0, max=1000, help="List so many of the most surprising characters, and what was expected."),
    ] = 10,
    json_file: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Colour a text by surprise, character by character, and find what looks like typing errors."""
    run, file = _run_and_file([at_home(word) for word in words or []])
    inspection = Inspection.begin(run, output, json_file, "text.html", force=force)
    subject, target, out = inspection.subject, inspection.target, inspection.out
    import numpy as np

    from chargen.cli.given_text import encode_given
    from chargen.corpus.tokenizer import UNKNOWN_ID
    from chargen.insight.surprise import score_characters, surprising_passages
    from chargen.insight.typos import find_typos

    if file is None:
        ids, name = subject.corpus("name a text").validation, "the held-out text"
    else:
        encoded = encode_given(str(file), subject.model, encoding, errors)
        ids, name = np.insert(encoded, 0, subject.model.start_id), "standard input" if str(file) == "-" else str(file)
    total, ids = len(ids) - 1, ids[: MAX_SCORED + 1]
    if len(ids) < 2:
        raise UserError(f"{name} is empty")
    with progress(out, "reading", len(ids) - 1) as advance:
        scores = score_characters(subject.network, ids, advance)
    passages, typos = surprising_passages(scores.nats), find_typos(subject.network, ids, scores)
    characters = readable(ids[1:], subject.tokenizer)
    where = _places(characters)
    symbol = _symbols(subject)
    from chargen.insight.surprise_page import surprise_page, typo_row

    per, uniform = subject.tokenizer.short_unit, math.log(subject.model.config.num_symbols)
    mean = float(scores.nats.mean())
    part = "" if total == len(scores.nats) else f"the first {len(scores.nats):,} of "
    unknown = int((ids[1:] == UNKNOWN_ID).sum())
    out.print(
        f"{name} under {subject.name}: {part}{total:,} {subject.tokenizer.unit}s, {mean:.4f} nats/{per} "
        f"({mean / math.log(2):.4f} bits); expected surprise {float(scores.entropy.mean()):.4f} nats"
    )
    if unknown:
        out.print(f"  {unknown:,} of them are unknown to the model")
    if out.is_terminal:
        _print_coloured(out, characters[:PREVIEW], scores.nats / uniform)
    out.print("the most surprising passages (nats per character, line:column)")
    for passage in passages[:5]:
        inline = escaped("".join(characters[passage.begin : passage.end]).replace("\n", "⏎"))
        out.print(f"  {passage.nats_per_char:6.2f}  {where(passage.begin):>9}  {inline}")
    if alternatives:
        out.print("the most surprising characters (nats, line:column), and what was expected instead")
        for place in np.argsort(-scores.nats, kind="stable")[:alternatives].tolist():
            out.print(f"  {scores.nats[place]:6.2f}  {where(place):>9}  {_expected(place, characters, scores, symbol)}")
    out.print("what looks like a typing error (gain in nats, line:column)" if typos else "no typing error was found")
    for typo in typos:
        gain, place, there, instead = map(escaped, typo_row(typo, characters, symbol, where))
        out.print(f"  {gain:>6}  {place:>9}  {there}  ->  {instead}")
    write_json(json_file, {
        "text": name, "nats_per_char": mean, "characters": len(scores.nats), "nats": scores.nats.tolist(),
        "entropy": scores.entropy.tolist(), "passages": [passage._asdict() for passage in passages],
        "typos": [{"position": one.position, "removed": [*map(symbol, one.removed)],
                   "added": [*map(symbol, one.added)], "gain": one.gain} for one in typos],
    })  # fmt: skip
    note = f"The first {MAX_SHOWN:,} characters are shown." if len(characters) > MAX_SHOWN else ""
    page = surprise_page(
        f"{name} under {subject.name}", characters[:MAX_SHOWN], scores,
        symbol=symbol, passages=passages, typos=typos, where=where, uniform=uniform, note=note,
    )  # fmt: skip
    write_page(page, target)


def _run_and_file(words: Sequence[Path]) -> tuple[Path | None, Path | None]:
    """Tell the run from the text: a folder, a model or a checkpoint is a run.

    Raises:
        UserError: there are more words.
    """
    from chargen.storage.run_folder import is_run_folder

    def is_run(word: Path) -> bool:
        is_model = word.suffix in (".safetensors", ".ckpt")
        return is_model or (word.is_dir() and ((word / "model.safetensors").is_file() or is_run_folder(word)))

    if len(words) > 2:
        raise UserError(f"{words[2]}: one run and one text can be given; write a folder or a pattern for several files")
    if len(words) == 2:
        return words[0], words[1]
    if not words:
        return None, None
    return (words[0], None) if is_run(words[0]) else (None, words[0])


def _places(characters: Sequence[str]) -> Callable[[int], str]:
    """Return a function that returns the line and the column of a position."""
    begins = [0, *(place + 1 for place, character in enumerate(characters) if character == "\n")]

    def where(position: int) -> str:
        line = bisect_right(begins, position)
        return f"{line}:{position - begins[line - 1] + 1}"

    return where


def _symbols(subject: Subject) -> Callable[[int], str]:
    """Return a function that returns the character of an id."""
    import numpy as np

    return lambda id: readable(np.array([id]), subject.tokenizer)[0]


def _expected(place: int, characters: Sequence[str], scores: CharacterScores, symbol: Callable[[int], str]) -> str:
    """Return the text before a place, its character, and the likeliest characters there."""

    def inline(text: str) -> str:
        return escaped(text.replace("\n", "⏎").replace(" ", "␣"))

    before = escaped("".join(characters[max(0, place - 16) : place]).replace("\n", "⏎"))
    likely = "  ".join(
        f"{inline(symbol(int(id)))} {p:.0%}"
        for id, p in zip(scores.ids[place], scores.probabilities[place], strict=True)
    )
    return f"{before}[{inline(characters[place])}]   {likely}"


def _print_coloured(out: Console, characters: Sequence[str], surprise: np.ndarray) -> None:
    """Print the beginning of a text with a background that is the deeper, the more a character surprised.

    `surprise` is relative to that of a uniform guess.
    """
    from rich.text import Text

    from chargen.insight.coloured_text import shown
    from chargen.insight.surprise_page import DEEPEST

    line = Text()
    shade(line, map(shown, characters), surprise[: len(characters)] / DEEPEST)
    out.print(line)
