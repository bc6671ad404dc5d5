"""The states of every layer of a model while it reads a text, tick by tick, with what their derivative needs.

Dimensions: B lanes, N ticks, H hidden.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from chargen.nn.cells import Saved
from chargen.nn.model import CharRNN, States
from chargen.nn.unroll import run_cell


class LayerTrajectory(NamedTuple):
    """One layer along a text.

    Attributes:
        trajectory: (N+1, B, H) each for h, or h and c: before the first tick and after each.
        saved: (N, B, H) each, what `Cell.slopes` reads, such as the values of the gates.
    """

    trajectory: list[Tensor]
    saved: Saved

    @property
    def final(self) -> tuple[Tensor, ...]:
        """The state after the last tick, (B, H) each."""
        return tuple(part[-1] for part in self.trajectory)


def read_layers(model: CharRNN, ids: Tensor, states: States | None = None) -> tuple[list[LayerTrajectory], Tensor]:
    """Read a text with the definition of the cell, without dropout.

    Args:
        model: the model.
        ids: (B, N), integer.
        states: the states before the text; None for zeros.

    Returns:
        The trajectory of each layer, and the outputs of the top one, (N, B, H).
    """
    recurrence = model.recurrence
    layer_input, layers = model.embedding(ids.t()), []  # (N, B, E)
    for layer, state in enumerate(states or recurrence.zero_state(len(ids))):
        weight_ih, weight_hh, bias_ih, bias_hh = recurrence.weights(layer)
        gates_x = F.linear(layer_input, weight_ih, bias_ih)
        layers.append(LayerTrajectory(*run_cell(recurrence.cell, gates_x, weight_hh, bias_hh, state)))
        outputs = layers[-1].trajectory[0][1:]
        layer_input = outputs + layer_input if layer and recurrence.residual else outputs
    return layers, layer_input
