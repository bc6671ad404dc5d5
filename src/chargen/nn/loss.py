"""The output layer and its cross-entropy over a window, in plain PyTorch and as one compiled kernel.

    loss = - sum over ticks t and lanes b of  ln softmax(W (mask_b * h_tb) + b)[target_tb]        in nats

with h the outputs of the recurrent layers, mask a dropout mask, and W and b the weights of the output layer.

`cross_entropy_reference` is the definition. The kernel behind `cross_entropy_native` turns logits into probabilities in
place during the forward pass, and probabilities into gradients in place during the backward pass.

Dimensions: T ticks, B lanes, V vocabulary, H hidden. All tensors are time-major.
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
from chargen.nn.precision import linear_reference, uses_bf16

IGNORE_INDEX = -100
"""The target at positions that have no next character. They add nothing to the loss."""


def cross_entropy(outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Compute `cross_entropy_reference` with the compiled kernel if it supports the tensors, else in plain PyTorch.

    Arguments and result are those of `cross_entropy_reference`. The result can be differentiated once.
    """
    tensors = [outputs, weight, bias, *([] if mask is None else [mask])]
    fastest = cross_entropy_native if native.supports(tensors) else cross_entropy_reference
    return fastest(outputs, mask, weight, bias, targets)


def cross_entropy_reference(
    outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor
) -> Tensor:
    """Compute the sum of -ln p(target) over a window in plain PyTorch.

    Args:
        outputs: (T, B, H), the outputs of the top recurrent layer.
        mask: (B, H), a factor for the outputs of every tick; None for no factor.
        weight: (V, H).
        bias: (V,).
        targets: (T, B), int64. `IGNORE_INDEX` marks positions that do not count.

    Returns:
        A scalar in nats.
    """
    logits = linear_reference(outputs if mask is None else outputs * mask, weight, bias)  # (T, B, V)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


def cross_entropy_native(outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Compute `cross_entropy_reference` with the compiled kernel, up to rounding in float32.

    The tensors must be float32 on the CPU and not empty. The result can be differentiated once.

    Raises:
        IndexError: a target is outside the vocabulary.
        ValueError: the shapes do not fit together.
    """
    total: Tensor = _CrossEntropyNative.apply(outputs, mask, weight, bias, targets)  # type: ignore[no-untyped-call]
    return total


class _CrossEntropyNative(Function):
    """The compiled output layer and loss of a window, as one node of autograd's graph."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor
    ) -> Tensor:
        outputs, weight, bias, targets = (part.contiguous() for part in (outputs, weight, bias, targets))
        mask = None if mask is None else mask.contiguous()
        (T, B, H), V = outputs.shape, len(weight)
        if targets.shape != (T, B) or weight.shape != (V, H) or (mask is not None and mask.shape != (B, H)):
            given = ", ".join(str(tuple(part.shape)) for part in (outputs, weight, targets))
            raise ValueError(f"the shapes of outputs, weight and targets do not fit together: {given}")
        masked = None if mask is None else torch.empty_like(outputs)
        p = outputs.new_empty(native.kernels().chargen_head_size(T * B, V))
        nats = outputs.new_empty(T * B)
        arrays = (outputs, mask, weight, bias, targets, masked, p, nats)
        sizes = (T * B, B, H, V, native.num_threads(torch.get_num_threads()), uses_bf16(), IGNORE_INDEX)
        ctx.head = native.Head(*sizes, *(None if array is None else array.data_ptr() for array in arrays))
        native.check(native.kernels().chargen_head_forward(byref(ctx.head)))
        ctx.buffers = (masked, p, nats, targets)  # `ctx.head` holds only their addresses
        ctx.save_for_backward(outputs, weight, bias, *([] if mask is None else [mask]))
        return nats.double().sum().float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.buffers is None:
            raise RuntimeError("a window can be differentiated once: the backward pass overwrites its saved values")
        outputs, weight, bias, *_ = ctx.saved_tensors  # raises if one was modified in place since the forward pass
        grads = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in (outputs, weight, bias)]
        gradients = native.HeadGradients(float(grad), *(part.data_ptr() for part in grads))
        native.check(native.kernels().chargen_head_backward(byref(ctx.head), byref(gradients)))
        ctx.buffers = None
        return grads[0], None, grads[1], grads[2], None
