"""Time of the forward and backward pass of recurrent layers: chargen, `torch.nn` and autograd.

The contenders have the same weights and compute the same gradients, which is checked before anything is timed, for
those in bf16 up to the rounding of their factors:

- `chargen`: a table lookup for the input product of the first layer, then the compiled unroll.
- `chargen bf16`: the same, with products of bf16 numbers, where the processor has an instruction for them.
- `torch.nn`: `nn.Embedding`, then `nn.RNN`, `nn.LSTM` or `nn.GRU`.
- `torch.nn bf16`: the same under `torch.autocast` with bf16, where torch can compute it.
- `manual backward`: as `chargen`, with the unroll in plain PyTorch and its derivative written by hand. This is the
  fallback without compiled kernels.
- `autograd`: as `chargen`, with a loop over ticks in plain PyTorch whose derivative is computed by autograd.

A call runs the forward pass on a window of ids and the backward pass from a fixed gradient of the outputs to every
weight and the embedding. GFLOP/s counts only the products with the recurrent matrix that are needed: those of the
forward pass, of backpropagation through time, and of the gradient of the matrix, 3 * 2 * G*H*H * T*B operations.

Dimensions: B lanes, T ticks, V vocabulary, E embedding, H hidden, L layers, G gates.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from measure import (
    Contender,
    format_ratio,
    main,
    markdown_table,
    peak_gemm_rates,
    peak_megabytes,
    time_interleaved,
)
from torch import Tensor, nn

from chargen import native
from chargen.config import ModelConfig
from chargen.nn.cells import CELLS
from chargen.nn.linear import linear
from chargen.nn.model import StackedRNN
from chargen.nn.precision import bf16_products
from chargen.nn.unroll import TableLookup, Unroll, unroll, unroll_by_hand, unroll_reference

VOCAB_SIZE, EMBEDDING_SIZE, NUM_TICKS = 65, 64, 64
TORCH_NN: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
BF16 = " bf16"
UNROLLS: dict[str, Unroll] = {
    "chargen": unroll, f"chargen{BF16}": unroll, "manual backward": unroll_by_hand, "autograd": unroll_reference,
}  # fmt: skip
"""The function that runs the loop over time, by contender."""

GRID = [(B, H) for B in (16, 32, 64) for H in (128, 256, 512)]
QUICK_GRID = [(16, 256), (32, 128), (32, 512)]
OURS = ("chargen", *([f"chargen{BF16}"] if native.has_bf16() else []))
THEIRS = ("torch.nn", *([f"torch.nn{BF16}"] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []))
GOALS_NN = {"rnn": 2.5, "lstm": 1.4, "gru": 2.0}
GOALS_BF16 = {"rnn": 4.0, "lstm": 1.9, "gru": 5.0}
GOALS_BETTER = {"rnn": 2.0, "lstm": 1.4, "gru": 3.0}
GOAL_MINIMUM, GOAL_AUTOGRAD, GOAL_GEMM, GOAL_MULTILAYER = 1.1, 6.0, 0.75, 1.5
GOAL_MANUAL_NN, GOAL_MANUAL_AUTOGRAD = 1.4, 2.0


class Layers(nn.Module):
    """An embedding and recurrent layers.

    Args:
        cell: `rnn`, `lstm` or `gru`.
        hidden_size: H.
        num_layers: L.
        unroll: the function that runs the loop over time; None for the layers of `torch.nn`.
    """

    def __init__(self, cell: str, hidden_size: int, num_layers: int, unroll: Unroll | None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, EMBEDDING_SIZE)
        self.recurrence = (
            TORCH_NN[cell](EMBEDDING_SIZE, hidden_size, num_layers)
            if unroll is None
            else StackedRNN(
                EMBEDDING_SIZE,
                ModelConfig(cell=cell, hidden_size=hidden_size, num_layers=num_layers, dropout=0.0),
                unroll=unroll,
            )
        )

    def forward(self, ids: Tensor) -> Tensor:
        """Compute the outputs (T, B, H) for ids (T, B), starting from a zero state."""
        if not isinstance(self.recurrence, StackedRNN):
            return self.recurrence(self.embedding(ids))[0]
        weight_ih, _, bias_ih, _ = self.recurrence.weights(0)
        table = linear(self.embedding.weight, weight_ih, bias_ih)  # (V, G*H), as in `CharRNN`
        return self.recurrence.run_layers(TableLookup(table, ids))[0]


def make_contenders(
    cell: str, num_lanes: int, hidden_size: int, *, num_layers: int = 1, names: list[str]
) -> tuple[dict[str, Contender], Callable[[], None]]:
    """Build the contenders at one point of the grid.

    Returns:
        The contenders by name, and a function that removes the gradients of all of them.
    """
    torch.manual_seed(1)
    ids = torch.randint(VOCAB_SIZE, (NUM_TICKS, num_lanes))
    grad = torch.randn(NUM_TICKS, num_lanes, hidden_size)
    weights = Layers(cell, hidden_size, num_layers, None).state_dict()
    layers = {name: Layers(cell, hidden_size, num_layers, UNROLLS.get(name)) for name in names}
    for module in layers.values():
        module.load_state_dict(weights)

    def contender(name: str, module: Layers) -> Contender:
        def run() -> None:
            with bf16_products(name.endswith(BF16)):
                outputs = module(ids)
            outputs.backward(grad.to(outputs.dtype))

        return run

    def clear_gradients() -> None:
        for module in layers.values():
            module.zero_grad(set_to_none=True)

    return {name: contender(name, module) for name, module in layers.items()}, clear_gradients


def require_equal(cell: str, hidden_size: int) -> None:
    """Check that all contenders compute the same outputs and gradients.

    Raises:
        AssertionError: they differ.
    """
    torch.manual_seed(1)
    ids, grad = torch.randint(VOCAB_SIZE, (NUM_TICKS, 8)), torch.randn(NUM_TICKS, 8, hidden_size)
    reference = Layers(cell, hidden_size, 2, None)
    expected = reference(ids)
    expected.backward(grad)
    for name in (*OURS, "manual backward", "autograd", *THEIRS):
        module = Layers(cell, hidden_size, 2, UNROLLS.get(name))
        module.load_state_dict(reference.state_dict())
        with bf16_products(name.endswith(BF16)):
            outputs = module(ids)
        outputs.backward(grad.to(outputs.dtype))
        # A factor in bf16 is off by up to 2^-9. A gradient is a sum over T*B ticks, so its rounding error is larger.
        is_rounded = name.endswith(BF16)
        torch.testing.assert_close(outputs.float(), expected, rtol=1e-4, atol=5e-2 if is_rounded else 1e-5)
        for parameter, expected_parameter in zip(module.parameters(), reference.parameters(), strict=True):
            largest = float(expected_parameter.grad.abs().max())
            tolerance = 0.05 * largest if is_rounded else 1e-3
            torch.testing.assert_close(parameter.grad, expected_parameter.grad, rtol=1e-3, atol=tolerance)


def num_operations(cell: str, num_lanes: int, hidden_size: int) -> float:
    """Return the floating-point operations of the recurrent products of one layer, forward and backward."""
    return 3 * 2 * CELLS[cell].num_gates * hidden_size**2 * NUM_TICKS * num_lanes


def three_windows(name: str, cell: str, num_lanes: int, hidden_size: int) -> Contender:
    """Return a function that runs one contender three times, for `peak_megabytes`."""
    contenders, clear_gradients = make_contenders(cell, num_lanes, hidden_size, names=[name])

    def run() -> None:
        for _ in range(3):
            clear_gradients()
            contenders[name]()

    return run


def measure(quick: bool) -> dict[str, Any]:
    """Measure the seconds of every contender at every point, the rates of matrix products, and the peak memory."""
    for cell in CELLS:
        require_equal(cell, 48)
    default = torch.get_num_threads()
    rounds, manual_rounds, autograd_rounds = (5, 3, 1) if quick else (25, 9, 3)
    max_rounds = {"manual backward": manual_rounds, "autograd": autograd_rounds}
    one_thread = [] if quick or default == 1 else [1]
    rates: dict[str, dict[str, float]] = {}
    points = []
    for num_threads in (default, *one_thread):
        torch.set_num_threads(num_threads)
        before = peak_gemm_rates(num_threads, rounds)
        names = [*OURS, *THEIRS]
        if num_threads == default:
            names += ["manual backward", "autograd"]
        for cell in CELLS:
            for B, H in QUICK_GRID if quick else GRID:
                contenders, clear_gradients = make_contenders(cell, B, H, names=names)
                seconds = time_interleaved(contenders, rounds, before_each=clear_gradients, max_rounds=max_rounds)
                points.append({"threads": num_threads, "cell": cell, "lanes": B, "hidden_size": H, "seconds": seconds})
        after = peak_gemm_rates(num_threads, rounds)
        rates[str(num_threads)] = {library: max(rate, before[library]) for library, rate in after.items()}
    torch.set_num_threads(default)
    multilayer = []
    for L, H in [(2, 256)] if quick else [(2, 256), (3, 256), (2, 512), (3, 512)]:
        contenders, clear_gradients = make_contenders("lstm", 32, H, num_layers=L, names=[*OURS, *THEIRS])
        seconds = time_interleaved(contenders, rounds, before_each=clear_gradients)
        multilayer.append({"layers": L, "lanes": 32, "hidden_size": H, "seconds": seconds})
    memory = {name: peak_megabytes(three_windows, name, "lstm", 64, 512) for name in ("chargen", "torch.nn")}
    return {
        "ticks": NUM_TICKS,
        "gemm_gflops": rates,
        "points": points,
        "multilayer": multilayer,
        "peak_megabytes": memory,
    }


def table(result: dict[str, Any]) -> str:
    """Format the results against the goals, then every point."""
    rates = "; ".join(
        ", ".join(f"{library} {rate:.0f}" for library, rate in limits.items()) + f" (threads: {num_threads})"
        for num_threads, limits in result["gemm_gflops"].items()
    )
    parts = [
        f"Vocabulary {VOCAB_SIZE}, embedding {EMBEDDING_SIZE}, T {NUM_TICKS}. Best rates of float32 matrix products in "
        f"this run, GFLOP/s: {rates}. A speedup above 1 means that chargen is faster. Those over "
        "the better one compare the faster of chargen in float32 and in bf16 with the faster of `torch.nn` in float32 "
        "and under bf16 autocast. `manual backward` is chargen "
        "without kernels, in plain PyTorch with a derivative written by hand; `autograd` is the same loop with the "
        "derivative of autograd.",
        _summary(result),
    ]
    for num_threads, limits in result["gemm_gflops"].items():
        points = [point for point in result["points"] if str(point["threads"]) == num_threads]
        parts += [f"One layer, threads: {num_threads}, times in milliseconds:", _points(points, limits)]
    rows = [
        (f"{p['layers']} layers, B {p['lanes']}, H {p['hidden_size']}", *_milliseconds(p, *OURS, *THEIRS),
         format_ratio(speedup(p, "torch.nn")), format_ratio(best_speedup(p)))
        for p in result["multilayer"]
    ]  # fmt: skip
    headings = ("", *(f"{name}, ms" for name in (*OURS, *THEIRS)), "speedup over torch.nn", "over the better one")
    parts += ["Several layers, lstm:", markdown_table(headings, rows)]
    return "\n\n".join(parts)


def speedup(point: dict[str, Any], slow: str, fast: str = "chargen") -> float:
    """Return how many times faster one contender is than another."""
    return float(point["seconds"][slow] / point["seconds"][fast])


def best_speedup(point: dict[str, Any]) -> float:
    """Return how many times faster the best of chargen is than the best of torch.nn, in float32 or bf16."""
    return float(min(point["seconds"][name] for name in THEIRS) / min(point["seconds"][name] for name in OURS))


def _gflops(point: dict[str, Any]) -> float:
    """Return the rate of chargen, with the time of everything that it computes."""
    operations = num_operations(point["cell"], point["lanes"], point["hidden_size"])
    return operations / float(point["seconds"]["chargen"]) / 1e9


def _milliseconds(point: dict[str, Any], *names: str) -> list[str]:
    return [f"{1e3 * point['seconds'][name]:.2f}" if name in point["seconds"] else "" for name in names]


def _points(points: list[dict[str, Any]], limits: dict[str, float]) -> str:
    with_all = "autograd" in points[0]["seconds"]
    names = [*OURS, *THEIRS, *(["manual backward", "autograd"] if with_all else [])]
    headings = [
        "cell, B, H",
        *names,
        "speedup over torch.nn",
        "over the better one",
        *(["speedup over autograd"] if with_all else []),
    ]
    headings += ["GFLOP/s", *(f"share of {library}" for library in limits)]
    rows = [
        [
            f"{p['cell']}, {p['lanes']}, {p['hidden_size']}",
            *_milliseconds(p, *names),
            format_ratio(speedup(p, "torch.nn")),
            format_ratio(best_speedup(p)),
            *([format_ratio(speedup(p, "autograd"))] if with_all else []),
            f"{_gflops(p):.0f}",
            *(f"{_gflops(p) / limit:.0%}" for limit in limits.values()),
        ]
        for p in points
    ]
    return markdown_table(headings, rows)


def _summary(result: dict[str, Any]) -> str:
    """Format the median and the minimum of each figure over all points and numbers of threads, with its goal."""
    points = result["points"]
    complete = [p for p in points if "autograd" in p["seconds"]]
    by_cell = {cell: [p for p in points if p["cell"] == cell] for cell in CELLS}
    figures: list[tuple[str, float, list[float]]] = [
        (f"{cell}: speedup over torch.nn", goal, [speedup(p, "torch.nn") for p in by_cell[cell]])
        for cell, goal in GOALS_NN.items()
    ]
    if len(OURS) > 1:
        figures += [
            (f"{cell}: speedup of bf16 over torch.nn", goal, [speedup(p, "torch.nn", OURS[1]) for p in by_cell[cell]])
            for cell, goal in GOALS_BF16.items()
        ]
    figures += [
        (f"{cell}: speedup over the better one", goal, [best_speedup(p) for p in by_cell[cell]])
        for cell, goal in GOALS_BETTER.items()
    ]
    manual_rnn = [speedup(p, "torch.nn", "manual backward") for p in complete if p["cell"] == "rnn"]
    manual_all = [speedup(p, "autograd", "manual backward") for p in complete]
    several_layers = [speedup(p, "torch.nn") for p in result["multilayer"]]
    figures += [
        (
            "all cells: speedup over torch.nn (goal for the minimum)",
            GOAL_MINIMUM,
            [speedup(p, "torch.nn") for p in points],
        ),
        ("all cells: speedup over autograd", GOAL_AUTOGRAD, [speedup(p, "autograd") for p in complete]),
        ("rnn: speedup of manual backward over torch.nn", GOAL_MANUAL_NN, manual_rnn),
        ("all cells: speedup of manual backward over autograd", GOAL_MANUAL_AUTOGRAD, manual_all),
        ("lstm of several layers: speedup over torch.nn", GOAL_MULTILAYER, several_layers),
    ]
    rows = [
        (name, format_ratio(goal), format_ratio(statistics.median(values)), format_ratio(min(values)))
        for name, goal, values in figures
    ]
    for library in next(iter(result["gemm_gflops"].values())):
        for cell in CELLS:
            shares = [_gflops(p) / result["gemm_gflops"][str(p["threads"])][library] for p in by_cell[cell]]
            name, median = f"{cell}: share of the best rate of {library}", statistics.median(shares)
            rows.append((name, f"{GOAL_GEMM:.0%}", f"{median:.0%}", f"{min(shares):.0%}"))
    ours, theirs = result["peak_megabytes"]["chargen"], result["peak_megabytes"]["torch.nn"]
    rows.append(
        ("peak memory, MB, lstm, B 64, H 512 (goal: that of torch.nn)", f"{theirs:.0f}", f"{ours:.0f}", f"{ours:.0f}")
    )
    return markdown_table(("", "goal", "median", "minimum"), rows)


if __name__ == "__main__":
    main(measure, table)
