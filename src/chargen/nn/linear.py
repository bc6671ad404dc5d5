"""Products with a matrix, x W^T + b, as fast as the machine allows: compiled, or by torch's other library.

The library behind `torch.nn.functional.linear`, which is the definition, does not use the widest
instructions of every processor. The kernel of `linear` does, and shares its tiles with the unroll. Where it
is not there, `packed` and `product` ask oneDNN, which torch carries along, and which packs a matrix once.

Dimensions: K columns in, M columns out.
"""

from __future__ import annotations

from collections.abc import Callable
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
    return linear_native(x, weight, bias) if native.supports((x, weight, bias)) else F.linear(x, weight, bias)


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
        sizes = (x.numel() // K, K, M, native.num_threads(torch.get_num_threads()))
        ctx.linear = native.Linear(*sizes, *(part.data_ptr() for part in (x, weight, bias, y)))
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


# ----------------------------------------------------------------------------- without a compiler


def packed(weight: Tensor, bias: Tensor | None, num_rows: int) -> Callable[[Tensor], Tensor]:
    """The product with a matrix that is used many times, without a derivative.

    Args:
        weight: (M, K).
        bias: (M,), or None for none.
        num_rows: rows of what it is going to be multiplied with.

    Returns:
        `x (num_rows, K) -> x W^T + b`.
    """
    if _onednn_takes(weight):
        ready = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), num_rows)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, ready, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x W^T, once, without a derivative: (R, K) and (M, K) give (R, M)."""
    if _onednn_takes(weight):
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return result
    return x @ weight.t()


def _onednn_takes(weight: Tensor) -> bool:
    """Whether this torch has oneDNN's products, which are not among its promises, and they are for this matrix."""
    return (
        weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= _WORTH_PACKING
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


_WORTH_PACKING = 1 << 15  # numbers in a matrix below which packing costs more than it wins
