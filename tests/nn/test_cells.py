"""Each cell computes its equation, and its derivative is the derivative of that equation."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from chargen.cell_types import CELL_TYPES
from chargen.nn.cells import CELLS, Cell

B, H = 3, 5


def random_tick(cell: Cell) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.double, generator=generator).requires_grad_()

    return draw(B, cell.num_gates * H), draw(B, cell.num_gates * H), tuple(draw(B, H) for _ in range(cell.num_states))


def window_of_one_tick(cell: Cell) -> tuple[tuple[torch.Tensor, ...], ...]:
    """Saved values, previous state and state of a random tick, each (1, B, ...): the arguments of `slopes`."""
    gates_x, gates_h, state = random_tick(cell)
    after, saved = cell.step(gates_x, gates_h, state)
    return tuple(tuple(part.detach().unsqueeze(0) for part in parts) for parts in (saved, state, after))


def derivatives_agree(cell: Cell) -> bool:
    """Whether `step_backward` equals autograd's derivative of `step`, for a random gradient of every state."""
    gates_x, gates_h, state = random_tick(cell)
    after, _ = cell.step(gates_x, gates_h, state)
    grads = tuple(torch.randn_like(part) for part in after)
    expected = torch.autograd.grad(after, (gates_x, gates_h, *state), grads, allow_unused=True)
    slopes = tuple(slope[0] for slope in cell.slopes(*window_of_one_tick(cell)))
    grad_x, grad_h, direct, others = cell.step_backward(grads, slopes)
    return all(
        torch.allclose(got, want, rtol=1e-10, atol=1e-14) if got is not None and want is not None else got is want
        for got, want in zip((grad_x, grad_h, direct, *others), expected, strict=True)
    )


class Tick(torch.autograd.Function):
    """One tick of a cell with the cell's own derivative, for `gradcheck`."""

    @staticmethod
    def forward(ctx, cell, gates_x, gates_h, *state):
        after, saved = cell.step(gates_x, gates_h, state)
        ctx.cell, ctx.window = cell, (saved, state, after)
        return after

    @staticmethod
    def backward(ctx, *grads):
        window = [tuple(part.unsqueeze(0) for part in parts) for parts in ctx.window]
        slopes = tuple(slope[0] for slope in ctx.cell.slopes(*window))
        grad_x, grad_h, direct, others = ctx.cell.step_backward(grads, slopes)
        return None, grad_x, grad_h, direct, *others


def test_every_cell_type_has_its_equations() -> None:
    assert CELLS.keys() == CELL_TYPES.keys()
    for name, cell_type in CELL_TYPES.items():
        assert cell_type.name == name
        assert CELLS[name].type is cell_type


@pytest.mark.parametrize("name", CELL_TYPES)
def test_step_keeps_the_shapes_of_its_cell_type(name: str) -> None:
    """`num_states` parts of shape (B, H) come out, and the slopes of a window are time-major."""
    saved, previous, after = window_of_one_tick(CELLS[name])
    assert [part.shape for part in after] == [(1, B, H)] * CELL_TYPES[name].num_states
    assert all(slope.shape[:2] == (1, B) for slope in CELLS[name].slopes(saved, previous, after))


@pytest.mark.parametrize("name", CELL_TYPES)
def test_derivative_equals_finite_differences(name: str) -> None:
    gates_x, gates_h, state = random_tick(CELLS[name])
    assert torch.autograd.gradcheck(lambda *inputs: Tick.apply(CELLS[name], *inputs), (gates_x, gates_h, *state))


@pytest.mark.parametrize("name", CELL_TYPES)
def test_derivative_equals_autograd(name: str) -> None:
    torch.manual_seed(1)
    assert derivatives_agree(CELLS[name])


@pytest.mark.parametrize("name", CELL_TYPES)
def test_comparison_notices_a_wrong_derivative(name: str) -> None:
    """A slope that is off by one in ten thousand, or a gradient that is zero, breaks the agreement."""
    torch.manual_seed(1)
    cell = CELLS[name]
    for wrong in range(len(cell.slopes(*window_of_one_tick(cell)))):

        def slopes(saved, previous, state, wrong=wrong):
            right = cell.slopes(saved, previous, state)
            return tuple(part * (1.0001 if index == wrong else 1) for index, part in enumerate(right))

        assert not derivatives_agree(dataclasses.replace(cell, slopes=slopes)), wrong
    for wrong in range(2):

        def step_backward(grad, slopes, wrong=wrong):
            outputs = list(cell.step_backward(grad, slopes))
            outputs[wrong] = torch.zeros_like(outputs[wrong])
            return tuple(outputs)

        assert not derivatives_agree(dataclasses.replace(cell, step_backward=step_backward)), wrong


def test_rnn_equals_the_textbook_equation() -> None:
    """h_t = tanh(W x_t + U h_{t-1} + b), for one lane."""
    generator = torch.Generator().manual_seed(3)
    weight, recurrent = torch.randn(2, 4, 4, generator=generator)
    x, h, b = torch.randn(3, 4, generator=generator)
    ((after,), _) = CELLS["rnn"].step((weight @ x + b)[None], (recurrent @ h)[None], (h[None],))
    torch.testing.assert_close(after[0], torch.tanh(weight @ x + recurrent @ h + b))


def test_lstm_with_open_forget_gate_and_closed_input_gate_keeps_its_cell_state() -> None:
    """With i = 0 and f = 1, c_t = c_{t-1}."""
    closed, opened = torch.full((1, H), -100.0), torch.full((1, H), 100.0)
    gates = torch.cat((closed, opened, torch.randn(1, H), torch.zeros(1, H)), dim=1)
    c = torch.randn(1, H)
    (h, after), _ = CELLS["lstm"].step(gates, torch.zeros_like(gates), (torch.zeros(1, H), c))
    torch.testing.assert_close(after, c)
    torch.testing.assert_close(h, 0.5 * torch.tanh(c))


def test_gru_with_update_gate_at_one_keeps_its_state() -> None:
    """With z = 1, h_t = h_{t-1}."""
    gates = torch.cat((torch.randn(1, H), torch.full((1, H), 100.0), torch.randn(1, H)), dim=1)
    h = torch.randn(1, H)
    (after,), _ = CELLS["gru"].step(gates, torch.zeros_like(gates), (h,))
    torch.testing.assert_close(after, h)
