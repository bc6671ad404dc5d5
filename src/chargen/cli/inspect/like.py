"""`chargen inspect like`: the places of the training text that a model reads like a phrase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chargen.cli.console import ForceOption, RunArgument, as_utf8, escaped
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

MAX_SEARCHED = 2_000_000
"""Characters of the training text that are searched."""

BEFORE, BEHIND = 60, 40
"""Characters that are shown before the end of a place, and behind it."""


HELP = (
    "Find more like this: the places of the training text whose hidden state is nearest to that behind a "
    "phrase.\n\n"
    "Each earlier character is shaded by its influence on what the model expects next: the size of the gradient "
    "with respect to it."
)


def like(
    run: RunArgument = None,
    text: Annotated[
        str, typer.Option(metavar="PHRASE", help="The phrase. Its end counts: what the model expects behind it.")
    ] = "",
    number: Annotated[int, typer.Option(min=1, max=1000, help="How many places to show.")] = 10,
    output: OutputOption = None,
    json_file: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Find more like this: the places of the training text whose hidden state is nearest to that behind a phrase."""
    phrase = as_utf8(text)
    if not phrase:
        raise UserError('--text is missing: write a phrase, such as --text "said the"')
    inspection = Inspection.begin(run, output, json_file, "like.html", force=force)
    subject, target, out = inspection.subject, inspection.target, inspection.out
    from chargen.insight.similar import influences, similar_places

    unknown = subject.tokenizer.unknown(phrase)
    if unknown and not subject.model.knows_unknown:
        raise UserError(f"--text: the model does not know {escaped(' '.join(unknown[:10]))}: leave it out")
    ids = subject.tokenizer.encode(phrase)
    corpus = subject.corpus().train[:MAX_SEARCHED]
    with progress(out, "searching the training text", len(corpus)) as advance:
        places = similar_places(subject.network, corpus, ids, number=number, advance=advance)
    rows: list[tuple[str, np.ndarray, np.ndarray]] = [("", ids, influences(subject.network, ids))]
    behind: list[np.ndarray] = [ids[:0]]
    for place in places:
        before = corpus[max(0, place.position + 1 - BEFORE) : place.position + 1]
        rows.append((f"{place.similarity:.3f}", before, influences(subject.network, before)))
        behind.append(corpus[place.position + 1 : place.position + 1 + BEHIND])
    out.print(f"places of the training text like {escaped(phrase)!r}, under {subject.name}")
    shown = [
        (label, readable(row, subject.tokenizer), values, readable(rest, subject.tokenizer))
        for (label, row, values), rest in zip(rows, behind, strict=True)
    ]
    for label, characters, values, rest in shown:
        _print_row(out, label, characters, values, rest)
    write_json(json_file, {"phrase": phrase, "influence": rows[0][2].tolist(), "places": [
        {**place._asdict(), "before": "".join(one[1]), "behind": "".join(one[3])}
        for place, one in zip(places, shown[1:], strict=True)]})  # fmt: skip
    write_page(_page(subject, phrase, shown), target)


def _page(subject: Subject, phrase: str, shown: list[tuple[str, list[str], np.ndarray, list[str]]]) -> str:
    import numpy as np

    from chargen.insight.coloured_text import coloured_html
    from chargen.insight.page import heading, page, paragraph

    body = [
        paragraph(
            "The places of the training text whose hidden state is nearest to that behind the phrase, by the cosine of "
            "the two. The deeper the orange, the more a character influences what the model expects behind the "
            "coloured part: the norm of the gradient of -ln p of the likeliest next character with respect to its "
            "embedding."
        ),
    ]
    for label, characters, values, rest in shown:
        body.append(heading(f"cosine {label}" if label else "the phrase", level=3))
        body.append(coloured_html([*characters, "│", *rest], [*values, 0.0, *np.zeros(len(rest))]))
    return page(f"like “{phrase}”: {subject.name}", body)


def _print_row(out: Console, label: str, characters: list[str], values: Any, rest: list[str]) -> None:
    from rich.text import Text

    line = Text(f"  {label:>6}  ")
    shade(line, ("⏎" if character == "\n" else character for character in characters), values)
    line.append("│" + escaped("".join(rest).replace("\n", "⏎")))
    out.print(line)
