"""The only loop over time: the reference unroll and the hand-differentiated one that equals it.

Both run a cell along a window,

    state_t = cell(gates_x[t], U h_{t-1} + b_hh, state_{t-1})      for t = 0 .. T-1,

and differ in who takes the derivative. `unroll_reference` leaves it to autograd: it is the
definition. `unroll` goes back through time by hand (Werbos 1990): the loop carries only
d gates -> d h, and the recurrent weight's gradient is one product over all T*B ticks after it.

Dimensions: T ticks, B lanes, H hidden, G gates; everything is time-major.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from chargen.cells import Cell, State

Unroll = Callable[[Cell, Tensor, Tensor, Tensor, State], tuple[Tensor, State]]
"""`(cell, gates_x (T, B, G*H), weight_hh (G*H, H), bias_hh (G*H,), state) -> (outputs (T, B, H), state)`."""


def unroll_reference(
    cell: Cell, gates_x: Tensor, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[Tensor, State]:
    """Runs `cell` along a window and leaves the derivative to autograd: the definition.

    Args:
        cell: the recurrence.
        gates_x: (T, B, G*H), the input's part of every gate, bias included.
        weight_hh: (G*H, H), the recurrent matrix U.
        bias_hh: (G*H,), its bias.
        state: the state before the window, each (B, H).

    Returns:
        The outputs h_1 .. h_T, (T, B, H), and the state after the window.
    """
    outputs = []
    for gates in gates_x.unbind(0):
        gates_h = torch.addmm(bias_hh, state[0], weight_hh.t())  # (B, G*H)
        state, _ = cell.step(gates, gates_h, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def unroll(cell: Cell, gates_x: Tensor, weight_hh: Tensor, bias_hh: Tensor, state: State) -> tuple[Tensor, State]:
    """Runs `cell` along a window with the derivative written by hand; equal to `unroll_reference`.

    Arguments and results are those of `unroll_reference`. It can be differentiated once.
    """
    outputs, *last = _Unroll.apply(cell, gates_x, weight_hh, bias_hh, *state)  # type: ignore[no-untyped-call]
    return outputs, tuple(last)


class _Unroll(Function):
    """One autograd node for a whole window of any cell."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, gates_x: Tensor, weight_hh: Tensor, bias_hh: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        weight = weight_hh.t()
        states: list[State] = [state]  # states[t] is the state before tick t
        saved = []
        for gates in gates_x.unbind(0):
            gates_h = torch.addmm(bias_hh, states[-1][0], weight)  # (B, G*H)
            state, kept = cell.step(gates, gates_h, states[-1])
            states.append(state)
            saved.append(kept)
        trajectory = [torch.stack(part) for part in zip(*states, strict=True)]  # each (T+1, B, H)
        ctx.cell = cell
        ctx.num_states = len(trajectory)
        ctx.save_for_backward(weight_hh, *trajectory, *map(torch.stack, zip(*saved, strict=True)))
        # Copies, for the trajectory is the backward's to read: the caller may write into its results.
        return trajectory[0][1:].clone(), *(part[-1].clone() for part in trajectory)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, *grad_last: Tensor) -> tuple[Tensor | None, ...]:
        cell: Cell = ctx.cell
        weight_hh, *rest = ctx.saved_tensors
        trajectory, saved = rest[: ctx.num_states], tuple(rest[ctx.num_states :])
        previous = tuple(part[:-1] for part in trajectory)
        slopes = cell.slopes(saved, previous, tuple(part[1:] for part in trajectory))

        grad_gates_x, grad_gates_h = [], []
        grad_state: State = grad_last
        for grad_output, *slope in reversed(
            list(zip(grad_outputs.unbind(0), *(s.unbind(0) for s in slopes), strict=True))
        ):
            grad_state = (grad_state[0] + grad_output, *grad_state[1:])
            grad_x, grad_h, (grad_hidden, *grad_rest) = cell.step_backward(grad_state, tuple(slope))
            grad_state = (torch.addmm(grad_hidden, grad_h, weight_hh), *grad_rest)
            grad_gates_x.append(grad_x)
            grad_gates_h.append(grad_h)

        grad_gates_x.reverse()
        grad_gates_h.reverse()
        window_x = torch.stack(grad_gates_x)  # (T, B, G*H)
        window_h = window_x if grad_gates_h[0] is grad_gates_x[0] else torch.stack(grad_gates_h)
        over_time = window_h.flatten(0, 1)  # (T*B, G*H)
        grad_weight = over_time.t() @ previous[0].flatten(0, 1)  # (G*H, H), the one product
        return None, window_x, grad_weight, over_time.sum(0), *grad_state
