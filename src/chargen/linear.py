"""The product of a window with a matrix, x W^T + b: torch's, and a compiled one that equals it.

The library behind torch's own product does not use the widest instructions of every processor; the
kernel does, and shares its tiles with the unroll. `torch.nn.functional.linear` is the definition.

Dimensions: K columns in, M columns out.
"""

from __future__ import annotations

from ctypes import byref
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from chargen import native


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b, the fastest way there is for these tensors.

    Args:
        x: (..., K).
        weight: (M, K).
        bias: (M,).

    Returns:
        (..., M). It can be differentiated once.
    """
    return linear_native(x, weight, bias) if native.takes((x, weight, bias)) else F.linear(x, weight, bias)


def linear_native(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`linear` as a compiled kernel, for float32 on the CPU."""
    product: Tensor = _Native.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


class _Native(Function):
    """One autograd node for product and bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        M, K = weight.shape
        y = x.new_empty(*x.shape[:-1], M)
        ctx.linear = native.Linear(
            x.numel() // K, K, M, torch.get_num_threads(), *(part.data_ptr() for part in (x, weight, bias, y))
        )
        native.check(native.kernels().chargen_linear_forward(byref(ctx.linear)))
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        grad = grad.contiguous()
        grads = tuple(torch.empty_like(part) for part in ctx.saved_tensors)
        gradients = native.LinearGradients(grad.data_ptr(), *(part.data_ptr() for part in grads))
        native.check(native.kernels().chargen_linear_backward(byref(ctx.linear), byref(gradients)))
        return grads
