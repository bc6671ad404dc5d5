"""The compiled matrix product equals that of PyTorch in float64, gradients included, on every instruction set."""

from __future__ import annotations

import pytest
import torch
from support.environment import INSTRUCTION_SETS
from torch.nn import functional as F

from chargen import native
from chargen.nn.linear import linear, linear_native, matmul_transposed, prepack_linear

needs_kernels = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")


def results(run, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The product, and the gradient of every input."""
    leaves = [part.clone().requires_grad_() for part in inputs]
    y = run(*leaves)
    return [y.detach(), *torch.autograd.grad(y.sin().sum(), leaves)]


@needs_kernels
@pytest.mark.parametrize("M", [1, 7, 64, 100, 257])
@pytest.mark.parametrize("K", [1, 7, 64, 257])
@pytest.mark.parametrize("shape", [(1,), (2, 3), (65, 17)])
def test_kernel_equals_torch_with_any_number_of_threads(shape: tuple[int, ...], K: int, M: int) -> None:
    generator = torch.Generator().manual_seed(K * M)
    inputs = [torch.randn(s, generator=generator) for s in ((*shape, K), (M, K), (M,))]
    want = results(F.linear, [part.double() for part in inputs])
    num_threads_before = torch.get_num_threads()
    for name in INSTRUCTION_SETS:
        native.use(name)
        by_threads = []
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            by_threads.append(results(linear_native, inputs))
            for one, other in zip(by_threads[-1], want, strict=True):
                # Sums of up to a thousand products in float32, relative to the largest.
                torch.testing.assert_close(
                    one, other.float(), rtol=1e-4, atol=2e-5 * max(1.0, float(other.abs().max()))
                )
        assert all(map(torch.equal, *by_threads)), "the result depends on the number of threads"
    native.use(None)
    torch.set_num_threads(num_threads_before)


@needs_kernels
def test_kernel_accepts_any_memory_layout() -> None:
    x, weight, bias = torch.randn(5, 3, 9).transpose(0, 1), torch.randn(9, 4).t(), torch.randn(8)[::2]
    torch.testing.assert_close(linear_native(x, weight, bias), F.linear(x, weight, bias))


def test_float64_stays_float64() -> None:
    assert linear(*(torch.ones(s, dtype=torch.double) for s in ((2, 3), (4, 3), (4,)))).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("R", "K", "M"), [(1, 3, 5), (16, 200, 300), (33, 257, 1000)])
def test_fallback_products_equal_torch(R: int, K: int, M: int, dtype: torch.dtype) -> None:
    """Small matrices, and large ones for which oneDNN is called; also transposed in memory."""
    x, weight, bias = (torch.randn(s, dtype=torch.double) for s in ((R, K), (M, K), (M,)))
    want = F.linear(x, weight, bias)
    x_given, weight_given, bias_given = (part.to(dtype) for part in (x, weight, bias))
    tolerance = dict(rtol=1e-4, atol=1e-4) if dtype == torch.float32 else {}  # sums of up to 257 products
    torch.testing.assert_close(prepack_linear(weight_given, bias_given, R)(x_given), want.to(dtype), **tolerance)
    weight_columns, x_columns = (part.t().contiguous().t() for part in (weight_given, x_given))
    without_bias = (want - bias).to(dtype)
    torch.testing.assert_close(prepack_linear(weight_columns, None, R)(x_given), without_bias, **tolerance)
    torch.testing.assert_close(matmul_transposed(x_given, weight_columns), without_bias, **tolerance)
    torch.testing.assert_close(matmul_transposed(x_columns, weight_given), without_bias, **tolerance)
