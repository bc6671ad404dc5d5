"""`chargen inspect neurons`: the units that follow something readable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from chargen.cli.console import ForceOption, RunArgument, at_home, console, is_stdout, require_new
from chargen.cli.inspect.subject import JsonOption, Subject, readable, write_json
from chargen.cli.pictures import drawable, require_matplotlib, write_figure
from chargen.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from chargen.insight.neurons import Match

LONGEST = 20_000
"""Characters of the held-out text that are read."""

EXCERPT = 330
"""Characters of a coloured text in the picture; the page has more."""

PAGE_EXCERPT = 1200

DRAWN = 6
"""Units in the picture."""


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
    """Find hidden units that follow something readable: the position in the line, quotes, brackets, words.

    Each feature of the held-out text is compared with every unit: the unit is chosen on one half of the text, and its
    correlation is measured on the other half. "chance" is what a feature reaches that is shifted against the text: a
    correlation that is not larger says nothing.
    """
    require_new(json_file, force=force)
    require_matplotlib()
    subject = Subject.open(run)
    picture = subject.result(output, "neurons.png", force=force)
    from chargen.corpus.tokenizer import END_ID
    from chargen.insight.neurons import activations, match_units
    from chargen.insight.text_features import ARTICLE_END, text_features

    ids = subject.corpus().validation[1 : LONGEST + 1]
    characters = readable(ids, subject.tokenizer)
    features = text_features("".join(ARTICLE_END if id == END_ID else character[:1] for id, character in
                                     zip(ids, characters, strict=True)))  # fmt: skip
    if len(ids) < 200 or not features:
        raise UserError(f"the held-out text has {len(ids):,} characters: too few to tell a unit from chance")
    values, names = activations(subject.network, ids)
    matches = match_units(values, names, features)
    out = console(stderr=is_stdout(output) or is_stdout(json_file))
    out.print(f"{subject.name}: {len(names):,} units, {len(ids):,} characters of held-out text")
    out.print(f"  {'feature':28}{'unit':24}{'correlation':>12}{'chance':>9}")
    for match in matches:
        mark = "" if match.is_found else "   not above chance"
        out.print(f"  {match.feature:28}{match.unit!s:24}{match.correlation:12.2f}{match.chance:9.2f}{mark}")
    write_json(json_file, {"units": [{**match._asdict(), "unit": str(match.unit), "is_found": match.is_found}
                                     for match in matches]})  # fmt: skip
    ends = [place + 1 for place, character in enumerate(characters) if character == "\n"]
    shown = [_excerpt(match, values[:, names.index(match.unit)], features[match.feature], ends) for match in matches]
    name = drawable(subject.name)
    if output is None or picture.suffix != ".html":
        from chargen.insight.coloured_text import coloured_figure

        found = [place for place, match in enumerate(matches) if match.is_found][:DRAWN] or [0]
        rows = [
            (_title(matches[place]), characters[shown[place][0] :][:EXCERPT], shown[place][1][:EXCERPT])
            for place in found
        ]
        write_figure(coloured_figure(rows), picture)
    if output is None or picture.suffix == ".html":
        page = picture.with_suffix(".html")
        _write_page(page, name, [(match, characters, *one) for match, one in zip(matches, shown, strict=True)])


def _title(match: Match) -> str:
    return f"{match.feature}: {match.unit}, correlation {match.correlation:.2f} (chance {match.chance:.2f})"


def _excerpt(match: Match, values: np.ndarray, feature: np.ndarray, ends: list[int]) -> tuple[int, np.ndarray]:
    """Return where to begin to show a unit, and its values from there on, from -1 to 1.

    The excerpt lies in the half of the text on which the correlation was measured, where the feature changes most. The
    sign is that of the feature: orange is where the unit says that the feature is large.
    """
    import numpy as np

    half = len(values) // 2
    size = min(EXCERPT, len(values) - half)
    places = range(half, len(values) - size + 1, max(1, size // 4))
    begins = [place for place in ends if half <= place <= len(values) - size] or places  # at a line, if there is one
    begin = max(begins, key=lambda place: float(np.std(feature[place : place + size])))
    sign = np.sign(match.correlation) or 1.0
    centred = values[begin:] - np.median(values)
    return begin, sign * centred / max(1e-9, float(np.quantile(np.abs(centred), 0.98)))


def _write_page(page: Path, name: str, shown: list[tuple[Match, list[str], int, np.ndarray]]) -> None:
    from chargen.insight.coloured_text import coloured_html
    from chargen.insight.page import heading, paragraph, table
    from chargen.insight.page import page as page_of
    from chargen.storage.atomic import write_text

    body = [
        paragraph(
            "Which hidden units follow something readable? Each unit was chosen on one half of the held-out text and "
            "measured on the other. Chance is the size of the correlation that the same feature reaches in 95 of 100 "
            "cases after it has been shifted against the text."
        ),
        table(
            ("feature", "unit", "correlation", "chance", ""),
            [
                (match.feature, str(match.unit), f"{match.correlation:.2f}", f"{match.chance:.2f}",
                 "" if match.is_found else "not above chance") for match, *_ in shown
            ],
            numbers=(2, 3),
        ),
        paragraph("Orange: the unit says that the feature is large; blue: that it is small.", note=True),
    ]  # fmt: skip
    for match, characters, begin, values in shown:
        if match.is_found:
            body += [
                heading(_title(match), level=3),
                coloured_html(characters[begin:][:PAGE_EXCERPT], values[:PAGE_EXCERPT]),
            ]
    write_text(page, page_of(f"units of {name}", body), allow_pipes=True)
    print(page)
