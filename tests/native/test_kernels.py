"""The compiled kernels equal the definition, in float64 and by autograd, on every instruction set of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.environment import CELLS as NAMES
from support.environment import INSTRUCTION_SETS
from support.model_configs import small_config
from support.torch_twins import torch_twin

from chargen import native
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
    """Outputs, last state, and the gradient of every input under a loss that uses all of them."""
    leaves = [part.detach().clone().requires_grad_() for part in inputs]
    first, weight, bias, *state = leaves
    outputs, last = run(cell, first if ids is None else TableLookup(first, ids), weight, bias, tuple(state))
    loss = outputs.sin().sum() + sum((k + 2) * part.cos().sum() for k, part in enumerate(last))
    return [outputs.detach(), *(part.detach() for part in last), *torch.autograd.grad(loss, leaves)]


def assert_equal(got: list[torch.Tensor], want: list[torch.Tensor]) -> None:
    """Sums of up to T*B products differ by their roundings: some 1e-5 of the largest of them."""
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=2e-5 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("looked_up", [False, True], ids=["rows", "lookup"])
@pytest.mark.parametrize("T", [1, 2, 65])
@pytest.mark.parametrize("H", [1, 7, 100, 257])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference(name: str, H: int, T: int, looked_up: bool, threads: None) -> None:
    """Odd sizes, every instruction set, one thread and two; float64 and autograd on the other side."""
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
                    assert torch.equal(one, other), "the number of threads has changed a bit"
            finally:
                native.use(None)


@pytest.mark.parametrize("place", range(6))
def test_a_small_error_would_be_noticed(place: int) -> None:
    """Every result, bent by a thousandth, breaks the agreement."""
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
def test_equals_torch(name: str, num_layers: int, instruction_set: str) -> None:
    """`torch.nn.RNN`, `LSTM` and `GRU` in float32, weights carried over, gradients included."""
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
def test_what_is_not_finite_is_passed_on(name: str, bad: float, instruction_set: str) -> None:
    """NaN and infinity, in a gate's input or in the state, come out where the reference has them, and only there."""
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
def test_the_gates_at_their_ends(name: str, instruction_set: str) -> None:
    """Gates far beyond saturation, tiny ones, and zeros keep their values and signs."""
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
def test_without_a_derivative_the_values_are_the_same(name: str) -> None:
    """The way that keeps nothing, bit for bit."""
    cell = CELLS[name]
    inputs, ids = problem(cell, 5, 40, 12, looked_up=True)
    table, weight, bias, *state = inputs
    with torch.no_grad():
        outputs, last = unroll_native(cell, TableLookup(table, ids), weight, bias, tuple(state))
    for one, other in zip((outputs, *last), outcome(unroll_native, cell, inputs, ids), strict=False):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_deterministic(name: str) -> None:
    cell = CELLS[name]
    inputs, ids = problem(cell, 6, 50, 30, looked_up=True)
    first = outcome(unroll_native, cell, inputs, ids)
    for _ in range(3):
        assert all(map(torch.equal, outcome(unroll_native, cell, inputs, ids), first))


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_threads_of_its_own_change_nothing(num_threads: int) -> None:
    """More of them than lanes or processors, too, and again and again."""
    cell = CELLS["gru"]
    inputs, ids = problem(cell, 3, 50, 9, looked_up=True)
    want = outcome(unroll_native, cell, inputs, ids)
    with native.kernel_threads(num_threads):
        assert native.num_threads(7) == num_threads
        for _ in range(200):
            assert all(map(torch.equal, outcome(unroll_native, cell, inputs, ids), want))
    assert native.num_threads(7) == 7


def test_several_callers_at_once() -> None:
    """Threads of Python that ask for the same helpers take turns."""
    cell = CELLS["lstm"]
    inputs, ids = problem(cell, 4, 33, 20, looked_up=True)
    want = outcome(unroll_native, cell, inputs, ids)
    with native.kernel_threads(2), ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: outcome(unroll_native, cell, inputs, ids), range(40)):
            assert all(map(torch.equal, got, want))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_helpers_of_its_own() -> None:
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


def test_a_second_derivative_of_a_window_is_refused() -> None:
    inputs, ids = problem(CELLS["rnn"], 2, 4, 3, looked_up=True)
    table, weight, bias, h = (part.requires_grad_() for part in inputs)
    outputs, _ = unroll_native(CELLS["rnn"], TableLookup(table, ids), weight, bias, (h,))
    outputs.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        outputs.sum().backward()


def test_a_window_that_is_not_differentiated_is_forgotten() -> None:
    """No reference goes round in a circle, which would keep the whole window in memory."""
    inputs, ids = problem(CELLS["lstm"], 2, 4, 3, looked_up=True)
    table, weight, bias, *state = (part.requires_grad_() for part in inputs)
    outputs, last = unroll_native(CELLS["lstm"], TableLookup(table, ids), weight, bias, tuple(state))
    node = weakref.ref(outputs.grad_fn)
    assert node() is not None
    del outputs, last
    assert node() is None


def test_outputs_that_were_written_to_are_noticed() -> None:
    inputs, ids = problem(CELLS["rnn"], 2, 4, 3, looked_up=True)
    table, weight, bias, h = (part.requires_grad_() for part in inputs)
    outputs, _ = unroll_native(CELLS["rnn"], TableLookup(table, ids), weight, bias, (h,))
    loss = (outputs * 1).sum()
    with torch.no_grad():
        outputs.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_any_layout(name: str) -> None:
    """Transposed, sliced and expanded tensors are read as what they stand for."""
    cell = CELLS[name]
    inputs, _ = problem(cell, 3, 8, 5, looked_up=False)
    gates_x, weight, bias, *state = inputs
    crooked = [gates_x.transpose(0, 1).contiguous().transpose(0, 1), weight.t().contiguous().t(), bias,
               *(torch.cat((part, part))[:3] for part in state)]  # fmt: skip
    assert all(
        map(torch.equal, outcome(unroll_native, cell, crooked, None), outcome(unroll_native, cell, inputs, None))
    )


def which(cell: Cell, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether `unroll` would take the compiled way."""
    from chargen.nn import unroll as module

    taken = []
    for way in ("unroll_native", "unroll_by_hand"):
        monkeypatch.setattr(module, way, lambda *_, way=way: taken.append(way))
    gates_x: GatesX = inputs[0]
    module.unroll(cell, gates_x, inputs[1], inputs[2], tuple(inputs[3:]))
    return taken[0]


def test_float32_on_the_cpu_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = problem(CELLS["lstm"], 2, 4, 3, looked_up=False)
    assert which(CELLS["lstm"], inputs, monkeypatch) == "unroll_native"


def test_float64_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = problem(CELLS["lstm"], 2, 4, 3, looked_up=False)
    assert which(CELLS["lstm"], [part.double() for part in inputs], monkeypatch) == "unroll_by_hand"


@pytest.mark.parametrize("way", [unroll, unroll_by_hand])
def test_a_lookup_is_its_rows(way) -> None:
    cell = CELLS["gru"]
    (table, weight, bias, h), ids = problem(cell, 3, 8, 5, looked_up=True)
    looked_up, _ = way(cell, TableLookup(table, ids), weight, bias, (h,))
    torch.testing.assert_close(looked_up, way(cell, table[ids], weight, bias, (h,))[0], rtol=0, atol=0)


# ----------------------------------------------------------------------------- which kernels


def in_a_new_process(wanted: str) -> subprocess.CompletedProcess[str]:
    code = "from chargen import native; print(native.in_use())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, native.VARIABLE: wanted}
    )


@pytest.mark.parametrize("wanted", [*INSTRUCTION_SETS, native.OFF])
def test_the_environment_chooses(wanted: str) -> None:
    assert in_a_new_process(wanted).stdout.strip() == wanted


def test_without_a_choice_it_is_the_best() -> None:
    assert in_a_new_process("").stdout.strip() == INSTRUCTION_SETS[0]


def test_a_name_that_does_not_exist_is_refused() -> None:
    result = in_a_new_process("sse9")
    assert result.returncode != 0
    assert "sse9" in result.stderr
    assert "portable" in result.stderr
    with pytest.raises(ValueError, match="sse9"):
        native.use("sse9")
