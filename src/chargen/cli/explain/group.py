"""The commands of `chargen explain`."""

from __future__ import annotations

import typer

from chargen.cli.explain import lessons
from chargen.cli.unknown_options import ComputingCommand, SubGroup

explain = typer.Typer(
    cls=SubGroup,
    name="explain",
    help="See what articles on recurrent networks claim: experiments of a few seconds, without a trained model.",
    epilog="docs/rnn-explained.md leads through all of them.",
    rich_markup_mode=None,
)
COMMANDS = (
    (lessons.recurrence, lessons.RECURRENCE, "One weight over time: gradients vanish or explode."),
    (lessons.unrolling, lessons.UNROLLING, "Four updates of one tick, or one update of four ticks."),
    (lessons.clipping, lessons.CLIPPING, "The three steps of clipping, by norm and by value."),
    (lessons.copying, lessons.COPYING, "How long rnn, gru and lstm can learn to remember."),
)
"""The commands, their help, and what the list of commands says about them."""

for command, help_text, short_help in COMMANDS:
    explain.command(cls=ComputingCommand, help=help_text, short_help=short_help)(command)
