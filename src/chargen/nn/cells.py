"""One tick of time: the recurrent cells `rnn`, `lstm` and `gru`, each as an equation and its derivative.

A recurrent network reads a text one character at a time and keeps a summary of what it has read, the state. A cell is
the rule that turns the state before a tick, one position in the text, into the state after it. Every cell starts from
two products,

    gates_x = W x_t + b_ih          the contribution of the input x_t
    gates_h = U h_{t-1} + b_hh      the contribution of the previous hidden state h_{t-1}

where the matrices W, U and the biases b_ih, b_hh are learned. Each product has G blocks of H numbers, one block for
each gate. The unroll (`nn/unroll.py`) computes both products. A cell owns no weights: it combines the blocks element by
element.

Training needs the derivative. Write dy for the gradient of the loss with respect to y. Backpropagation through time
(Werbos 1990) visits the ticks from the last to the first. At each tick it knows dh_t (and dc_t, for a cell with a cell
state c) and computes the gradients of the two products and of the previous state. By the chain rule these are dh_t and
dc_t times local derivatives such as dh_t/da, which depend only on values of the forward pass. The local derivatives
are therefore computed for all ticks at once, before the loop, and a cell consists of three functions:

- `step`: the equation, for one tick.
- `slopes`: the local derivatives, for all ticks of a window in one call.
- `step_backward`: the chain rule, for one tick. Only a few multiplications remain inside the loop.

A cell may use one product with the recurrent matrix per tick, `gates_h`, and may combine the gates only after that
product. The three cells here satisfy this; for the GRU it means that the reset gate multiplies U h, as in cuDNN and
`torch.nn.GRU`. Cells that multiply a gate into h before the product need a second product in each tick and do not fit:
the GRU as Cho et al. (2014) published it, with U (r * h), and the minimal gated unit of Zhou et al. (2016), with
U (f * h). The variants of both that apply the gate after the product do fit.

CONTRIBUTING.md lists the steps that add a cell. The tests check its derivative.

Gate order and biases are those of `torch.nn`, so that weights can be exchanged in both directions.

Sources: rnn, Elman 1990; lstm, Hochreiter & Schmidhuber 1997, with the forget gate of Gers, Schmidhuber & Cummins 2000;
gru, Cho et al. 2014, with the reset gate after the product.
Dimensions: B lanes, T ticks, H hidden, G gates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from chargen.cell_types import CELL_TYPES, CellType

State = tuple[Tensor, ...]
"""The state of one layer, `(h,)` or `(h, c)`, each (B, H). The hidden state h is also the output of the tick."""

Saved = tuple[Tensor, ...]
"""Values of the forward pass that `slopes` needs: (B, H) each for one tick, (T, B, H) each for a window."""

Slopes = tuple[Tensor, ...]
"""Local derivatives: (T, B, ...) each for a window, (B, ...) each for one tick."""


@dataclass(frozen=True)
class Cell:
    """A recurrent cell as pure functions of one tick.

    Attributes:
        type: the cell's name, number of gates and number of states.
        step: `(gates_x (B, G*H), gates_h (B, G*H), previous state) -> (state, saved)`.
        slopes: `(saved, previous states, states) -> slopes`, where every tensor covers a window, (T, B, ...).
        step_backward: `(gradient of the state, slopes) -> (grad_gates_x (B, G*H), grad_gates_h (B, G*H),
            grad_h (B, H) or None, gradients of the other previous states)`. grad_h is the part of the gradient of
            h_{t-1} that does not pass through gates_h, None if there is none. The unroll adds the part that does.
        gates: the names of the values at the beginning of `saved` that are sigmoids, in this order; "" for others.
    """

    type: CellType
    step: Callable[[Tensor, Tensor, State], tuple[State, Saved]]
    slopes: Callable[[Saved, State, State], Slopes]
    step_backward: Callable[[State, Slopes], tuple[Tensor, Tensor, Tensor | None, State]]
    gates: tuple[str, ...] = ()

    @property
    def num_gates(self) -> int:
        """G, the number of gates."""
        return self.type.num_gates

    @property
    def num_states(self) -> int:
        """1 for a state `(h,)`, 2 for `(h, c)`."""
        return self.type.num_states


# ----------------------------------------------------------------------------- rnn


def rnn_step(gates_x: Tensor, gates_h: Tensor, state: State) -> tuple[State, Saved]:
    """Compute h_t = tanh(a) with a = gates_x + gates_h = W x_t + b_ih + U h_{t-1} + b_hh."""
    return (torch.tanh(gates_x + gates_h),), ()


def rnn_slopes(saved: Saved, previous: State, state: State) -> Slopes:
    """Compute dh_t/da = 1 - h_t^2, the derivative of tanh expressed by its value."""
    (h,) = state
    return ((1 - h * h).unsqueeze(-2),)  # (T, B, 1, H)


def rnn_step_backward(grad: State, slopes: Slopes) -> tuple[Tensor, Tensor, None, State]:
    """Compute da = dh_t * dh_t/da, which is the gradient of both products: a is their sum."""
    (dh,) = grad
    (dh_da,) = slopes
    da = _for_each_gate(dh, dh_da)
    return da, da, None, ()


# ---------------------------------------------------------------------------- lstm


def lstm_step(gates_x: Tensor, gates_h: Tensor, state: State) -> tuple[State, Saved]:
    """Compute the cell state c_t and the hidden state h_t from a = gates_x + gates_h.

        i = sigmoid(a_i)    f = sigmoid(a_f)    g = tanh(a_g)    o = sigmoid(a_o)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)

    The forget gate f decides how much of the old cell state stays, the input gate i how much of the proposal g is
    added, and the output gate o how much of the cell state becomes visible.
    """
    _, c = state
    i, f, g, o = (gates_x + gates_h).chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    c = torch.addcmul(f * c, i, g)
    tanh_c = torch.tanh(c)
    return (o * tanh_c, c), (i, f, g, o, tanh_c)


def lstm_slopes(saved: Saved, previous: State, state: State) -> Slopes:
    """Compute the local derivatives.

        dc_t/da_i = g i (1 - i)    dc_t/da_f = c_{t-1} f (1 - f)    dc_t/da_g = i (1 - g^2)
        dh_t/da_o = tanh(c_t) o (1 - o)    dh_t/dc_t = o (1 - tanh(c_t)^2)    dc_t/dc_{t-1} = f

    The derivative of a sigmoid with value s is s (1 - s), that of a tanh with value t is 1 - t^2.
    """
    i, f, g, o, tanh_c = saved
    _, c = previous
    dc_da = torch.stack((g * i * (1 - i), c * f * (1 - f), i * (1 - g * g)), dim=-2)  # (T, B, 3, H)
    dh_da = tanh_c * o * (1 - o)  # (T, B, H)
    dh_dc = o * (1 - tanh_c * tanh_c)  # (T, B, H)
    return dc_da, dh_da, dh_dc, f


def lstm_step_backward(grad: State, slopes: Slopes) -> tuple[Tensor, Tensor, None, State]:
    """Apply the chain rule.

        dc = dc_t + dh_t * dh_t/dc_t
        da_i, da_f, da_g = dc * dc_t/da    da_o = dh_t * dh_t/da_o    dc_{t-1} = dc * f

    The first line adds the two paths of c_t to the loss: through c_{t+1}, and through h_t. The argument grad holds
    dh_t and dc_t, where dc_t is the first path only.
    """
    dh, dc = grad
    dc_da, dh_da, dh_dc, f = slopes
    dc = torch.addcmul(dc, dh, dh_dc)
    da = dc_da.new_empty(*dh.shape[:-1], 4, dh.shape[-1])  # (B, 4, H), filled in place: torch.cat is slower
    torch.mul(dc.unsqueeze(-2), dc_da, out=da[..., :3, :])
    torch.mul(dh, dh_da, out=da[..., 3, :])
    da = da.flatten(-2)  # (B, 4*H)
    return da, da, None, (dc * f,)


# ----------------------------------------------------------------------------- gru


def gru_step(gates_x: Tensor, gates_h: Tensor, state: State) -> tuple[State, Saved]:
    """Compute h_t from gates_x = (x_r, x_z, x_n) and gates_h = (h_r, h_z, h_n).

        r = sigmoid(x_r + h_r)    z = sigmoid(x_z + h_z)    n = tanh(x_n + r * h_n)
        h_t = (1 - z) * n + z * h_{t-1}

    The update gate z decides how much of the old state stays, and the reset gate r how much of the past the proposal
    n sees.
    """
    (h,) = state
    x_r, x_z, x_n = gates_x.chunk(3, dim=-1)
    h_r, h_z, h_n = gates_h.chunk(3, dim=-1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(torch.addcmul(x_n, r, h_n))
    return (torch.addcmul(n, z, h - n),), (r, z, n, h_n)


def gru_slopes(saved: Saved, previous: State, state: State) -> Slopes:
    """Compute the local derivatives with respect to gates_x and gates_h.

        dh_t/dx_n = (1 - z) (1 - n^2)
        dh_t/dx_r = dh_t/dx_n h_n r (1 - r)
        dh_t/dx_z = (h_{t-1} - n) z (1 - z)

    Those with respect to h_r and h_z are the same, because each gate adds its two parts. h_n enters multiplied by r, so
    dh_t/dh_n = r dh_t/dx_n. The path past the gates is dh_t/dh_{t-1} = z.
    """
    r, z, n, h_n = saved
    (h,) = previous
    dh_dn = (1 - z) * (1 - n * n)
    dh_dr = dh_dn * h_n * r * (1 - r)
    dh_dz = (h - n) * z * (1 - z)
    slopes_x = torch.stack((dh_dr, dh_dz, dh_dn), dim=-2)  # (T, B, 3, H)
    slopes_h = torch.stack((dh_dr, dh_dz, dh_dn * r), dim=-2)  # (T, B, 3, H)
    return slopes_x, slopes_h, z


def gru_step_backward(grad: State, slopes: Slopes) -> tuple[Tensor, Tensor, Tensor, State]:
    """Multiply dh_t by the local derivatives. dh_t * z reaches h_{t-1} without passing through a gate."""
    (dh,) = grad
    slopes_x, slopes_h, z = slopes
    return _for_each_gate(dh, slopes_x), _for_each_gate(dh, slopes_h), dh * z, ()


# ---------------------------------------------------------------------------------


def _for_each_gate(grad: Tensor, slopes: Tensor) -> Tensor:
    """Multiply a gradient (B, H) by the slopes of G gates (B, G, H). Return (B, G*H)."""
    return (grad.unsqueeze(-2) * slopes).flatten(-2)


CELLS: dict[str, Cell] = {
    "rnn": Cell(CELL_TYPES["rnn"], rnn_step, rnn_slopes, rnn_step_backward),
    "lstm": Cell(CELL_TYPES["lstm"], lstm_step, lstm_slopes, lstm_step_backward, ("i", "f", "", "o")),
    "gru": Cell(CELL_TYPES["gru"], gru_step, gru_slopes, gru_step_backward, ("r", "z")),
}
"""The cells of `CELL_TYPES` by name."""
