"""`chargen inspect neurons`: the units that follow something readable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from chargen.cli.console import ForceOption, RunArgument, at_home
from chargen.cli.inspect.subject import REST, Inspection, JsonOption, Subject, readable, write_json
from chargen.cli.pictures import drawable, write_figure
from chargen.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from chargen.corpus.tokenizer import Tokenizer
    from chargen.insight.unit_views import Units

LONGEST = 20_000
"""Characters of the held-out text that are read."""

LEAST = 200
"""A shorter text tells nothing."""


HELP = (
    "Find hidden units that follow something readable: the position in the line, quotes, brackets, words.\n\n"
    "Each feature of the held-out text is compared with every unit: the unit is chosen on one half of the text, "
    'and its correlation is measured on the other half. "chance" is what a feature reaches that is shifted '
    "against the text: a correlation that is not larger says nothing."
)


def neurons(
    run: RunArgument = None,
    output: Annotated[
        Optional[Path],
        typer.Option(
            callback=at_home,
            help="The picture or the page (.html) to write, which must be new; if not given, neurons.png and "
            "neurons.html in the run's folder, which are replaced.",
        ),
    ] = None,
    json_file: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Find hidden units that follow something readable: the position in the line, quotes, brackets, words."""
    inspection = Inspection.begin(run, output, json_file, "neurons.png", force=force)
    subject, picture, out = inspection.subject, inspection.target, inspection.out
    units = units_of(subject)
    out.print(f"{subject.name}: {units.num_units:,} units, {len(units.characters):,} characters of held-out text")
    out.print(f"  {'feature':28}{'unit':24}{'correlation':>12}{'chance':>9}")
    for match in units.matches:
        mark = "" if match.is_found else "   not above chance"
        out.print(f"  {match.feature:28}{match.unit!s:24}{match.correlation:12.2f}{match.chance:9.2f}{mark}")
    found = [{**match._asdict(), "unit": str(match.unit), "is_found": match.is_found} for match in units.matches]
    write_json(json_file, {"units": found})
    name = drawable(subject.name)
    from chargen.insight.unit_views import units_figure, units_html

    if output is None or picture.suffix != ".html":
        write_figure(units_figure(units), picture)
    if output is None or picture.suffix == ".html":
        from chargen.insight.page import page
        from chargen.storage.atomic import write_text

        target = picture.with_suffix(".html")
        write_text(target, page(f"units of {name}", units_html(units)), allow_pipes=True)
        print(target)


def units_of(subject: Subject, *, longest: int = LONGEST) -> Units:
    """Find the units of a run's model that follow something readable in its held-out text.

    Raises:
        UserError: its text is not there, or too short.
    """
    from chargen.insight.neurons import activations, match_units
    from chargen.insight.text_features import text_features
    from chargen.insight.unit_views import Units, excerpt_of

    ids = subject.corpus().validation[1 : longest + 1]
    characters = readable(ids, subject.tokenizer)
    features = text_features(_one_for_each(ids, characters, subject.tokenizer))
    if len(ids) < LEAST or not features:
        raise UserError(f"the held-out text has {len(ids):,} characters: too few to tell a unit from chance")
    values, names = activations(subject.network, ids)
    matches = match_units(values, names, features)
    excerpts = [
        excerpt_of(match, values[:, names.index(match.unit)], features[match.feature], characters) for match in matches
    ]
    return Units(characters, len(names), matches, excerpts)


def _one_for_each(ids: np.ndarray, characters: Sequence[str], tokenizer: Tokenizer) -> str:
    """Return one character for each id, as `text_features` reads a text: each byte of a character is that character."""
    from chargen.corpus.tokenizer import END_ID
    from chargen.insight.text_features import ARTICLE_END

    text: list[str] = []
    for id, character in zip(ids, characters, strict=True):
        is_rest = tokenizer.unit == "byte" and character == REST and bool(text)
        text.append(text[-1] if is_rest else ARTICLE_END if id == END_ID else character[:1] or "\ufffd")
    return "".join(text)
