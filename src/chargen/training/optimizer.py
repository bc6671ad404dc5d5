"""AdamW (Loshchilov & Hutter 2019) as the settings of a run describe it: only matrices have weight decay."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from chargen.config import OptimizerConfig


def adamw(parameters: Iterable[Tensor], config: OptimizerConfig, *, fused: bool) -> torch.optim.Optimizer:
    """Build the optimizer of these parameters; `fused` updates all of them in one kernel."""
    matrices, vectors = parameter_groups(parameters)
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=fused,
    )


def parameter_groups(parameters: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters with weight decay and those without, in the order of the optimizer."""
    given = list(parameters)
    return [p for p in given if p.dim() > 1], [p for p in given if p.dim() <= 1]
