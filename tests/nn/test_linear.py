"""The compiled product equals torch's in float64, gradients included, on every instruction set of this machine."""

from __future__ import annotations

import pytest
import torch
from conftest import INSTRUCTION_SETS
from torch.nn import functional as F

from chargen import native
from chargen.nn.linear import linear, linear_native, packed, product

compiled = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")


def outcome(way, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    leaves = [part.clone().requires_grad_() for part in inputs]
    y = way(*leaves)
    return [y.detach(), *torch.autograd.grad(y.sin().sum(), leaves)]


@compiled
@pytest.mark.parametrize("M", [1, 7, 64, 100, 257])
@pytest.mark.parametrize("K", [1, 7, 64, 257])
@pytest.mark.parametrize("shape", [(1,), (2, 3), (65, 17)])
def test_equals_torch(shape: tuple[int, ...], K: int, M: int) -> None:
    generator = torch.Generator().manual_seed(K * M)
    inputs = [torch.randn(s, generator=generator) for s in ((*shape, K), (M, K), (M,))]
    want = outcome(F.linear, [part.double() for part in inputs])
    before = torch.get_num_threads()
    for name in INSTRUCTION_SETS:
        native.use(name)
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(outcome(linear_native, inputs))
            for one, other in zip(results[-1], want, strict=True):
                # Sums of up to a thousand products in float32, relative to the largest.
                torch.testing.assert_close(
                    one, other.float(), rtol=1e-4, atol=2e-5 * max(1.0, float(other.abs().max()))
                )
        assert all(map(torch.equal, *results)), "the number of threads has changed a bit"
    native.use(None)
    torch.set_num_threads(before)


@compiled
def test_inputs_of_any_layout() -> None:
    x, weight, bias = torch.randn(5, 3, 9).transpose(0, 1), torch.randn(9, 4).t(), torch.randn(8)[::2]
    torch.testing.assert_close(linear_native(x, weight, bias), F.linear(x, weight, bias))


def test_float64_takes_torchs() -> None:
    assert linear(*(torch.ones(s, dtype=torch.double) for s in ((2, 3), (4, 3), (4,)))).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("R", "K", "M"), [(1, 3, 5), (16, 200, 300), (33, 257, 1000)])
def test_without_a_compiler(R: int, K: int, M: int, dtype: torch.dtype) -> None:
    """Small matrices and large ones, which another library multiplies; transposed ones too."""
    x, weight, bias = (torch.randn(s, dtype=torch.double) for s in ((R, K), (M, K), (M,)))
    want = F.linear(x, weight, bias)
    given = [part.to(dtype) for part in (x, weight, bias)]
    tolerance = dict(rtol=1e-4, atol=1e-4) if dtype == torch.float32 else {}  # sums of up to 257 products
    torch.testing.assert_close(packed(given[1], given[2], R)(given[0]), want.to(dtype), **tolerance)
    crooked = given[1].t().contiguous().t()
    torch.testing.assert_close(packed(crooked, None, R)(given[0]), (want - bias).to(dtype), **tolerance)
    torch.testing.assert_close(product(given[0], crooked), (want - bias).to(dtype), **tolerance)
    transposed = given[0].t().contiguous().t()
    torch.testing.assert_close(product(transposed, given[1]), (want - bias).to(dtype), **tolerance)
