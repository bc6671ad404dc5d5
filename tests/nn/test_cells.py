"""Each cell's derivative is the derivative of its equation."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from chargen.nn.cells import CELLS, Cell

B, H = 3, 5


def random_tick(cell: Cell) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.double, generator=generator).requires_grad_()

    return draw(B, cell.num_gates * H), draw(B, cell.num_gates * H), tuple(draw(B, H) for _ in range(cell.num_states))


def derivatives_agree(cell: Cell) -> bool:
    """Whether `step_backward` is autograd's derivative of `step`, for a random gradient of every state."""
    gates_x, gates_h, state = random_tick(cell)
    after, saved = cell.step(gates_x, gates_h, state)
    grads = tuple(torch.randn_like(part) for part in after)
    expected = torch.autograd.grad(after, (gates_x, gates_h, *state), grads, allow_unused=True)
    window = [tuple(part.detach().unsqueeze(0) for part in parts) for parts in (saved, state, after)]
    slopes = tuple(slope[0] for slope in cell.slopes(*window))
    grad_x, grad_h, direct, others = cell.step_backward(grads, slopes)
    return all(
        torch.allclose(got, want, rtol=1e-10, atol=1e-14) if got is not None and want is not None else got is want
        for got, want in zip((grad_x, grad_h, direct, *others), expected, strict=True)
    )


@pytest.mark.parametrize("name", CELLS)
def test_the_derivative_is_autograds(name: str) -> None:
    torch.manual_seed(1)
    assert derivatives_agree(CELLS[name])


@pytest.mark.parametrize("name", CELLS)
def test_a_wrong_derivative_is_noticed(name: str) -> None:
    """Every slope, changed by one in ten thousand, and every output left out, breaks the agreement."""
    torch.manual_seed(1)
    cell = CELLS[name]
    num_slopes = {"rnn": 1, "lstm": 4, "gru": 3}[name]
    for wrong in range(num_slopes):

        def slopes(saved, previous, state, wrong=wrong):
            right = cell.slopes(saved, previous, state)
            return tuple(part * (1.0001 if place == wrong else 1) for place, part in enumerate(right))

        assert not derivatives_agree(dataclasses.replace(cell, slopes=slopes)), wrong
    for wrong in range(2):

        def step_backward(grad, slopes, wrong=wrong):
            outputs = list(cell.step_backward(grad, slopes))
            outputs[wrong] = torch.zeros_like(outputs[wrong])
            return tuple(outputs)

        assert not derivatives_agree(dataclasses.replace(cell, step_backward=step_backward)), wrong


def test_the_textbook_rnn() -> None:
    """h_t = tanh(W x_t + U h_{t-1} + b), spelled out for one lane."""
    generator = torch.Generator().manual_seed(3)
    weight, recurrent = torch.randn(2, 4, 4, generator=generator)
    x, h, b = torch.randn(3, 4, generator=generator)
    ((after,), _) = CELLS["rnn"].step((weight @ x + b)[None], (recurrent @ h)[None], (h[None],))
    torch.testing.assert_close(after[0], torch.tanh(weight @ x + recurrent @ h + b))


def test_a_lstm_with_open_forget_gate_and_closed_input_remembers() -> None:
    """i = 0 and f = 1 leave the cell state as it was."""
    shut, wide = torch.full((1, H), -100.0), torch.full((1, H), 100.0)
    gates = torch.cat((shut, wide, torch.randn(1, H), torch.zeros(1, H)), dim=1)
    c = torch.randn(1, H)
    (h, after), _ = CELLS["lstm"].step(gates, torch.zeros_like(gates), (torch.zeros(1, H), c))
    torch.testing.assert_close(after, c)
    torch.testing.assert_close(h, 0.5 * torch.tanh(c))


def test_a_gru_with_closed_update_gate_copies_its_state() -> None:
    """z = 1 leaves the hidden state as it was."""
    gates = torch.cat((torch.randn(1, H), torch.full((1, H), 100.0), torch.randn(1, H)), dim=1)
    h = torch.randn(1, H)
    (after,), _ = CELLS["gru"].step(gates, torch.zeros_like(gates), (h,))
    torch.testing.assert_close(after, h)
