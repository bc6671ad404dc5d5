"""The head over a window: logits and their cross-entropy, as torch computes them and fused into one kernel.

    nats = sum over places of -ln softmax(W (mask * h) + b)[target]

`cross_entropy_reference` is the definition. `cross_entropy_native` never writes the logits of more than a few rows: going
forward they become probabilities where they are, and going back probabilities become gradients.

Dimensions: T ticks, B lanes, V vocabulary, H hidden; everything is time-major.
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

IGNORED = -100
"""The target of a place that is not to be predicted."""


def nats(outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """The sum of -ln p over a window, the fastest way there is for these tensors; equal to `cross_entropy_reference`.

    Arguments and result are those of `cross_entropy_reference`. It can be differentiated once.
    """
    tensors = [outputs, weight, bias, *([] if mask is None else [mask])]
    fastest = cross_entropy_native if native.supports(tensors) else cross_entropy_reference
    return fastest(outputs, mask, weight, bias, targets)


def cross_entropy_reference(
    outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor
) -> Tensor:
    """The sum of -ln p over a window: the definition.

    Args:
        outputs: (T, B, H), of the top layer.
        mask: (B, H), what they are multiplied by, one for all ticks; None for nothing.
        weight: (V, H).
        bias: (V,).
        targets: (T, B), int64; those that are `IGNORED` count for nothing.

    Returns:
        A scalar, nats.
    """
    logits = F.linear(outputs if mask is None else outputs * mask, weight, bias)  # (T, B, V)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")


def cross_entropy_native(outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """`cross_entropy_reference` as a compiled kernel, for float32 on the CPU; equal to it up to float rounding.

    Raises:
        IndexError: a target is not in the vocabulary.
        ValueError: there is not one for each place.
    """
    total: Tensor = _Native.apply(outputs, mask, weight, bias, targets)  # type: ignore[no-untyped-call]
    return total


class _Native(Function):
    """One autograd node for head and loss of a whole window."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, targets: Tensor
    ) -> Tensor:
        outputs, weight, bias, targets = (part.contiguous() for part in (outputs, weight, bias, targets))
        mask = None if mask is None else mask.contiguous()
        (T, B, H), V = outputs.shape, len(weight)
        if targets.shape != (T, B) or weight.shape != (V, H) or (mask is not None and mask.shape != (B, H)):
            raise ValueError(f"targets of shape {tuple(targets.shape)} for {T} ticks of {B} lanes")
        masked = None if mask is None else torch.empty_like(outputs)
        p = outputs.new_empty(native.kernels().chargen_head_size(T * B, V))
        each = outputs.new_empty(T * B)
        arrays = (outputs, mask, weight, bias, targets, masked, p, each)
        sizes = (T * B, B, H, V, native.num_threads(torch.get_num_threads()), IGNORED)
        ctx.head = native.Head(*sizes, *(None if array is None else array.data_ptr() for array in arrays))
        native.check(native.kernels().chargen_head_forward(byref(ctx.head)))
        ctx.kept = (masked, p, each, targets)
        ctx.save_for_backward(outputs, weight, bias, *([] if mask is None else [mask]))
        return each.double().sum().float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.kept is None:
            raise RuntimeError("a window can be differentiated once: its derivative uses up what the forward pass kept")
        outputs, weight, bias, *_ = ctx.saved_tensors  # which also notices what was written to in between
        grads = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in (outputs, weight, bias)]
        gradients = native.HeadGradients(float(grad), *(part.data_ptr() for part in grads))
        native.check(native.kernels().chargen_head_backward(byref(ctx.head), byref(gradients)))
        ctx.kept = None
        return grads[0], None, grads[1], grads[2], None
