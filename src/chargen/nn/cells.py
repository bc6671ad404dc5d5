"""One tick of time: `rnn`, `lstm` and `gru`, each an equation and its derivative.

A cell owns no weight. The unroll hands it two products, `gates_x = W x_t + b_ih` and
`gates_h = U h_{t-1} + b_hh`, and the state before the tick; the cell returns the state after it.
Gate order and biases are those of `torch.nn`, so weights go across in both directions.

The derivative of a tick is linear in the gradient that comes back through time, and its
coefficients are known as soon as the forward pass is done. So each cell has three functions:

- `step`           the equation;
- `slopes`         the coefficients, for all ticks of a window at once;
- `step_backward`  the equation's derivative, one tick: a few products with the coefficients.

What is left inside the loop over time is small, which is what makes it fast.

Sources: rnn, Elman 1990; lstm, Hochreiter & Schmidhuber 1997 with the forget gate of Gers,
Schmidhuber & Cummins 2000; gru, Cho et al. 2014, with the reset gate applied after the product.
Dimensions: B lanes, T ticks, H hidden, G gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from chargen.cell_types import CELL_TYPES, CellType

State = tuple[Tensor, ...]
"""What a cell needs from the past: `(h,)` or `(h, c)`, each (B, H)."""

Saved = tuple[Tensor, ...]
"""What a derivative needs of its tick, each (B, H); stacked over a window, (T, B, H)."""


@dataclass(frozen=True)
class Cell:
    """A recurrence as pure functions of one tick.

    Attributes:
        type: its name, number of gates G and number of states.
        step: `(gates_x (B, G*H), gates_h (B, G*H), state) -> (state, saved)`.
        slopes: `(saved, previous state, state), all (T, B, H) -> coefficients (T, B, ...)`.
        step_backward: `(gradient of state, slopes of this tick) ->
            (gradient of gates_x, of gates_h, of the previous h, of the rest of the previous state)`;
            what reaches the previous `h` through `gates_h` is the unroll's to add, and where nothing
            else does, its gradient is None.
    """

    type: CellType
    step: Callable[[Tensor, Tensor, State], tuple[State, Saved]]
    slopes: Callable[[Saved, State, State], Saved]
    step_backward: Callable[[State, Saved], tuple[Tensor, Tensor, Tensor | None, State]]

    @property
    def num_gates(self) -> int:
        """G."""
        return self.type.num_gates

    @property
    def num_states(self) -> int:
        """1 for a state `(h,)`, 2 for `(h, c)`."""
        return self.type.num_states


# ----------------------------------------------------------------------------- rnn


def rnn_step(gates_x: Tensor, gates_h: Tensor, state: State) -> tuple[State, Saved]:
    """h_t = tanh(W x_t + b_ih + U h_{t-1} + b_hh)."""
    return (torch.tanh(gates_x + gates_h),), ()


def rnn_slopes(saved: Saved, previous: State, state: State) -> Saved:
    """With a the argument of tanh: dh/da = 1 - h^2."""
    (h,) = state
    return ((1 - h * h).unsqueeze(-2),)  # (T, B, 1, H)


def rnn_step_backward(grad: State, slopes: Saved) -> tuple[Tensor, Tensor, None, State]:
    """da = dh (1 - h^2); all of the past comes through the gates."""
    (dh,) = grad
    (dh_da,) = slopes
    da = _spread(dh, dh_da)
    return da, da, None, ()


# ---------------------------------------------------------------------------- lstm


def lstm_step(gates_x: Tensor, gates_h: Tensor, state: State) -> tuple[State, Saved]:
    """c_t = f c_{t-1} + i g,  h_t = o tanh(c_t),  with i, f, o = sigmoid(.) and g = tanh(.)."""
    _, c = state
    i, f, g, o = (gates_x + gates_h).chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = torch.addcmul(f * c, i, g)
    tanh_c = torch.tanh(c)
    return (o * tanh_c, c), (i, f, g, o, tanh_c)


def lstm_slopes(saved: Saved, previous: State, state: State) -> Saved:
    """Of each gate's argument a: dc/da_i, dc/da_f, dc/da_g; dh/da_o; then dh/dc and dc/dc_{t-1}."""
    i, f, g, o, tanh_c = saved
    _, c = previous
    dc_da = torch.stack((g * i * (1 - i), c * f * (1 - f), i * (1 - g * g)), dim=-2)  # (T, B, 3, H)
    dh_da = tanh_c * o * (1 - o)  # (T, B, H)
    dh_dc = o * (1 - tanh_c * tanh_c)  # (T, B, H)
    return dc_da, dh_da, dh_dc, f


def lstm_step_backward(grad: State, slopes: Saved) -> tuple[Tensor, Tensor, None, State]:
    """dc += dh dh/dc;  da_i,f,g = dc dc/da;  da_o = dh dh/da_o;  dc_{t-1} = dc f."""
    dh, dc = grad
    dc_da, dh_da, dh_dc, f = slopes
    dc = torch.addcmul(dc, dh, dh_dc)
    da = dc_da.new_empty(*dh.shape[:-1], 4, dh.shape[-1])  # (B, 4, H); written in place: cat is slower
    torch.mul(dc.unsqueeze(-2), dc_da, out=da[..., :3, :])
    torch.mul(dh, dh_da, out=da[..., 3, :])
    da = da.flatten(-2)
    return da, da, None, (dc * f,)


# ----------------------------------------------------------------------------- gru


def gru_step(gates_x: Tensor, gates_h: Tensor, state: State) -> tuple[State, Saved]:
    """h_t = (1 - z) n + z h_{t-1},  r, z = sigmoid(.),  n = tanh(W_n x_t + b + r (U_n h_{t-1} + b))."""
    (h,) = state
    x_r, x_z, x_n = gates_x.chunk(3, dim=-1)
    h_r, h_z, h_n = gates_h.chunk(3, dim=-1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(torch.addcmul(x_n, r, h_n))
    return (torch.addcmul(n, z, h - n),), (r, z, n, h_n)


def gru_slopes(saved: Saved, previous: State, state: State) -> Saved:
    """Of the arguments of r, z, n: dh/da on the input's side, and on the hidden side, where n has a factor r."""
    r, z, n, h_n = saved
    (h,) = previous
    dh_dn = (1 - z) * (1 - n * n)
    dh_dr = dh_dn * h_n * r * (1 - r)
    dh_dz = (h - n) * z * (1 - z)
    dh_dx = torch.stack((dh_dr, dh_dz, dh_dn), dim=-2)  # (T, B, 3, H)
    dh_dh = torch.stack((dh_dr, dh_dz, dh_dn * r), dim=-2)  # (T, B, 3, H)
    return dh_dx, dh_dh, z


def gru_step_backward(grad: State, slopes: Saved) -> tuple[Tensor, Tensor, Tensor, State]:
    """da = dh dh/da on either side;  dh_{t-1} = dh z."""
    (dh,) = grad
    dh_dx, dh_dh, z = slopes
    return _spread(dh, dh_dx), _spread(dh, dh_dh), dh * z, ()


# ---------------------------------------------------------------------------------


def _spread(grad: Tensor, slopes: Tensor) -> Tensor:
    """One gradient (B, H) times the slopes of several gates (B, G, H), as one row of gates (B, G*H)."""
    return (grad.unsqueeze(-2) * slopes).flatten(-2)


CELLS: dict[str, Cell] = {
    "rnn": Cell(CELL_TYPES["rnn"], rnn_step, rnn_slopes, rnn_step_backward),
    "lstm": Cell(CELL_TYPES["lstm"], lstm_step, lstm_slopes, lstm_step_backward),
    "gru": Cell(CELL_TYPES["gru"], gru_step, gru_slopes, gru_step_backward),
}
