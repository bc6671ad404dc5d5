"""`chargen inspect memory`: how far back a model uses its past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chargen.cli.console import ForceOption, RunArgument
from chargen.cli.inspect.subject import Inspection, JsonOption, OutputOption, Subject, progress, write_json
from chargen.cli.pictures import drawable, write_figure
from chargen.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from chargen.insight.memory import MemoryCurve

LONGEST = 1024
"""Characters of the longest context."""

POSITIONS = 512
"""Characters that are predicted behind each length of context."""


HELP = (
    "Draw how the loss falls with the number of characters that the model has read before.\n\n"
    "Characters of the held-out text are predicted behind their last 1, 2, 4, ... 1,024 characters: once from "
    "the zero state, and once behind characters in random order. Where the line becomes flat, the memory of the "
    "model ends."
)


def memory(
    run: RunArgument = None,
    output: OutputOption = None,
    positions: Annotated[
        int, typer.Option(min=16, max=1_000_000, help="How many characters to predict behind each length of context.")
    ] = POSITIONS,
    json_file: JsonOption = None,
    force: ForceOption = False,
) -> None:
    """Draw how the loss falls with the number of characters that the model has read before."""
    inspection = Inspection.begin(run, output, json_file, "memory.png", force=force)
    subject, picture, out = inspection.subject, inspection.target, inspection.out
    curve = curve_of(subject, out, positions=positions)
    lengths, unit = curve.lengths, subject.tokenizer.unit
    out.print(f"{subject.name}, windows of T = {subject.length}")
    out.print(f"  {'context':>9}{'nats/' + subject.tokenizer.short_unit:>11}{'±':>8}{'behind a shuffled past':>25}")
    for n, zero, error, shuffled in zip(curve.lengths, curve.zero, curve.errors, curve.shuffled, strict=True):
        out.print(f"  {n:9,}{zero:11.4f}{error:8.4f}{shuffled:25.4f}")
    ninety, all_but = curve.length_for(0.9), curve.length_for(0.99)
    out.print(f"  {ninety:,} {unit}s of context give 90 % of what {lengths[-1]:,} give, {all_but:,} give 99 %")
    report = {**curve._asdict(), "sequence_length": subject.length, "length_for_90": ninety,
              "length_for_99": all_but}  # fmt: skip
    write_json(json_file, report)
    from chargen.insight.charts import memory_chart

    write_figure(memory_chart(curve, subject.length, drawable(subject.name), unit), picture)


def curve_of(subject: Subject, out: Console, *, positions: int = POSITIONS, longest: int = LONGEST) -> MemoryCurve:
    """Measure the loss of a run's model behind contexts of several lengths.

    Raises:
        UserError: its text is not there, or too short.
    """
    from chargen.insight.memory import SHUFFLED, memory_curve

    ids = subject.corpus().validation
    lengths = [2**power for power in range(longest.bit_length()) if 2**power + 2 * SHUFFLED < len(ids)]
    if not lengths:
        raise UserError(f"the held-out text has {len(ids):,} characters: memory needs {2 * SHUFFLED + 2:,} or more")
    P = min(positions, len(ids) - lengths[-1] - SHUFFLED)
    with progress(out, "losses behind contexts", sum(2 * n + SHUFFLED for n in lengths) * P) as advance:
        return memory_curve(subject.network, ids, lengths, positions=P, advance=advance)
