"""The hand-differentiated unroll equals the reference, torch.nn, and itself cut in two."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import CELLS as NAMES

from chargen.nn.cells import CELLS, Cell
from chargen.nn.unroll import unroll, unroll_reference


def problem(cell: Cell, T: int = 6, B: int = 3, H: int = 4) -> tuple[torch.Tensor, ...]:
    """gates_x, weight_hh, bias_hh and the state, in float64, all asking for a gradient."""
    generator = torch.Generator().manual_seed(T * 100 + B * 10 + H)
    rows = cell.num_gates * H
    shapes = [(T, B, rows), (rows, H), (rows,), *[(B, H)] * cell.num_states]
    return tuple(torch.randn(*s, dtype=torch.double, generator=generator).requires_grad_() for s in shapes)


def gradients(run, cell: Cell, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """Outputs, last state, and the gradient of every input under a loss that uses all of them."""
    gates_x, weight, bias, *state = inputs
    outputs, last = run(cell, gates_x, weight, bias, tuple(state))
    loss = outputs.sin().sum() + sum((k + 2) * part.cos().sum() for k, part in enumerate(last))
    return [outputs, *last, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 7), (17, 1, 5), (5, 17, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name: str, shape: tuple[int, int, int]) -> None:
    cell = CELLS[name]
    inputs = problem(cell, *shape)
    for got, want in zip(gradients(unroll, cell, inputs), gradients(unroll_reference, cell, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name: str) -> None:
    """Finite differences, which know no derivative at all."""
    cell = CELLS[name]

    def run(gates_x, weight, bias, *state):
        outputs, last = unroll(cell, gates_x, weight, bias, state)
        return outputs, *last

    assert torch.autograd.gradcheck(run, problem(cell, 3, 2, 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_derivative_is_noticed(name: str) -> None:
    cell = CELLS[name]
    wrong = dataclasses.replace(cell, slopes=lambda *window: tuple(1.001 * s for s in cell.slopes(*window)))
    inputs = problem(cell)
    right, bent = gradients(unroll_reference, cell, inputs), gradients(unroll, wrong, inputs)
    num_values = 1 + cell.num_states
    for got, want in zip(bent[:num_values], right[:num_values], strict=True):
        torch.testing.assert_close(got, want)  # the equation is untouched
    for got, want in zip(bent[num_values:], right[num_values:], strict=True):
        assert not torch.allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_two_windows_equal_one(name: str, cut: int) -> None:
    """State passed on, gradients included: the cut leaves no trace."""
    cell = CELLS[name]
    inputs = problem(cell, T=9)

    def in_two(cell, gates_x, weight, bias, state):
        first, middle = unroll(cell, gates_x[:cut], weight, bias, state)
        second, last = unroll(cell, gates_x[cut:], weight, bias, middle)
        return torch.cat((first, second)), last

    for got, want in zip(gradients(in_two, cell, inputs), gradients(unroll, cell, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_lanes_do_not_see_each_other(name: str) -> None:
    """Lane by lane gives what all lanes together give."""
    cell = CELLS[name]
    gates_x, weight, bias, *state = problem(cell)
    together, _ = unroll(cell, gates_x, weight, bias, tuple(state))
    alone = [
        unroll(cell, gates_x[:, b : b + 1], weight, bias, tuple(part[b : b + 1] for part in state))[0]
        for b in range(gates_x.shape[1])
    ]
    torch.testing.assert_close(torch.cat(alone, dim=1), together, rtol=1e-12, atol=1e-12)


def test_results_may_be_written_to() -> None:
    """What the caller does to the outputs after the backward pass has its copies is its own affair."""
    cell = CELLS["lstm"]
    inputs = problem(cell)
    gates_x, weight, bias, *state = inputs
    outputs, (h, c) = unroll(cell, gates_x, weight, bias, tuple(state))
    loss = outputs.sum() + c.sum()
    with torch.no_grad():
        outputs.zero_()
        h.zero_()
        c.zero_()
    spoiled = torch.autograd.grad(loss, inputs)
    outputs, (_, c) = unroll_reference(cell, gates_x, weight, bias, tuple(state))
    for got, want in zip(spoiled, torch.autograd.grad(outputs.sum() + c.sum(), inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
