"""The optimizer as the settings of a run describe it: AdamW or SGD. Only matrices have weight decay."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from chargen.config import OptimizerConfig


def build_optimizer(parameters: Iterable[Tensor], config: OptimizerConfig, *, fused: bool) -> torch.optim.Optimizer:
    """Build AdamW (Loshchilov & Hutter 2019), or stochastic gradient descent with momentum (Polyak 1964).

    Args:
        parameters: what is trained.
        config: the settings.
        fused: update all parameters in one kernel.
    """
    matrices, vectors = parameter_groups(parameters)
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=fused)
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=fused)


def parameter_groups(parameters: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters with weight decay and those without, in the order of the optimizer."""
    given = list(parameters)
    return [p for p in given if p.dim() > 1], [p for p in given if p.dim() <= 1]
