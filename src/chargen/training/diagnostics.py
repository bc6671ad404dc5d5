"""What happens inside the model while it trains, measured at the interval of the log.

- `gradient_norm_*`: the norm of the gradient before clipping, by part of the model: the embedding, each layer, the
  output layer. Their squares add up to the square of the global norm.
- `update_ratio_*`: the norm of an update divided by that of the weights, for the same parts. About 0.001 is usual for
  a model that learns well.
- `saturated_*`: for each gate, the fraction of its values below 0.1 or above 0.9, where a sigmoid is flat and passes
  little gradient (Karpathy, Johnson & Fei-Fei 2015 count the same); for a cell without gates, the fraction of h beyond
  -0.9 or 0.9. Mean over the layers.

Dimensions: B lanes, T characters in a window.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from chargen.config import ModelConfig
from chargen.nn.cells import CELLS
from chargen.nn.model import CharRNN, States
from chargen.nn.trajectory import read_layers
from chargen.training.module import module_of
from chargen.training.windows import Batch

LANES = 16
"""Lanes in which the gates are looked at, for one tick: a few thousand values, in a fraction of a millisecond."""

SATURATED = 0.1
"""A gate is saturated within this distance of 0 or 1, and a tanh within this distance of -1 or 1."""


def diagnostic_columns(config: ModelConfig) -> list[str]:
    """Return the names of all measurements of a model."""
    parts = ["embedding", *(f"layer{number}" for number in range(config.num_layers)), "output"]
    gates = [gate for gate in CELLS[config.cell].gates if gate] or ["h"]
    return [
        *(f"gradient_norm_{part}" for part in parts),
        *(f"update_ratio_{part}" for part in parts),
        *(f"saturated_{gate}" for gate in gates),
    ]


def part_of(parameter: str) -> str:
    """Return the part of the model to which a parameter of `CharRNN` belongs: `embedding`, `layer0`, ..., `output`."""
    if layer := re.fullmatch(r"recurrence\..*_l(\d+)", parameter):
        return f"layer{layer[1]}"
    return "embedding" if parameter.startswith("embedding.") else "output"


class Diagnostics(Callback):
    """Measure gradients, updates and gates in every update whose number is a multiple of `log_every`."""

    def __init__(self, log_every: int) -> None:
        self.log_every = log_every
        self._measured: dict[str, float] = {}
        self._before: dict[str, Tensor] = {}  # the weights before the update

    def take(self) -> dict[str, float]:
        """Return what was measured since the last call, by column."""
        measured, self._measured = self._measured, {}
        return measured

    def _is_due(self, trainer: Trainer) -> bool:
        return (trainer.global_step + 1) % self.log_every == 0

    @rank_zero_only
    @torch.no_grad()
    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Look at the gates at the beginning of the window."""
        if self._is_due(trainer) and not self._before:
            own = module_of(trainer)
            self._measured = saturation(own.model, batch.inputs, None if batch.starts else own.carry)

    @rank_zero_only
    @torch.no_grad()
    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Measure the gradient, which is not clipped yet, and keep the weights."""
        if not self._is_due(trainer):
            return
        model = module_of(trainer).model
        grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
        self._measured |= {f"gradient_norm_{part}": norm for part, norm in _norms(grads)}
        self._before = {name: parameter.clone() for name, parameter in model.named_parameters()}

    @rank_zero_only
    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Compare the weights with those before the update; an update that was skipped is not measured."""
        if not self._before or trainer.global_step % self.log_every:
            return
        before, self._before = self._before, {}
        model = module_of(trainer).model
        weights = dict(_norms(before))
        changes = dict(_norms({name: parameter - before[name] for name, parameter in model.named_parameters()}))
        if any(changes.values()):
            ratios = {part: change / weights[part] for part, change in changes.items() if weights[part]}
            self._measured |= {f"update_ratio_{part}": ratio for part, ratio in ratios.items()}


def saturation(model: CharRNN, inputs: Tensor, states: States | None) -> dict[str, float]:
    """Return the fraction of saturated values of each gate at the first tick of a window, over the first lanes.

    Args:
        model: the model.
        inputs: (B, T) ids.
        states: the states before them; None for zeros.
    """
    if states is not None:
        states = tuple(tuple(part[:LANES] for part in state) for state in states)
    layers, _ = read_layers(model, inputs[:LANES, :1], states)
    gates = model.recurrence.cell.gates
    values = {
        gate: torch.stack([layer.saved[place] for layer in layers]) for place, gate in enumerate(gates) if gate
    } or {"h": torch.stack([(layer.trajectory[0][1:] + 1) / 2 for layer in layers])}  # tanh(a) = 2 sigmoid(2a) - 1
    bound = dict.fromkeys(values, SATURATED if gates else SATURATED / 2)
    return {
        f"saturated_{gate}": float(((value < bound[gate]) | (value > 1 - bound[gate])).float().mean())
        for gate, value in values.items()
    }


def _norms(tensors: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    """Yield each part of the model with the norm of its tensors together."""
    if not tensors:
        return
    norms = torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors.values()]).tolist()
    parts: dict[str, list[float]] = {}
    for name, norm in zip(tensors, norms, strict=True):
        parts.setdefault(part_of(name), []).append(norm)
    for part, group in parts.items():
        yield part, math.hypot(*group)
