"""The commands of `chargen inspect`."""

from __future__ import annotations

import typer

from chargen.cli.inspect import gradients, like, memory, neurons, text
from chargen.cli.unknown_options import Command, SubGroup

inspect = typer.Typer(
    cls=SubGroup,
    name="inspect",
    help="Look inside a trained model: gradients through time, memory, neurons, surprise, similar passages.",
    epilog="Begin with: chargen inspect gradients   which looks at the newest run.",
    rich_markup_mode=None,
)
for command in (gradients.gradients, memory.memory, neurons.neurons, text.text, like.like):
    inspect.command(cls=Command)(command)
