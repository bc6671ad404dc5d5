"""Products in bf16 on the CPU: when they are used, and how their factors are rounded.

Within `torch.autocast("cpu", torch.bfloat16)`, which `trainer.precision=bf16-mixed` stands for, the matrix products of
the layers round both factors to bf16 and add in float32. Everything else is computed and stored in float32: states,
gates, sums, losses, gradients, weights and the optimizer. This differs from torch's own operations, which also round
the result of each product.

The compiled kernels do so on every processor, and about twice as fast as in float32 where the processor multiplies
pairs of bf16 numbers (`native.has_bf16`). Without kernels, the functions here round the factors before a product in
the tensors' own type, which is the definition.

Source: mixed precision, Micikevicius et al. 2018; bf16 on x86, Kalamkar et al. 2019.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def uses_bf16() -> bool:
    """Return whether the products on the CPU round their factors to bf16."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def bf16_products(enabled: bool = True) -> torch.autocast:
    """Return a context manager in which the products on the CPU round their factors to bf16, or do not."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def rounded(x: Tensor) -> Tensor:
    """Round to bf16, to the nearest and from the middle to even, and return the result in the type of x."""
    return x.bfloat16().to(x.dtype)


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute x W^T + b in plain PyTorch, with rounded factors where `uses_bf16`.

    The derivative rounds its factors too: dx = round(dy) round(W), dW = round(dy)^T round(x).

    Args:
        x: (..., K).
        weight: (M, K).
        bias: (M,).

    Returns:
        (..., M).
    """
    if not (uses_bf16() and x.device.type == "cpu"):
        return F.linear(x, weight, bias)
    y: Tensor = _RoundedLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


class _RoundedLinear(Function):
    """A product whose factors are rounded to bf16 in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        with bf16_products(enabled=False):
            return F.linear(rounded(x), rounded(weight), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, weight = ctx.saved_tensors
        with bf16_products(enabled=False):
            rows = rounded(grad).flatten(0, -2)
            return (rows @ rounded(weight)).view_as(x), rows.t() @ rounded(x).flatten(0, -2), grad.flatten(0, -2).sum(0)
