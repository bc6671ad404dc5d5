"""The recurrent cells by name: how many gates and states each has.

This list decides which cells there are. Settings, files and tests read it. The equations are in `nn/cells.py` for torch
and in `sampling/numpy_network.py` for numpy, and the compiled kernels report which of these cells they know.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CellType:
    """The shape of a recurrent cell.

    Attributes:
        name: as settings and files call it.
        num_gates: G, how many blocks of H rows the input and the recurrent matrix have.
        num_states: 1 for a state `(h,)`, 2 for `(h, c)`.
        open_gate: the gate whose input bias starts at 1, so that the cell remembers from the first update on
            (Jozefowicz et al. 2015); None if all biases start at 0.
    """

    name: str
    num_gates: int
    num_states: int
    open_gate: int | None = None


CELL_TYPES: dict[str, CellType] = {
    cell.name: cell
    for cell in (
        CellType("rnn", num_gates=1, num_states=1),
        CellType("lstm", num_gates=4, num_states=2, open_gate=1),
        CellType("gru", num_gates=3, num_states=1),
    )
}
