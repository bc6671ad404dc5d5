"""Products in bf16: the kernels equal a twin in float64 that rounds its factors at the same places.

A kernel computes in float32. A number that float32 and float64 round to different bf16 numbers differs by as much as
rounding itself, and such differences add up over the ticks. The tests therefore compare the distance between the
kernel and its twin with the distance between the twin and the same computation without rounding. From the first such
number on, every sum of the next tick differs a little, and so do more of its roundings: the longer the window, the
larger the share that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.environment import NATIVE_CELLS
from torch import Tensor
from torch.nn import functional as F

from chargen import native
from chargen.nn.cells import CELLS
from chargen.nn.linear import linear_native, matmul_transposed, prepack_linear
from chargen.nn.loss import IGNORE_INDEX, cross_entropy_native, cross_entropy_reference
from chargen.nn.precision import bf16_products, linear_reference, rounded, uses_bf16
from chargen.nn.unroll import TableLookup, Unroll, unroll_by_hand, unroll_native

needs_kernels = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
NUM_ROWS = 11

Results = list[Tensor]


def distance(one: Tensor, other: Tensor) -> float:
    """The root of the mean square of the difference."""
    return float((one.double() - other.double()).pow(2).mean().sqrt())


def assert_rounds_like(twin: Results, exact: Results, got: Results, share: float) -> None:
    """The distance of each result from its twin is at most this share of what rounding changes."""
    for place, (one, other, unrounded) in enumerate(zip(got, twin, exact, strict=True)):
        change = distance(other, unrounded)
        assert distance(one, other) <= share * change + 1e-5 * float(other.abs().max()), place


# ----------------------------------------------------------------------------- rounding


def test_rounding_keeps_eight_bits_and_goes_from_the_middle_to_even() -> None:
    numbers = torch.tensor([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.0, 0.0, 1e38, float("inf")])
    want = torch.tensor([1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -3.0, 0.0, 1e38, float("inf")])
    want[6] = float(torch.tensor(1e38).bfloat16())
    assert torch.equal(rounded(numbers), want)
    assert rounded(torch.tensor([1.0], dtype=torch.float64)).dtype == torch.float64


@needs_kernels
def test_the_kernel_rounds_every_kind_of_number_like_torch(instruction_set: str) -> None:
    """The product with 1 returns the rounded number; x reads pairs along a row, W pairs along its columns."""
    bits = torch.randint(-(2**31), 2**31, (4096,), generator=torch.Generator().manual_seed(1)).to(torch.int32)
    special = torch.tensor([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0x00000001], dtype=torch.int32)
    numbers = torch.cat([bits, special]).view(torch.float32)
    numbers = numbers[numbers.abs().gt(2e-38) & numbers.isfinite()]  # processors may treat smaller ones as zero
    with bf16_products():
        by_row = linear_native(numbers[:, None], torch.ones(1, 1), torch.zeros(1))[:, 0]
        by_column = linear_native(torch.ones(1, 1), numbers[:, None], torch.zeros(len(numbers)))[0]
    assert torch.equal(by_row, rounded(numbers))
    assert torch.equal(by_column, rounded(numbers))


def test_autocast_of_the_cpu_to_bf16_switches_it_on() -> None:
    assert not uses_bf16()
    with torch.autocast("cpu", torch.float16):
        assert not uses_bf16()
    with bf16_products():
        assert uses_bf16()
        with bf16_products(enabled=False):
            assert not uses_bf16()


# ----------------------------------------------------------------------------- products


def product_results(run: Callable[..., Tensor], inputs: Results, grad: Tensor) -> Results:
    leaves = [part.clone().requires_grad_() for part in inputs]
    y = run(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad.to(y.dtype))]


@needs_kernels
@pytest.mark.parametrize("M", [1, 7, 64, 257])
@pytest.mark.parametrize("K", [1, 7, 64, 257])
@pytest.mark.parametrize("num_rows", [1, 6, 1105])
def test_a_product_equals_its_twin(num_rows: int, K: int, M: int, instruction_set: str) -> None:
    """The factors are given, so float32 and float64 round them alike, and only the sums differ."""
    generator = torch.Generator().manual_seed(K * M)
    shapes = ((num_rows, K), (M, K), (M,), (num_rows, M))
    *inputs, grad = (torch.randn(shape, generator=generator) for shape in shapes)
    doubled = [part.double() for part in inputs]
    exact = product_results(F.linear, doubled, grad)
    with bf16_products():
        twin = product_results(linear_reference, doubled, grad)
        got = product_results(linear_native, inputs, grad)
    assert_rounds_like(twin, exact, got, share=0.002)


def test_the_twin_of_a_product_rounds_both_factors() -> None:
    x, weight, bias, grad = (torch.randn(shape, dtype=torch.float64) for shape in ((5, 3), (4, 3), (4,), (5, 4)))
    with bf16_products():
        y, dx, dW, db = product_results(linear_reference, [x, weight, bias], grad)
        torch.testing.assert_close(prepack_linear(weight, bias, 5)(x), y)
        torch.testing.assert_close(matmul_transposed(x, weight), y - bias)
    torch.testing.assert_close(y, rounded(x) @ rounded(weight).t() + bias)
    torch.testing.assert_close(dx, rounded(grad) @ rounded(weight))
    torch.testing.assert_close(dW, rounded(grad).t() @ rounded(x))
    torch.testing.assert_close(db, grad.sum(0))


# ----------------------------------------------------------------------------- the unroll


def unroll_results(run: Unroll, name: str, inputs: Results, ids: Tensor | None, grads: Results) -> Results:
    leaves = [part.detach().clone().requires_grad_() for part in inputs]
    first, weight, bias, *state = leaves
    outputs, last = run(CELLS[name], first if ids is None else TableLookup(first, ids), weight, bias, tuple(state))
    results = [outputs, *last]
    loss = sum((part * grad.to(part.dtype)).sum() for part, grad in zip(results, grads, strict=True))
    return [*(part.detach() for part in results), *torch.autograd.grad(loss, leaves)]


def unroll_problem(name: str, B: int, H: int, T: int, looked_up: bool) -> tuple[Results, Tensor | None, Results]:
    generator = torch.Generator().manual_seed(B * 10_000 + H * 100 + T)
    rows, states = CELLS[name].num_gates * H, [(B, H)] * CELLS[name].num_states
    shapes = [(NUM_ROWS, rows) if looked_up else (T, B, rows), (rows, H), (rows,), *states]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    inputs[1] /= 2 * H**0.5  # a contraction, so that differences die away
    grads = [torch.randn(shape, generator=generator) for shape in [(T, B, H), *states]]
    return inputs, torch.randint(NUM_ROWS, (T, B), generator=generator) if looked_up else None, grads


@needs_kernels
@pytest.mark.parametrize("looked_up", [False, True], ids=["rows", "lookup"])
@pytest.mark.parametrize(
    ("T", "share"),
    [(1, 0.05), (2, 0.1), (9, 0.4), (65, 0.7)],
)
@pytest.mark.parametrize("H", [1, 7, 100, 257])
@pytest.mark.parametrize("name", NATIVE_CELLS)
def test_the_unroll_equals_its_twin(
    name: str, H: int, T: int, share: float, looked_up: bool, instruction_set: str
) -> None:
    for B in (1, 3, 17):
        inputs, ids, grads = unroll_problem(name, B, H, T, looked_up)
        doubled = [part.double() for part in inputs]
        exact = unroll_results(unroll_by_hand, name, doubled, ids, grads)
        with bf16_products():
            twin = unroll_results(unroll_by_hand, name, doubled, ids, grads)
            got = unroll_results(unroll_native, name, inputs, ids, grads)
        assert_rounds_like(twin, exact, got, share)


@needs_kernels
@pytest.mark.parametrize("name", NATIVE_CELLS)
def test_the_float32_kernel_fails_the_comparison(name: str) -> None:
    """The comparison tells a kernel that rounds from one that does not."""
    inputs, ids, grads = unroll_problem(name, 17, 100, 9, looked_up=True)
    doubled = [part.double() for part in inputs]
    exact = unroll_results(unroll_by_hand, name, doubled, ids, grads)
    with bf16_products():
        twin = unroll_results(unroll_by_hand, name, doubled, ids, grads)
    with pytest.raises(AssertionError):
        assert_rounds_like(twin, exact, unroll_results(unroll_native, name, inputs, ids, grads), 0.8)


@needs_kernels
@pytest.mark.parametrize("B", [2, 17])  # threads divide the units of few lanes
@pytest.mark.parametrize("name", NATIVE_CELLS)
def test_the_number_of_threads_changes_no_bit(name: str, B: int, instruction_set: str) -> None:
    inputs, ids, grads = unroll_problem(name, B, 300, 33, looked_up=True)
    before, results = torch.get_num_threads(), []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        with bf16_products():
            results.append(unroll_results(unroll_native, name, inputs, ids, grads))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@needs_kernels
@pytest.mark.parametrize("name", NATIVE_CELLS)
def test_values_without_gradients_are_the_same(name: str, instruction_set: str) -> None:
    inputs, ids, grads = unroll_problem(name, 3, 20, 9, looked_up=True)
    first, weight, bias, *state = inputs
    with bf16_products():
        want = unroll_results(unroll_native, name, inputs, ids, grads)
        outputs, last = unroll_native(CELLS[name], TableLookup(first, ids), weight, bias, tuple(state))
    assert all(map(torch.equal, (outputs, *last), want))


# ----------------------------------------------------------------------------- the output layer


@needs_kernels
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("V", [1, 2, 67, 300])
@pytest.mark.parametrize(("T", "B", "H"), [(1, 1, 1), (2, 3, 7), (65, 17, 100)])
def test_the_loss_equals_its_twin(T: int, B: int, H: int, V: int, masked: bool, instruction_set: str) -> None:
    generator = torch.Generator().manual_seed(T + B + H + V)
    inputs = [torch.randn(shape, generator=generator) for shape in ((T, B, H), (V, H), (V,))]
    mask = (torch.rand(B, H, generator=generator) < 0.8) / 0.8 if masked else None
    targets = torch.randint(V, (T, B), generator=generator)
    targets[torch.rand(T, B, generator=generator) < 0.1] = IGNORE_INDEX

    def results(run: Callable[..., Tensor], dtype: torch.dtype) -> Results:
        outputs, weight, bias = leaves = [part.to(dtype).requires_grad_() for part in inputs]
        loss = run(outputs, None if mask is None else mask.to(dtype), weight, bias, targets)
        return [loss.detach(), *torch.autograd.grad(loss / 3, leaves)]

    exact = results(cross_entropy_reference, torch.float64)
    with bf16_products():
        twin = results(cross_entropy_reference, torch.float64)
        got = results(cross_entropy_native, torch.float32)
    assert_rounds_like(twin, exact, got, share=0.3)
