"""The only loop over time: the reference unroll and two faster ones that equal it.

All run a cell along a window,

    state_t = cell(gates_x[t], U h_{t-1} + b_hh, state_{t-1})      for t = 0 .. T-1,

and differ in who takes the derivative. `unroll_reference` leaves it to autograd: it is the
definition. `unroll_by_hand` goes back through time itself (Werbos 1990): the loop carries only
d gates -> d h, and the recurrent weight's gradient is one product over all T*B ticks after it.
`unroll_native` is the same, compiled. `unroll` takes the fastest one there is.

Dimensions: T ticks, B lanes, V vocabulary, H hidden, G gates; everything is time-major.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from chargen import native
from chargen.nn.cells import CELLS, Cell, State
from chargen.nn.linear import packed, product


class TableLookup(NamedTuple):
    """`gates_x` as rows of a table, not yet looked up: what a window of characters is.

    Attributes:
        table: (V, G*H), the gates of every character.
        ids: (T, B), int64, which row each tick of each lane reads.
    """

    table: Tensor
    ids: Tensor

    def rows(self) -> Tensor:
        """Looked up: (T, B, G*H)."""
        return F.embedding(self.ids, self.table)


GatesX = Tensor | TableLookup
Unroll = Callable[[Cell, GatesX, Tensor, Tensor, State], tuple[Tensor, State]]
"""`(cell, gates_x (T, B, G*H), weight_hh (G*H, H), bias_hh (G*H,), state) -> (outputs (T, B, H), state)`."""


def unroll(cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State) -> tuple[Tensor, State]:
    """Runs `cell` along a window, the fastest way there is for these tensors; equal to `unroll_reference`.

    Arguments and results are those of `unroll_reference`. It can be differentiated once.
    """
    fastest = unroll_native if _is_native(cell, gates_x, weight_hh, bias_hh, state) else unroll_by_hand
    return fastest(cell, gates_x, weight_hh, bias_hh, state)


# ----------------------------------------------------------------------------- the definition


def unroll_reference(
    cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[Tensor, State]:
    """Runs `cell` along a window and leaves the derivative to autograd: the definition.

    Args:
        cell: the recurrence.
        gates_x: (T, B, G*H), the input's part of every gate, bias included; or a `TableLookup` of it.
        weight_hh: (G*H, H), the recurrent matrix U.
        bias_hh: (G*H,), its bias.
        state: the state before the window, each (B, H).

    Returns:
        The outputs h_1 .. h_T, (T, B, H), and the state after the window.
    """
    outputs = []
    for gates in _rows(gates_x).unbind(0):
        gates_h = torch.addmm(bias_hh, state[0], weight_hh.t())  # (B, G*H)
        state, _ = cell.step(gates, gates_h, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def _rows(gates_x: GatesX) -> Tensor:
    return gates_x.rows() if isinstance(gates_x, TableLookup) else gates_x


# ----------------------------------------------------------------------------- by hand


def unroll_by_hand(
    cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[Tensor, State]:
    """Runs `cell` along a window with the derivative written by hand; equal to `unroll_reference`.

    Arguments and results are those of `unroll_reference`. It can be differentiated once.
    """
    outputs, *last = _ByHand.apply(cell, _rows(gates_x), weight_hh, bias_hh, *state)  # type: ignore[no-untyped-call]
    return outputs, tuple(last)


class _ByHand(Function):
    """One autograd node for a whole window of any cell."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, gates_x: Tensor, weight_hh: Tensor, bias_hh: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        recurrence = packed(weight_hh, bias_hh, gates_x.shape[1])
        states: list[State] = [state]  # states[t] is the state before tick t
        saved = []
        for gates in gates_x.unbind(0):
            gates_h = recurrence(states[-1][0])  # (B, G*H)
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

        back = packed(weight_hh.t(), None, grad_outputs.shape[1])
        grad_gates_x, grad_gates_h = [], []
        grad_state: State = grad_last
        for grad_output, *slope in reversed(
            list(zip(grad_outputs.unbind(0), *(s.unbind(0) for s in slopes), strict=True))
        ):
            grad_state = (grad_state[0] + grad_output, *grad_state[1:])
            grad_x, grad_h, direct, others = cell.step_backward(grad_state, tuple(slope))
            through = back(grad_h)
            grad_state = (through if direct is None else through.add_(direct), *others)
            grad_gates_x.append(grad_x)
            grad_gates_h.append(grad_h)

        grad_gates_x.reverse()
        grad_gates_h.reverse()
        window_x = torch.stack(grad_gates_x)  # (T, B, G*H)
        window_h = window_x if grad_gates_h[0] is grad_gates_x[0] else torch.stack(grad_gates_h)
        over_time = window_h.flatten(0, 1)  # (T*B, G*H)
        grad_weight = product(over_time.t(), previous[0].flatten(0, 1).t())  # (G*H, H), the one product
        return None, window_x, grad_weight, over_time.sum(0), *grad_state


# ----------------------------------------------------------------------------- compiled


def unroll_native(
    cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[Tensor, State]:
    """`unroll_by_hand` as a compiled kernel, for float32 on the CPU; equal to it up to float rounding.

    Arguments and results are those of `unroll_reference`; the outputs are needed again for the derivative, and
    must not be written to before it. Each of `torch.get_num_threads()` threads takes some lanes through the whole
    window; what a lane comes to does not depend on how many there are.

    Raises:
        IndexError: an id is no row of the table.
        ValueError: the state is not one of these lanes.
    """
    table, ids = gates_x if isinstance(gates_x, TableLookup) else (gates_x, None)
    inputs = (table, weight_hh, bias_hh, *state)
    if torch.is_grad_enabled() and any(part.requires_grad for part in inputs):
        outputs, *last = _Native.apply(cell, ids, *inputs)  # type: ignore[no-untyped-call]
        return outputs, tuple(last)
    return _run(cell, ids, inputs, keep=False)[:2]


class _Native(Function):
    """One autograd node for a whole window of any cell, forward and back in compiled code."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, ids: Tensor | None, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs, last, ctx.window, ctx.kept = _run(cell, ids, inputs, keep=True)
        ctx.save_for_backward(outputs, *inputs)
        return outputs, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.kept is None:
            raise RuntimeError("a window can be differentiated once: its derivative uses up what the forward pass kept")
        _, *inputs = ctx.saved_tensors  # which also notices what was written to in between
        grads = tuple(grad.contiguous() for grad in grads)
        results = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in inputs]
        # The structure names hn, cn and h0, c0; a cell without c leaves its places empty.
        outputs, *last = (grad.data_ptr() for grad in grads)
        table, weight, bias, *state = (result.data_ptr() for result in results)
        gradients = native.Gradients(outputs, *_pair(last), table, weight, bias, *_pair(state))
        native.check(native.kernels().chargen_backward(byref(ctx.window), byref(gradients)))
        _SPARE.append(ctx.kept[-1])
        del _SPARE[:-_MOST_SPARE]
        ctx.kept = None
        return None, None, *results


_SPARE: list[Tensor] = []
"""Memory of windows past, for those to come: fresh memory costs a page fault every 4 KiB."""

_MOST_SPARE = 8  # one for each layer of a run; those of another size leave as new ones come


def _run(
    cell: Cell, ids: Tensor | None, inputs: tuple[Tensor, ...], keep: bool
) -> tuple[Tensor, State, native.Window, tuple[Tensor, ...]]:
    """Outputs, the state behind them, the window for its derivative, and the other tensors it points into."""
    inputs = tuple(part.detach().contiguous() for part in inputs)
    ids = None if ids is None else ids.contiguous()
    table, weight_hh, bias_hh, *state = inputs
    (T, B), H = (table.shape[:2] if ids is None else ids.shape), weight_hh.shape[1]
    if len(state) != cell.num_states or any(part.shape != (B, H) for part in state):
        raise ValueError(f"a state of shapes {[tuple(part.shape) for part in state]} for {B} lanes of {H} units")
    kernels = native.kernels()
    number = native.CELLS.index(cell.type.name)
    size = kernels.chargen_saved_size(number, T, B, H, keep)
    spare = next((place for place, memory in enumerate(_SPARE) if memory.numel() == size), None)
    saved = table.new_empty(size) if spare is None else _SPARE.pop(spare)
    outputs, last = table.new_empty(T, B, H), [torch.empty_like(part) for part in state]
    window = native.Window(
        number, T, B, H, native.num_threads(torch.get_num_threads()), keep, len(table),
        None if ids is None else ids.data_ptr(),
        table.data_ptr(), weight_hh.data_ptr(), bias_hh.data_ptr(), *_pair([part.data_ptr() for part in state]),
        outputs.data_ptr(), _pair([part.data_ptr() for part in last])[1], saved.data_ptr(),
    )  # fmt: skip
    native.check(kernels.chargen_forward(byref(window)))
    last[0].copy_(outputs[-1])
    return outputs, tuple(last), window, (*inputs, *(() if ids is None else (ids,)), saved)


def _pair(addresses: list[int]) -> tuple[int, int | None]:
    """Those of `(h,)` or `(h, c)`, as the structures have places for both."""
    return addresses[0], addresses[1] if len(addresses) > 1 else None


def _is_native(cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State) -> bool:
    """Whether the kernel computes this cell, and takes these tensors."""
    table = gates_x.table if isinstance(gates_x, TableLookup) else gates_x
    return CELLS.get(cell.type.name) is cell and native.supports((table, weight_hh, bias_hh, *state))
