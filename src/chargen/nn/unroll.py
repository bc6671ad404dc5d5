"""The loop over time: run a recurrent cell along a window of text, and differentiate it.

For a window of T ticks,

    state_t = cell(gates_x[t], U h_{t-1} + b_hh, state_{t-1})        for t = 1, ..., T

where gates_x is the product of the inputs, computed before the loop. Three functions compute this and differ in the
derivative:

- `unroll_reference` leaves the derivative to autograd. It is the definition.
- `unroll_by_hand` goes back through time itself (Werbos 1990).
- `unroll_native` is the same as a compiled kernel.

`unroll` calls the fastest one that supports the tensors. All other modules call `unroll`.

Backpropagation through time needs little inside the loop. With da_t the gradient of gates_h at tick t,

    dh_{t-1} = U^T da_t + (what reaches h_{t-1} directly)        must be computed tick by tick, from T to 1
    dU = sum over t of da_t h_{t-1}^T                            is one matrix product over all T*B rows, after the loop
    db_hh = sum over t of da_t                                   is one sum, after the loop

and dgates_x is the stack of the gradients that the cell returns at each tick.

Dimensions: T ticks, B lanes, V vocabulary, H hidden, G gates. All tensors are time-major.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import byref
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from chargen import native
from chargen.nn.cells import CELLS, Cell, Saved, Slopes, State
from chargen.nn.linear import matmul_transposed, prepack_linear
from chargen.nn.precision import bf16_products, uses_bf16


class TableLookup(NamedTuple):
    """`gates_x` as rows of a table that are not looked up yet.

    The input product of a character depends on the character alone. It is therefore computed once for each character
    of the vocabulary, and the kernel reads the rows of the table without copying them.

    Attributes:
        table: (V, G*H), the gates of every character.
        ids: (T, B), int64, the row of the table for each tick of each lane.
    """

    table: Tensor
    ids: Tensor

    def rows(self) -> Tensor:
        """Look the rows up: (T, B, G*H)."""
        return F.embedding(self.ids, self.table)


GatesX: TypeAlias = Tensor | TableLookup
"""The input product of a window, (T, B, G*H), or a table of it."""

Unroll = Callable[[Cell, GatesX, Tensor, Tensor, State], tuple[Tensor, State]]
"""`(cell, gates_x (T, B, G*H), weight_hh (G*H, H), bias_hh (G*H,), state) -> (outputs (T, B, H), final state)`."""


def unroll(cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State) -> tuple[Tensor, State]:
    """Run `cell` along a window with the fastest function that supports these tensors.

    Arguments and results are those of `unroll_reference`. The results can be differentiated once.
    """
    fastest = unroll_native if _is_native(cell, gates_x, weight_hh, bias_hh, state) else unroll_by_hand
    return fastest(cell, gates_x, weight_hh, bias_hh, state)


# ----------------------------------------------------------------------------- the definition


def unroll_reference(
    cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[Tensor, State]:
    """Run `cell` along a window and leave the derivative to autograd.

    Args:
        cell: the recurrent cell.
        gates_x: (T, B, G*H), the input product of every tick, bias included; or a `TableLookup` of it.
        weight_hh: (G*H, H), the recurrent matrix U.
        bias_hh: (G*H,).
        state: the state before the window, `(h,)` or `(h, c)`, each (B, H).

    Returns:
        The outputs h_1, ..., h_T, (T, B, H), and the state after the window.
    """
    outputs = []
    for gates_x_t in _rows(gates_x).unbind(0):
        gates_h = torch.addmm(bias_hh, state[0], weight_hh.t())  # (B, G*H)
        state, _ = cell.step(gates_x_t, gates_h, state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def _rows(gates_x: GatesX) -> Tensor:
    return gates_x.rows() if isinstance(gates_x, TableLookup) else gates_x


# ----------------------------------------------------------------------------- by hand


def run_cell(
    cell: Cell, gates_x: Tensor, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[list[Tensor], Saved]:
    """Run `cell` along a window and keep what its derivative needs.

    Arguments are those of `unroll_reference`.

    Returns:
        The trajectory, one tensor (T+1, B, H) for each part of the state, before the first tick and after each; and the
        saved values that `cell.slopes` reads, each (T, B, H).
    """
    compute_gates_h = prepack_linear(weight_hh, bias_hh, gates_x.shape[1])
    states: list[State] = [state]  # states[t] is the state after t ticks
    saved = []
    for gates_x_t in gates_x.unbind(0):
        gates_h = compute_gates_h(states[-1][0])  # (B, G*H)
        state, saved_t = cell.step(gates_x_t, gates_h, states[-1])
        states.append(state)
        saved.append(saved_t)
    return [torch.stack(part) for part in zip(*states, strict=True)], tuple(map(torch.stack, zip(*saved, strict=True)))


def slopes_of(cell: Cell, trajectory: Sequence[Tensor], saved: Saved) -> Slopes:
    """Return the local derivatives of a window, (T, B, ...) each, from what `run_cell` has returned."""
    return cell.slopes(saved, tuple(part[:-1] for part in trajectory), tuple(part[1:] for part in trajectory))


def unroll_by_hand(
    cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[Tensor, State]:
    """Run `cell` along a window with a derivative that is written by hand.

    Arguments and results are those of `unroll_reference`. The results can be differentiated once. Where
    `precision.uses_bf16`, the products round their factors.
    """
    outputs, *final = _UnrollByHand.apply(cell, _rows(gates_x), weight_hh, bias_hh, *state)  # type: ignore[no-untyped-call]
    return outputs, tuple(final)


class _UnrollByHand(Function):
    """A whole window of any cell as one node of autograd's graph."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, gates_x: Tensor, weight_hh: Tensor, bias_hh: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        trajectory, saved = run_cell(cell, gates_x, weight_hh, bias_hh, state)
        ctx.cell, ctx.bf16 = cell, uses_bf16()
        ctx.num_states = len(trajectory)
        ctx.save_for_backward(weight_hh, *trajectory, *saved)
        # Return copies: the backward pass reads the trajectory, and the caller may modify the results.
        return trajectory[0][1:].clone(), *(part[-1].clone() for part in trajectory)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor, *grad_final: Tensor) -> tuple[Tensor | None, ...]:
        with bf16_products(ctx.bf16):
            return _UnrollByHand.backward_through_time(ctx, grad_outputs, *grad_final)

    @staticmethod
    def backward_through_time(ctx: Any, grad_outputs: Tensor, *grad_final: Tensor) -> tuple[Tensor | None, ...]:
        cell: Cell = ctx.cell
        weight_hh, *rest = ctx.saved_tensors
        trajectory, saved = rest[: ctx.num_states], tuple(rest[ctx.num_states :])
        slopes = slopes_of(cell, trajectory, saved)

        multiply_by_U = prepack_linear(weight_hh.t(), None, grad_outputs.shape[1])  # da (B, G*H) -> da U (B, H)
        grads_gates_x, grads_gates_h = [], []
        grad_state: State = grad_final
        ticks = list(zip(grad_outputs.unbind(0), *(slope.unbind(0) for slope in slopes), strict=True))
        for grad_output, *slopes_t in reversed(ticks):
            grad_state = (grad_state[0] + grad_output, *grad_state[1:])
            grad_x, grad_h, grad_h_direct, grad_others = cell.step_backward(grad_state, tuple(slopes_t))
            grad_previous = multiply_by_U(grad_h)
            grad_state = (grad_previous if grad_h_direct is None else grad_previous.add_(grad_h_direct), *grad_others)
            grads_gates_x.append(grad_x)
            grads_gates_h.append(grad_h)

        grads_gates_x.reverse()
        grads_gates_h.reverse()
        grad_gates_x = torch.stack(grads_gates_x)  # (T, B, G*H)
        is_same = grads_gates_h[0] is grads_gates_x[0]
        grad_gates_h = grad_gates_x if is_same else torch.stack(grads_gates_h)
        rows = grad_gates_h.flatten(0, 1)  # (T*B, G*H)
        grad_weight = matmul_transposed(rows.t(), trajectory[0][:-1].flatten(0, 1).t())  # (G*H, H)
        return None, grad_gates_x, grad_weight, rows.sum(0), *grad_state


# ----------------------------------------------------------------------------- compiled


def unroll_native(
    cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State
) -> tuple[Tensor, State]:
    """Run `unroll_by_hand` as a compiled kernel, up to rounding. The tensors must be float32 on the CPU.

    Arguments and results are those of `unroll_reference`. The results can be differentiated once. The backward pass
    reads the outputs, so they must not be modified in place before it.

    The lanes are divided among `torch.get_num_threads()` threads. The results do not depend on the number of threads.

    Raises:
        IndexError: an id is outside the table.
        ValueError: the state has the wrong shape.
    """
    table, ids = gates_x if isinstance(gates_x, TableLookup) else (gates_x, None)
    inputs = (table, weight_hh, bias_hh, *state)
    if torch.is_grad_enabled() and any(part.requires_grad for part in inputs):
        outputs, *final = _UnrollNative.apply(cell, ids, *inputs)  # type: ignore[no-untyped-call]
        return outputs, tuple(final)
    return _run_kernel(cell, ids, inputs, for_backward=False)[:2]


class _UnrollNative(Function):
    """A whole window of any cell as one node of autograd's graph, compiled in both directions."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, ids: Tensor | None, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs, final, ctx.window, ctx.buffers = _run_kernel(cell, ids, inputs, for_backward=True)
        ctx.save_for_backward(outputs, *inputs)
        return outputs, *final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.buffers is None:
            raise RuntimeError("a window can be differentiated once: the backward pass overwrites its saved values")
        _, *inputs = ctx.saved_tensors  # raises if one was modified in place since the forward pass
        grads = tuple(grad.contiguous() for grad in grads)
        results = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in inputs]
        # The structure has the fields hn, cn and h0, c0. For a cell without c, the fields of c are null.
        outputs, *final = (grad.data_ptr() for grad in grads)
        table, weight, bias, *state = (result.data_ptr() for result in results)
        gradients = native.Gradients(outputs, *_h_and_c(final), table, weight, bias, *_h_and_c(state))
        native.check(native.kernels().chargen_backward(byref(ctx.window), byref(gradients)))
        _SPARE_BUFFERS.append(ctx.buffers[-1])
        del _SPARE_BUFFERS[:-_MAX_SPARE_BUFFERS]
        ctx.buffers = None
        return None, None, *results


_SPARE_BUFFERS: list[Tensor] = []
"""Memory of earlier windows for later ones to use: new memory costs a page fault every 4 KiB."""

_MAX_SPARE_BUFFERS = 8  # one for each layer of a common model; the oldest is released first


def _run_kernel(
    cell: Cell, ids: Tensor | None, inputs: tuple[Tensor, ...], *, for_backward: bool
) -> tuple[Tensor, State, native.Window, tuple[Tensor, ...]]:
    """Run the forward kernel.

    Returns:
        The outputs, the final state, the kernel's description of the window, and the tensors whose addresses it holds;
        the last of these is the memory that the backward pass reads and overwrites.
    """
    inputs = tuple(part.detach().contiguous() for part in inputs)
    ids = None if ids is None else ids.contiguous()
    table, weight_hh, bias_hh, *state = inputs
    (T, B), H = (table.shape[:2] if ids is None else ids.shape), weight_hh.shape[1]
    if len(state) != cell.num_states or any(part.shape != (B, H) for part in state):
        shapes = [tuple(part.shape) for part in state]
        raise ValueError(f"the state has shapes {shapes}; {cell.type.name} needs {cell.num_states} of ({B}, {H})")
    kernels = native.kernels()
    number = native.cell_number(cell.type.name)
    size = kernels.chargen_saved_size(number, T, B, H, for_backward)
    if size < 0:
        raise RuntimeError(f"the kernels do not compute the cell {cell.type.name!r}")
    spare = next((index for index, buffer in enumerate(_SPARE_BUFFERS) if buffer.numel() == size), None)
    saved = table.new_empty(size) if spare is None else _SPARE_BUFFERS.pop(spare)
    outputs, final = table.new_empty(T, B, H), [torch.empty_like(part) for part in state]
    window = native.Window(
        number, T, B, H, native.num_threads(torch.get_num_threads()), for_backward, uses_bf16(), len(table),
        None if ids is None else ids.data_ptr(),
        table.data_ptr(), weight_hh.data_ptr(), bias_hh.data_ptr(), *_h_and_c([part.data_ptr() for part in state]),
        outputs.data_ptr(), _h_and_c([part.data_ptr() for part in final])[1], saved.data_ptr(),
    )  # fmt: skip
    native.check(kernels.chargen_forward(byref(window)))
    final[0].copy_(outputs[-1])
    return outputs, tuple(final), window, (*inputs, *(() if ids is None else (ids,)), saved)


def _h_and_c(addresses: list[int]) -> tuple[int, int | None]:
    """Return the addresses of h and c. That of c is None for a state `(h,)`."""
    return addresses[0], addresses[1] if len(addresses) > 1 else None


def _is_native(cell: Cell, gates_x: GatesX, weight_hh: Tensor, bias_hh: Tensor, state: State) -> bool:
    """Return whether the kernel computes this cell and supports these tensors."""
    table = gates_x.table if isinstance(gates_x, TableLookup) else gates_x
    known = CELLS.get(cell.type.name) is cell and native.has_cell(cell.type.name)
    return known and native.supports((table, weight_hh, bias_hh, *state))
