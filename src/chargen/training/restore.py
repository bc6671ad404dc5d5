"""What a checkpoint must hold before a run continues from it, and the random number generators.

torch's fused optimizer and the compiled kernels trust the shapes of what they are given and would read or write beside
it, so the tensors of a checkpoint are compared with the model first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chargen.nn.loss import IGNORE_INDEX
from chargen.nn.model import CharRNN, States
from chargen.training.divergence import DivergenceDetector


def require_fitting_optimizer(states: list[Any], decayed: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Compare the optimizer states of a checkpoint with the parameters of the model.

    Args:
        states: as Lightning stores them, one per optimizer.
        decayed: the parameters with weight decay, in the order of the optimizer.
        others: the parameters without.

    Raises:
        ValueError: they do not belong to these parameters.
    """
    (optimizer,) = states
    numbers = list(range(len(decayed) + len(others)))
    groups = [group["params"] for group in optimizer["param_groups"]]
    if groups != [numbers[: len(decayed)], numbers[len(decayed) :]] or optimizer["state"].keys() - set(numbers):
        raise ValueError("the optimizer's parameters are not those of the model")
    for number, parameter in enumerate([*decayed, *others]):
        for name, value in optimizer["state"].get(number, {}).items():
            shape = torch.Size() if name == "step" else parameter.shape
            if value is None and name == "momentum_buffer":  # of SGD without momentum
                continue
            if value.shape != shape or not value.is_floating_point() or not value.is_contiguous():
                raise ValueError(f"the optimizer's {name} has the shape {tuple(value.shape)}, not {tuple(shape)}")


def require_fitting_states(states: States | None, model: CharRNN) -> None:
    """Compare the states of all layers with the model.

    Raises:
        ValueError: they are not states of this model.
    """
    H, num_states, num_layers = model.config.hidden_size, model.config.cell_type.num_states, model.config.num_layers
    for state in states or ():
        if len(state) != num_states or any(part.dim() != 2 or part.shape[1] != H for part in state):
            raise ValueError("the carry does not have the shape of a layer's state")
    if states is not None and len(states) != num_layers:
        raise ValueError(f"the carry has {len(states)} layers, not {num_layers}")


def require_fitting_detector(detector: dict[str, Any], carry: States | None, model: CharRNN) -> None:
    """Compare the fields of the divergence detector, and the window that it keeps, with the model.

    Raises:
        ValueError: they are not those of a detector of this run.
    """
    numbers = {name: value for name, value in vars(DivergenceDetector()).items() if name != "window"}
    for name, default in numbers.items():
        if type(detector.get(name, default)) is not type(default):
            raise ValueError(f"the divergence detector's {name} is not a number of its kind")
    window = detector.get("window")
    if window is not None:
        _require_fitting_window(window, carry, model)
    elif detector.get("num_losses"):
        raise ValueError("the divergence detector knows losses, but keeps no window")


def _require_fitting_window(window: Any, carry: States | None, model: CharRNN) -> None:
    inputs, targets, starts, num_targets, states = window
    require_fitting_states(states, model)
    for ids, least in ((inputs, 0), (targets, IGNORE_INDEX)):
        is_window = ids.dtype == torch.int64 and ids.dim() == 2 and ids.shape == inputs.shape and ids.numel() > 0
        if not is_window or ids.min() < least or ids.max() >= model.config.num_symbols:
            raise ValueError("the checkpoint keeps a window of another text")
    parts = [part for state in states or () for part in state]
    dtypes = {part.dtype for part in (*parts, *(part for state in carry or () for part in state))}
    is_read = type(starts) is bool and type(num_targets) is int and num_targets > 0
    if not is_read or len(dtypes) > 1 or any(len(part) != len(inputs) for part in parts):
        raise ValueError("the checkpoint keeps no window of this run")


def generator_states() -> dict[str, Any]:
    """Return the states of the random number generators of torch, Python and numpy as plain data."""
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (str(name), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)),
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Set the random number generators to the states that `generator_states` returned."""
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
