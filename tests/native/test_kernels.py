"""The unroll kernels equal the definition, in float64 and by autograd, on every instruction set of this processor."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.environment import INSTRUCTION_SETS
from support.environment import NATIVE_CELLS as NAMES
from support.model_configs import small_config
from support.torch_twins import torch_twin

from chargen import native
from chargen.cell_types import CellType
from chargen.nn.cells import CELLS, Cell
from chargen.nn.model import StackedRNN
from chargen.nn.unroll import GatesX, TableLookup, unroll, unroll_by_hand, unroll_native, unroll_reference

pytestmark = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
NUM_ROWS = 11


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


Inputs = list[torch.Tensor]
"""gates_x (T, B, G*H) or a table (NUM_ROWS, G*H), weight_hh, bias_hh and the state."""


def problem(cell: Cell, B: int, H: int, T: int, looked_up: bool) -> tuple[Inputs, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(B * 10_000 + H * 100 + T)
    rows = cell.num_gates * H
    shapes = [(NUM_ROWS, rows) if looked_up else (T, B, rows), (rows, H), (rows,), *[(B, H)] * cell.num_states]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    inputs[1] /= H**0.5
    return inputs, torch.randint(NUM_ROWS, (T, B), generator=generator) if looked_up else None


def outcome(run, cell: Cell, inputs: Inputs, ids: torch.Tensor | None) -> list[torch.Tensor]:
    """Return outputs, last state, and the gradient of every input under a loss that uses all results."""
    leaves = [part.detach().clone().requires_grad_() for part in inputs]
    first, weight, bias, *state = leaves
    outputs, last = run(cell, first if ids is None else TableLookup(first, ids), weight, bias, tuple(state))
    loss = outputs.sin().sum() + sum((k + 2) * part.cos().sum() for k, part in enumerate(last))
    return [outputs.detach(), *(part.detach() for part in last), *torch.autograd.grad(loss, leaves)]


def assert_equal(got: list[torch.Tensor], want: list[torch.Tensor]) -> None:
    """Sums of up to T*B products, added in different orders, differ by about 1e-5 of the largest one."""
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=2e-5 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("looked_up", [False, True], ids=["rows", "lookup"])
@pytest.mark.parametrize("T", [1, 2, 65])
@pytest.mark.parametrize("H", [1, 7, 100, 257])
@pytest.mark.parametrize("name", NAMES)
def test_results_and_gradients_equal_the_reference(name: str, H: int, T: int, looked_up: bool, threads: None) -> None:
    """Sizes that are no multiple of a vector; one thread and two. The reference uses float64 and autograd."""
    cell = CELLS[name]
    for B in (1, 3, 17):
        inputs, ids = problem(cell, B, H, T, looked_up)
        want = outcome(unroll_reference, cell, [part.double() for part in inputs], ids)
        for instruction_set in INSTRUCTION_SETS:
            native.use(instruction_set)
            try:
                alone, together = [], []
                for num_threads, results in ((1, alone), (2, together)):
                    torch.set_num_threads(num_threads)
                    results += outcome(unroll_native, cell, inputs, ids)
                    assert_equal(results, want)
                for one, other in zip(alone, together, strict=True):
                    assert torch.equal(one, other), "the number of threads has changed the result"
            finally:
                native.use(None)


@pytest.mark.parametrize("place", range(6))
def test_an_error_of_a_thousandth_is_noticed(place: int) -> None:
    """The tolerance of `assert_equal` is tight enough for each result."""
    cell = CELLS["gru"]
    inputs, ids = problem(cell, 3, 20, 9, looked_up=True)
    got = outcome(unroll_native, cell, inputs, ids)
    want = outcome(unroll_reference, cell, [part.double() for part in inputs], ids)
    assert_equal(got, want)
    got[place] = got[place] * 1.001
    with pytest.raises(AssertionError):
        assert_equal(got, want)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_stacked_layers_equal_torch_nn(name: str, num_layers: int, instruction_set: str) -> None:
    """In float32, with the same weights, gradients included."""
    torch.manual_seed(5)
    ours = StackedRNN(9, small_config(name, hidden_size=33, num_layers=num_layers), unroll=unroll_native)
    theirs = torch_twin(name, 9, 33, num_layers)
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(20, 4, 9)
    outputs, expected = ours(inputs)[0], theirs(inputs)[0]
    outputs.sin().sum().backward()
    expected.sin().sum().backward()
    assert_equal([outputs.detach()], [expected.detach()])
    for key, parameter in theirs.named_parameters():
        assert_equal([ours.get_parameter(key).grad], [parameter.grad])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_propagate_like_in_the_reference(name: str, bad: float, instruction_set: str) -> None:
    """In the input gates and in the state."""
    cell = CELLS[name]
    for where in (0, 3):
        inputs, _ = problem(cell, 3, 20, 5, looked_up=False)
        inputs[where][(2, 1, 4) if where == 0 else (1, 4)] = bad
        with torch.no_grad():
            got, _ = unroll_native(cell, inputs[0], inputs[1], inputs[2], tuple(inputs[3:]))
            want, _ = unroll_reference(cell, inputs[0], inputs[1], inputs[2], tuple(inputs[3:]))
        assert torch.equal(got.isnan(), want.isnan())
        torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-5, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_saturated_and_tiny_gates_keep_values_and_signs(name: str, instruction_set: str) -> None:
    values = torch.tensor([-1e30, -200.0, -88.5, -20.0, -1e-3, -1e-20, -0.0, 0.0, 1e-20, 1e-3, 20.0, 88.5, 200.0, 1e30])
    cell = CELLS[name]
    gates_x = values.repeat(cell.num_gates)[None, None]
    zeros = torch.zeros(len(values) * cell.num_gates, len(values))
    state = (torch.full((1, len(values)), 0.5),) * cell.num_states
    got, _ = unroll_native(cell, gates_x, zeros, zeros[:, 0], state)
    want, _ = unroll_reference(
        cell, gates_x.double(), zeros.double(), zeros[:, 0].double(), tuple(s.double() for s in state)
    )
    torch.testing.assert_close(got, want.float(), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", NAMES)
def test_values_without_gradients_are_the_same(name: str) -> None:
    """Without gradients the kernel keeps nothing for a backward pass. The results are equal bit for bit."""
    cell = CELLS[name]
    inputs, ids = problem(cell, 5, 40, 12, looked_up=True)
    table, weight, bias, *state = inputs
    with torch.no_grad():
        outputs, last = unroll_native(cell, TableLookup(table, ids), weight, bias, tuple(state))
    for one, other in zip((outputs, *last), outcome(unroll_native, cell, inputs, ids), strict=False):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_repeated_runs_are_identical(name: str) -> None:
    cell = CELLS[name]
    inputs, ids = problem(cell, 6, 50, 30, looked_up=True)
    first = outcome(unroll_native, cell, inputs, ids)
    for _ in range(3):
        assert all(map(torch.equal, outcome(unroll_native, cell, inputs, ids), first))


@pytest.mark.parametrize(("H", "T"), [(50, 200), (257, 9)], ids=["lanes", "units"])  # large enough for many threads
@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_kernel_threads_change_nothing(num_threads: int, H: int, T: int) -> None:
    """They divide the lanes or the units; also with more threads than lanes or processors, over many calls."""
    cell = CELLS["gru"]
    inputs, ids = problem(cell, 3, H, T, looked_up=True)
    want = outcome(unroll_native, cell, inputs, ids)
    with native.kernel_threads(num_threads):
        assert native.num_threads(7) == num_threads
        for _ in range(200):
            assert all(map(torch.equal, outcome(unroll_native, cell, inputs, ids), want))
    assert native.num_threads(7) == 7


def test_concurrent_callers_get_the_same_results() -> None:
    """Several Python threads share one pool of helper threads."""
    cell = CELLS["lstm"]
    inputs, ids = problem(cell, 4, 100, 40, looked_up=True)
    want = outcome(unroll_native, cell, inputs, ids)
    with native.kernel_threads(2), ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: outcome(unroll_native, cell, inputs, ids), range(40)):
            assert all(map(torch.equal, got, want))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_starts_its_own_helper_threads() -> None:
    code = """
import os, torch
from chargen import native
from chargen.nn.linear import linear_native
x, w, b = torch.randn(64, 32), torch.randn(48, 32), torch.randn(48)
with native.kernel_threads(2), torch.no_grad():
    before = linear_native(x, w, b)
    child = os.fork()
    same = all(torch.equal(linear_native(x, w, b), before) for _ in range(50))
    if child == 0:
        os._exit(0 if same else 1)
    assert same and os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_an_id_beyond_the_table_is_refused() -> None:
    (table, weight, bias, h), ids = problem(CELLS["rnn"], 2, 4, 3, looked_up=True)
    for wrong in (NUM_ROWS, -1):
        ids[1, 1] = wrong
        with pytest.raises(IndexError, match="beyond the vocabulary"):
            unroll_native(CELLS["rnn"], TableLookup(table, ids), weight, bias, (h,))


def test_a_second_backward_pass_of_a_window_is_refused() -> None:
    inputs, ids = problem(CELLS["rnn"], 2, 4, 3, looked_up=True)
    table, weight, bias, h = (part.requires_grad_() for part in inputs)
    outputs, _ = unroll_native(CELLS["rnn"], TableLookup(table, ids), weight, bias, (h,))
    outputs.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        outputs.sum().backward()


def test_a_window_without_a_backward_pass_is_freed() -> None:
    """There is no reference cycle, which would keep the whole window in memory until the garbage collector runs."""
    inputs, ids = problem(CELLS["lstm"], 2, 4, 3, looked_up=True)
    table, weight, bias, *state = (part.requires_grad_() for part in inputs)
    outputs, last = unroll_native(CELLS["lstm"], TableLookup(table, ids), weight, bias, tuple(state))
    node = weakref.ref(outputs.grad_fn)
    assert node() is not None
    del outputs, last
    assert node() is None


def test_outputs_modified_before_the_backward_pass_are_noticed() -> None:
    inputs, ids = problem(CELLS["rnn"], 2, 4, 3, looked_up=True)
    table, weight, bias, h = (part.requires_grad_() for part in inputs)
    outputs, _ = unroll_native(CELLS["rnn"], TableLookup(table, ids), weight, bias, (h,))
    loss = (outputs * 1).sum()
    with torch.no_grad():
        outputs.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_may_have_any_memory_layout(name: str) -> None:
    """Transposed and sliced tensors give the same results as contiguous ones."""
    cell = CELLS[name]
    inputs, _ = problem(cell, 3, 8, 5, looked_up=False)
    gates_x, weight, bias, *state = inputs
    strided = [gates_x.transpose(0, 1).contiguous().transpose(0, 1), weight.t().contiguous().t(), bias,
               *(torch.cat((part, part))[:3] for part in state)]  # fmt: skip
    assert all(
        map(torch.equal, outcome(unroll_native, cell, strided, None), outcome(unroll_native, cell, inputs, None))
    )


def chosen_by_unroll(cell: Cell, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return which function `unroll` calls."""
    from chargen.nn import unroll as module

    called = []
    for way in ("unroll_native", "unroll_by_hand"):
        monkeypatch.setattr(module, way, lambda *_, way=way: called.append(way))
    gates_x: GatesX = inputs[0]
    module.unroll(cell, gates_x, inputs[1], inputs[2], tuple(inputs[3:]))
    return called[0]


def test_float32_on_the_cpu_uses_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = problem(CELLS["lstm"], 2, 4, 3, looked_up=False)
    assert chosen_by_unroll(CELLS["lstm"], inputs, monkeypatch) == "unroll_native"


def test_float64_uses_python(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = problem(CELLS["lstm"], 2, 4, 3, looked_up=False)
    assert chosen_by_unroll(CELLS["lstm"], [part.double() for part in inputs], monkeypatch) == "unroll_by_hand"


def test_a_cell_without_a_kernel_uses_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell of another name with the shape of the GRU must not be computed as the GRU."""
    cell = dataclasses.replace(CELLS["gru"], type=CellType("unknown", num_gates=3, num_states=1))
    monkeypatch.setitem(CELLS, "unknown", cell)
    inputs, _ = problem(cell, 2, 4, 3, looked_up=False)
    assert chosen_by_unroll(cell, inputs, monkeypatch) == "unroll_by_hand"
    with pytest.raises(ValueError, match="do not compute the cell 'unknown'; they compute rnn, lstm, gru"):
        unroll_native(cell, inputs[0], inputs[1], inputs[2], tuple(inputs[3:]))


@pytest.mark.parametrize("way", [unroll, unroll_by_hand])
def test_a_table_lookup_equals_its_rows(way) -> None:
    cell = CELLS["gru"]
    (table, weight, bias, h), ids = problem(cell, 3, 8, 5, looked_up=True)
    looked_up, _ = way(cell, TableLookup(table, ids), weight, bias, (h,))
    torch.testing.assert_close(looked_up, way(cell, table[ids], weight, bias, (h,))[0], rtol=0, atol=0)
