"""The compiled output layer and loss equal those of PyTorch in float64, gradients included."""

from __future__ import annotations

import pytest
import torch
from support.environment import INSTRUCTION_SETS
from torch.nn import functional as F

from chargen import native
from chargen.nn.loss import IGNORE_INDEX, cross_entropy, cross_entropy_native, cross_entropy_reference

pytestmark = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")


def problem(
    T: int, B: int, H: int, V: int, masked: bool
) -> tuple[list[torch.Tensor], torch.Tensor | None, torch.Tensor]:
    """Outputs, weight and bias; a mask or None; and targets, a tenth of them ignored."""
    generator = torch.Generator().manual_seed(T + B + H + V)
    inputs = [torch.randn(shape, generator=generator) for shape in ((T, B, H), (V, H), (V,))]
    mask = (torch.rand(B, H, generator=generator) < 0.8) / 0.8 if masked else None
    targets = torch.randint(V, (T, B), generator=generator)
    targets[torch.rand(T, B, generator=generator) < 0.1] = IGNORE_INDEX
    return inputs, mask, targets


def results(run, inputs: list[torch.Tensor], mask: torch.Tensor | None, targets: torch.Tensor) -> list[torch.Tensor]:
    """The loss, and the gradient of a third of it with respect to every input."""
    outputs, weight, bias = leaves = [part.clone().requires_grad_() for part in inputs]
    loss = run(outputs, mask, weight, bias, targets)
    return [loss.detach(), *torch.autograd.grad(loss / 3, leaves)]


def assert_equal(got: list[torch.Tensor], want: list[torch.Tensor]) -> None:
    """Compare float32 with float64: sums of up to some thousand products, relative to the largest."""
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("V", [1, 2, 67, 300])
@pytest.mark.parametrize("H", [1, 7, 100, 257])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (2, 3), (65, 17)])
def test_kernel_equals_the_reference_with_any_number_of_threads(T: int, B: int, H: int, V: int, masked: bool) -> None:
    inputs, mask, targets = problem(T, B, H, V, masked)
    doubled = [part.double() for part in inputs]
    want = results(cross_entropy_reference, doubled, None if mask is None else mask.double(), targets)
    num_threads_before = torch.get_num_threads()
    for name in INSTRUCTION_SETS:
        native.use(name)
        by_threads = []
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            by_threads.append(results(cross_entropy_native, inputs, mask, targets))
            assert_equal(by_threads[-1], want)
        assert all(map(torch.equal, *by_threads)), "the result depends on the number of threads"
    native.use(None)
    torch.set_num_threads(num_threads_before)


@pytest.mark.parametrize("place", range(4))
def test_comparison_notices_a_small_error(place: int) -> None:
    inputs, mask, targets = problem(9, 4, 20, 11, True)
    got = results(cross_entropy_native, inputs, mask, targets)
    want = results(
        cross_entropy_reference, [part.double() for part in inputs], None if mask is None else mask.double(), targets
    )
    got[place] = got[place] * 1.001
    with pytest.raises(AssertionError):
        assert_equal(got, want)


def test_equal_logits_cost_ln_v_per_character() -> None:
    targets = torch.randint(50, (6, 4))
    total = cross_entropy_native(torch.randn(6, 4, 8), None, torch.zeros(50, 8), torch.full((50,), 3.0), targets)
    assert total.item() == pytest.approx(24 * torch.log(torch.tensor(50.0)).item(), rel=1e-6)


def test_extreme_logits_neither_overflow_nor_lose_the_loss(instruction_set: None) -> None:
    logits = torch.tensor([[0.0, 70.0, -70.0], [1e4, 0.0, -1e4], [-5.0, -5.0, -5.0]])
    targets = torch.tensor([[1], [0], [2]])
    eye = torch.eye(3)
    got = cross_entropy_native(logits[:, None], None, eye, torch.zeros(3), targets)
    torch.testing.assert_close(got, F.cross_entropy(logits, targets[:, 0], reduction="sum"))
    unlikely = cross_entropy_native(logits[:1, None], None, eye, torch.zeros(3), torch.tensor([[2]]))
    assert unlikely.item() == pytest.approx(140)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_loss_is_not_finite_if_an_output_that_counts_is_not(bad: float, instruction_set: None) -> None:
    inputs, _, targets = problem(3, 2, 8, 5, False)
    inputs[0][1, 1, 3] = bad
    targets[:] = 1
    assert not torch.isfinite(cross_entropy_native(inputs[0], None, inputs[1], inputs[2], targets))
    targets[1, 1] = IGNORE_INDEX
    assert torch.isfinite(cross_entropy_native(inputs[0], None, inputs[1], inputs[2], targets))


def test_target_outside_the_vocabulary_is_refused() -> None:
    inputs, _, targets = problem(3, 2, 8, 5, False)
    for wrong in (5, -1):
        targets[1, 1] = wrong
        with pytest.raises(IndexError, match="beyond the vocabulary"):
            cross_entropy_native(*inputs[:1], None, *inputs[1:], targets)


@pytest.mark.parametrize(("ticks", "lanes", "features"), [(2, 2, 8), (3, 1, 8), (3, 2, 7)])
def test_shapes_that_do_not_fit_together_are_refused(ticks: int, lanes: int, features: int) -> None:
    inputs, _, _ = problem(3, 2, 8, 5, False)
    with pytest.raises(ValueError, match="do not fit together"):
        cross_entropy_native(
            inputs[0], None, inputs[1][:, :features], inputs[2], torch.zeros(ticks, lanes, dtype=torch.int64)
        )


def test_second_derivative_of_a_window_is_refused() -> None:
    inputs, _, targets = problem(3, 2, 8, 5, False)
    loss = cross_entropy_native(inputs[0].requires_grad_(), None, inputs[1], inputs[2], targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        loss.backward()


def test_float64_stays_float64() -> None:
    inputs, _, targets = problem(3, 2, 8, 5, False)
    doubled = [part.double() for part in inputs]
    assert cross_entropy(doubled[0], None, doubled[1], doubled[2], targets).dtype == torch.float64
