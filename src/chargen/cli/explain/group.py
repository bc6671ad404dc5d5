"""The commands of `chargen explain`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from chargen.cli.explain import lessons
from chargen.cli.unknown_options import Command, SubGroup

explain = typer.Typer(
    cls=SubGroup,
    name="explain",
    help="See what articles on recurrent networks claim: experiments of a few seconds, without a trained model.",
    epilog="docs/rnn-explained.md leads through all of them.",
    rich_markup_mode=None,
)
COMMANDS: dict[Callable[..., None], str] = {
    lessons.recurrence: "One weight over time: gradients vanish or explode.",
    lessons.unrolling: "Four updates of one tick, or one update of four ticks.",
    lessons.clipping: "The three steps of clipping, by norm and by value.",
    lessons.copying: "How long rnn, gru and lstm can learn to remember.",
}
"""The commands, with what the list of commands says about them."""

for command, short_help in COMMANDS.items():
    explain.command(cls=Command, short_help=short_help)(command)
