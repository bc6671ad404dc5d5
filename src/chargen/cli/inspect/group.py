"""The commands of `chargen inspect`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from chargen.cli.inspect import carry, gradients, like, memory, neurons, text
from chargen.cli.unknown_options import Command, SubGroup

inspect = typer.Typer(
    cls=SubGroup,
    name="inspect",
    help="Look inside a trained model: gradients through time, memory, neurons, surprise, similar passages.",
    epilog="Begin with: chargen inspect gradients   which looks at the newest run.",
    rich_markup_mode=None,
)
COMMANDS: dict[Callable[..., None], str] = {
    gradients.gradients: "How gradients vanish or explode on their way back in time.",
    memory.memory: "How far back the model uses its past.",
    carry.carry: "What the state that is carried along is worth.",
    neurons.neurons: "Hidden units that follow something readable.",
    text.text: "A text coloured by surprise, and its typing errors.",
    like.like: "Passages of the training text that are read like a phrase.",
}
"""The commands, with what the list of commands says about them."""

for command, short_help in COMMANDS.items():
    inspect.command(cls=Command, short_help=short_help)(command)
