"""The modules of `torch.nn` that compute the same as our cells, and their states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from chargen.nn.model import States

TORCH_MODULES: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
"""Not every cell of `CELL_TYPES` has one."""


def torch_twin(cell: str, input_size: int, hidden_size: int, num_layers: int = 1, **options: Any) -> nn.RNNBase:
    """Build the module of `torch.nn` for a cell. Skip the test if there is none.

    Args:
        cell: a name from `CELL_TYPES`.
        input_size: the number of input features.
        hidden_size: H.
        num_layers: L.
        options: further arguments of the module, such as `batch_first=True`.
    """
    if cell not in TORCH_MODULES:
        pytest.skip(f"torch.nn has no {cell}")
    return TORCH_MODULES[cell](input_size, hidden_size, num_layers, **options)


def torch_state(states: States) -> Any:
    """Turn the states of our layers into the form of `torch.nn`: h (L, B, H), or a pair (h, c) of them."""
    parts = tuple(torch.stack(part) for part in zip(*states, strict=True))
    return parts if len(parts) > 1 else parts[0]


def state_parts(state: Any) -> tuple[torch.Tensor, ...]:
    """Return a state of `torch.nn` as a tuple: (h,) or (h, c)."""
    return state if isinstance(state, tuple) else (state,)
