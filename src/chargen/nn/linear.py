"""Matrix products x W^T + b: a compiled kernel, and a fallback through oneDNN.

`nn.precision.linear_reference` defines the result. The library behind it does not use the widest vector instructions of
every processor. The kernel behind `linear` does. Without the kernel, `prepack_linear` and `matmul_transposed` call
oneDNN, which is part of PyTorch, directly.

Dimensions: R rows, K input features, M output features.
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
from chargen.nn.precision import bf16_products, linear_reference, rounded, uses_bf16


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute x W^T + b with the compiled kernel if it supports the tensors, and with PyTorch otherwise.

    The result can be differentiated once.

    Args:
        x: (..., K).
        weight: (M, K).
        bias: (M,).

    Returns:
        (..., M).
    """
    return linear_native(x, weight, bias) if native.supports((x, weight, bias)) else linear_reference(x, weight, bias)


def linear_native(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `linear_reference` with the compiled kernel. The tensors must be float32 on the CPU and not empty."""
    y: Tensor = _LinearNative.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


class _LinearNative(Function):
    """The compiled product and its derivative, as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
        M, K = weight.shape
        y = x.new_empty(*x.shape[:-1], M)
        sizes = (x.numel() // K, K, M, native.num_threads(torch.get_num_threads()), uses_bf16())
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


# ----------------------------------------------------------------------------- without the kernel


def prepack_linear(weight: Tensor, bias: Tensor | None, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Prepare a matrix that many inputs are multiplied by. The product has no derivative.

    Both factors are rounded where `uses_bf16`.

    Args:
        weight: (M, K).
        bias: (M,), or None for no bias.
        num_rows: R, the number of rows of each input.

    Returns:
        A function from x (R, K) to x W^T + b, (R, M).
    """
    if uses_bf16() and weight.device.type == "cpu":
        factor = rounded(weight)
        return lambda x: _linear_of_rounded(x, factor, bias)
    if _use_onednn(weight):
        prepacked = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), num_rows)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, prepacked, bias, "none", [], "")
    return lambda x: F.linear(x, weight, bias)


def matmul_transposed(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b^T without a derivative. Both factors are rounded where `uses_bf16`.

    Args:
        a: (R, K).
        b: (M, K).

    Returns:
        (R, M).
    """
    if uses_bf16() and b.device.type == "cpu":
        return _linear_of_rounded(a, rounded(b), None)
    if _use_onednn(b):
        result: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return result
    return a @ b.t()


def _linear_of_rounded(x: Tensor, factor: Tensor, bias: Tensor | None) -> Tensor:
    """Round x, and multiply it by a matrix that is rounded already."""
    with bf16_products(enabled=False):
        return F.linear(rounded(x), factor, bias)


def _use_onednn(weight: Tensor) -> bool:
    """Return whether to call oneDNN directly: its private operators exist and the matrix is large enough."""
    return (
        weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= _MIN_ONEDNN_SIZE
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


_MIN_ONEDNN_SIZE = 1 << 15  # numbers in a matrix; for a smaller one, packing costs more time than it saves
