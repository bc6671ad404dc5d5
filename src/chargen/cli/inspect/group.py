"""The commands of `chargen inspect`."""

from __future__ import annotations

import typer

from chargen.cli.inspect import carry, gradients, like, memory, neurons, text
from chargen.cli.unknown_options import ComputingCommand, SubGroup

inspect = typer.Typer(
    cls=SubGroup,
    name="inspect",
    help="Look inside a trained model: gradients through time, memory, neurons, surprise, similar passages.",
    epilog="Begin with: chargen inspect gradients   which looks at the newest run.",
    rich_markup_mode=None,
)
COMMANDS = (
    (gradients.gradients, gradients.HELP, "How gradients vanish or explode on their way back in time."),
    (memory.memory, memory.HELP, "How far back the model uses its past."),
    (carry.carry, carry.HELP, "What the state that is carried along is worth."),
    (neurons.neurons, neurons.HELP, "Hidden units that follow something readable."),
    (text.text, text.HELP, "A text coloured by surprise, and its typing errors."),
    (like.like, like.HELP, "Passages of the training text that are read like a phrase."),
)
"""The commands, their help, and what the list of commands says about them."""

for command, help_text, short_help in COMMANDS:
    inspect.command(cls=ComputingCommand, help=help_text, short_help=short_help)(command)
