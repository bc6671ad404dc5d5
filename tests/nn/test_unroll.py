"""The unroll with a derivative written by hand equals the reference and finite differences."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from chargen.cell_types import CELL_TYPES, CellType
from chargen.nn.cells import CELLS, Cell
from chargen.nn.unroll import TableLookup, unroll, unroll_by_hand, unroll_reference


def problem(cell: Cell, T: int = 6, B: int = 3, H: int = 4) -> tuple[torch.Tensor, ...]:
    """Random gates_x, weight_hh, bias_hh and state in float64. All of them require a gradient."""
    generator = torch.Generator().manual_seed(T * 100 + B * 10 + H)
    rows = cell.num_gates * H
    shapes = [(T, B, rows), (rows, H), (rows,), *[(B, H)] * cell.num_states]
    return tuple(torch.randn(*s, dtype=torch.double, generator=generator).requires_grad_() for s in shapes)


def results(run, cell: Cell, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """The outputs, the final state, and the gradient of every input under a loss that uses all results."""
    gates_x, weight, bias, *state = inputs
    outputs, final = run(cell, gates_x, weight, bias, tuple(state))
    loss = outputs.sin().sum() + sum((k + 2) * part.cos().sum() for k, part in enumerate(final))
    return [outputs, *final, *torch.autograd.grad(loss, inputs)]


def mgu_step(gates_x, gates_h, state):
    """h_t = (1 - f) h_{t-1} + f n, with f = sigmoid(x_f + h_f) and n = tanh(x_n + f h_n)."""
    (h,), (x_f, x_n), (h_f, h_n) = state, gates_x.chunk(2, dim=-1), gates_h.chunk(2, dim=-1)
    f = torch.sigmoid(x_f + h_f)
    n = torch.tanh(x_n + f * h_n)
    return ((1 - f) * h + f * n,), (f, n, h_n)


def mgu_slopes(saved, previous, state):
    (f, n, h_n), (h,) = saved, previous
    dn = f * (1 - n * n)
    df = (n - h + dn * h_n) * f * (1 - f)
    return torch.stack((df, dn), dim=-2), torch.stack((df, dn * f), dim=-2), 1 - f


def mgu_step_backward(grad, slopes):
    (dh,), (slopes_x, slopes_h, direct) = grad, slopes
    grad_x, grad_h = ((dh.unsqueeze(-2) * part).flatten(-2) for part in (slopes_x, slopes_h))
    return grad_x, grad_h, dh * direct, ()


def test_runs_a_cell_that_is_not_in_the_table() -> None:
    """The minimal gated unit of Zhou et al. 2016 with the gate after the product; `unroll` has no kernel for it."""
    cell = Cell(CellType("mgu", num_gates=2, num_states=1), mgu_step, mgu_slopes, mgu_step_backward)
    inputs = problem(cell)
    want = results(unroll_reference, cell, inputs)
    for got, expected in zip(results(unroll, cell, inputs), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    in_float32 = tuple(part.detach().float().requires_grad_() for part in inputs)
    for got, expected in zip(results(unroll, cell, in_float32), want, strict=True):
        torch.testing.assert_close(got, expected.float(), rtol=1e-4, atol=1e-5)  # float32 rounding


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 7), (17, 1, 5), (5, 17, 2)])
@pytest.mark.parametrize("name", CELL_TYPES)
def test_equals_the_reference(name: str, shape: tuple[int, int, int]) -> None:
    cell = CELLS[name]
    inputs = problem(cell, *shape)
    for got, want in zip(results(unroll, cell, inputs), results(unroll_reference, cell, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CELL_TYPES)
def test_gradients_equal_finite_differences(name: str) -> None:
    cell = CELLS[name]

    def run(gates_x, weight, bias, *state):
        outputs, final = unroll(cell, gates_x, weight, bias, state)
        return outputs, *final

    assert torch.autograd.gradcheck(run, problem(cell, 3, 2, 3))


@pytest.mark.parametrize("name", CELL_TYPES)
def test_comparison_notices_a_wrong_derivative(name: str) -> None:
    cell = CELLS[name]
    wrong = dataclasses.replace(cell, slopes=lambda *window: tuple(1.001 * s for s in cell.slopes(*window)))
    inputs = problem(cell)
    expected, got_wrong = results(unroll_reference, cell, inputs), results(unroll, wrong, inputs)
    num_values = 1 + cell.num_states
    for got, want in zip(got_wrong[:num_values], expected[:num_values], strict=True):
        torch.testing.assert_close(got, want)  # the equation is unchanged
    for got, want in zip(got_wrong[num_values:], expected[num_values:], strict=True):
        assert not torch.allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("name", CELL_TYPES)
@pytest.mark.parametrize("cut", [1, 4, 8])
def test_two_windows_equal_one(name: str, cut: int) -> None:
    """With the state passed from the first to the second, gradients included."""
    cell = CELLS[name]
    inputs = problem(cell, T=9)

    def in_two(cell, gates_x, weight, bias, state):
        first, middle = unroll(cell, gates_x[:cut], weight, bias, state)
        second, final = unroll(cell, gates_x[cut:], weight, bias, middle)
        return torch.cat((first, second)), final

    for got, want in zip(results(in_two, cell, inputs), results(unroll, cell, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CELL_TYPES)
def test_lanes_are_independent(name: str) -> None:
    """Each lane alone gives what it gives beside the others."""
    cell = CELLS[name]
    gates_x, weight, bias, *state = problem(cell)
    together, _ = unroll(cell, gates_x, weight, bias, tuple(state))
    alone = [
        unroll(cell, gates_x[:, b : b + 1], weight, bias, tuple(part[b : b + 1] for part in state))[0]
        for b in range(gates_x.shape[1])
    ]
    torch.testing.assert_close(torch.cat(alone, dim=1), together, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", CELL_TYPES)
@pytest.mark.parametrize("run", [unroll_reference, unroll_by_hand, unroll])
def test_table_lookup_equals_its_rows(run, name: str) -> None:
    """In float64; `tests/native` compares float32."""
    cell = CELLS[name]
    gates_x, weight, bias, *state = problem(cell)
    table = gates_x.detach().flatten(0, 1)
    ids = torch.arange(len(table)).flip(0).view(gates_x.shape[:2])
    from_table, _ = run(cell, TableLookup(table, ids), weight, bias, tuple(state))
    torch.testing.assert_close(from_table, run(cell, table[ids], weight, bias, tuple(state))[0], rtol=0, atol=0)


def test_caller_may_modify_the_results_before_the_backward_pass() -> None:
    cell = CELLS["lstm"]
    inputs = problem(cell)
    gates_x, weight, bias, *state = inputs
    outputs, (h, c) = unroll(cell, gates_x, weight, bias, tuple(state))
    loss = outputs.sum() + c.sum()
    with torch.no_grad():
        outputs.zero_()
        h.zero_()
        c.zero_()
    gradients = torch.autograd.grad(loss, inputs)
    outputs, (_, c) = unroll_reference(cell, gates_x, weight, bias, tuple(state))
    for got, want in zip(gradients, torch.autograd.grad(outputs.sum() + c.sum(), inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
