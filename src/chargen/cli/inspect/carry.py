"""`chargen inspect carry`: the same text read with the state carried along, and with it reset in each window."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from chargen.cli.console import ForceOption, RunArgument
from chargen.cli.inspect.subject import Inspection, JsonOption, OutputOption, progress, write_json
from chargen.cli.pictures import drawable, write_figure
from chargen.errors import UserError

MAX_READ = 200_000
"""Characters of the held-out text that are read."""


HELP = "Draw what memory is worth: the loss with the state carried along, and with it reset to zero in each window."


def carry(
    run: RunArgument = None,
    length: Annotated[
        Optional[int], typer.Option(min=1, max=100_000, help="Characters of a window; those of the run if not given.")
    ] = None,
    output: OutputOption = None,
    json_file: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Draw what memory is worth: the loss with the state carried along, and with it reset to zero in each window."""
    inspection = Inspection.begin(run, output, json_file, "carry.png", force=force)
    subject, picture, out = inspection.subject, inspection.target, inspection.out
    from chargen.insight.carry import carry_effect, carry_figure

    ids, T = subject.corpus().validation[: MAX_READ + 1], length or subject.length
    if len(ids) <= T:
        raise UserError(f"the held-out text has {len(ids):,} characters: write a smaller --length")
    with progress(out, "reading twice", 2 * (len(ids) - 1)) as advance:
        effect = carry_effect(subject.network, ids, T, advance)
    per = subject.tokenizer.short_unit
    out.print(f"{subject.name}, windows of {T} {subject.tokenizer.unit}s")
    out.print(f"  carry kept   {effect.kept.mean():.4f} nats/{per}")
    out.print(
        f"  carry reset  {effect.reset.mean():.4f} nats/{per}; {effect.reset[0]:.4f} at the first place of a window"
    )
    write_json(json_file, {"length": T, "kept": effect.kept.tolist(), "reset": effect.reset.tolist()})
    write_figure(carry_figure(effect, drawable(subject.name), subject.tokenizer.unit), picture)
