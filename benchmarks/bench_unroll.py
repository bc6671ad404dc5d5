"""Forward and backward of the recurrent layers, beside `torch.nn` and beside autograd.

Contenders, with the same weights and the same gradients, which is checked before anything is timed:

- `chargen`: the first layer's input product looked up in a table, then the compiled unroll;
- `torch.nn`: `nn.Embedding` into `nn.RNN`, `nn.LSTM` or `nn.GRU`;
- `by hand`: the same as `chargen` in plain torch, which is what runs without a compiler;
- `autograd`: a loop over ticks whose derivative is left to autograd.

A call reads a window of ids, and differentiates with a fixed gradient of the outputs down to every
weight and the embedding. GFLOP/s counts only products that are needed, those with the recurrent matrix:
forward, back through time, and the matrix's own gradient, 3 * 2 * G*H*H * T*B.

Dimensions: B lanes, T ticks, V vocabulary, E embedding, H hidden, L layers, G gates.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from measure import Contender, gemm_limits, interleaved, main, markdown, peak_megabytes, times
from torch import Tensor, nn

from chargen.config import ModelConfig
from chargen.nn.cells import CELLS
from chargen.nn.linear import linear
from chargen.nn.model import StackedRNN
from chargen.nn.unroll import TableLookup, Unroll, unroll, unroll_by_hand, unroll_reference

VOCAB_SIZE, EMBEDDING_SIZE, NUM_TICKS = 65, 64, 64
TORCH_NN: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
OURS: dict[str, Unroll] = {"chargen": unroll, "by hand": unroll_by_hand, "autograd": unroll_reference}
GRID = [(B, H) for B in (16, 32, 64) for H in (128, 256, 512)]
QUICK_GRID = [(16, 256), (32, 128), (32, 512)]
GOALS_NN = {"rnn": 2.5, "lstm": 1.4, "gru": 2.0}
GOAL_ANYWHERE, GOAL_AUTOGRAD, GOAL_GEMM, GOAL_DEEP = 1.1, 6.0, 0.75, 1.25
GOAL_BY_HAND_NN, GOAL_BY_HAND_AUTOGRAD = 1.4, 2.0


class Layers(nn.Module):
    """An embedding and recurrent layers: ids (T, B) -> outputs (T, B, H).

    Args:
        cell: `rnn`, `lstm` or `gru`.
        hidden_size: H.
        num_layers: L.
        unroll: who runs the loop over time; None for `torch.nn`.
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
        """From a zero state."""
        if not isinstance(self.recurrence, StackedRNN):
            return self.recurrence(self.embedding(ids))[0]
        weight_ih, _, bias_ih, _ = self.recurrence.weights(0)
        table = linear(self.embedding.weight, weight_ih, bias_ih)  # (V, G*H), as `CharRNN` does it
        return self.recurrence.run_layers(TableLookup(table, ids))[0]


def field(
    cell: str, num_lanes: int, hidden_size: int, num_layers: int, names: list[str]
) -> tuple[dict[str, Contender], Callable[[], None]]:
    """The contenders at one point of the grid, and what takes their gradients away."""
    torch.manual_seed(1)
    ids = torch.randint(VOCAB_SIZE, (NUM_TICKS, num_lanes))
    grad = torch.randn(NUM_TICKS, num_lanes, hidden_size)
    weights = Layers(cell, hidden_size, num_layers, None).state_dict()
    layers = {name: Layers(cell, hidden_size, num_layers, OURS.get(name)) for name in names}
    for module in layers.values():
        module.load_state_dict(weights)

    def contender(module: Layers) -> Contender:
        return lambda: module(ids).backward(grad)

    def forget() -> None:
        for module in layers.values():
            module.zero_grad(set_to_none=True)

    return {name: contender(module) for name, module in layers.items()}, forget


def require_equal(cell: str, hidden_size: int) -> None:
    """All contenders come to the same outputs and gradients.

    Raises:
        AssertionError: they do not, and there is nothing to compare.
    """
    torch.manual_seed(1)
    ids, grad = torch.randint(VOCAB_SIZE, (NUM_TICKS, 8)), torch.randn(NUM_TICKS, 8, hidden_size)
    defined = Layers(cell, hidden_size, 2, None)
    outputs = defined(ids)
    outputs.backward(grad)
    for ours in OURS.values():
        module = Layers(cell, hidden_size, 2, ours)
        module.load_state_dict(defined.state_dict())
        others = module(ids)
        others.backward(grad)
        torch.testing.assert_close(others, outputs, rtol=1e-4, atol=1e-5)
        for one, other in zip(module.parameters(), defined.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)  # sums over T*B ticks


def flop(cell: str, num_lanes: int, hidden_size: int) -> float:
    """Of the products with the recurrent matrix that one layer needs, forward and back."""
    return 3 * 2 * CELLS[cell].num_gates * hidden_size**2 * NUM_TICKS * num_lanes


def three_windows(name: str, cell: str, num_lanes: int, hidden_size: int) -> Contender:
    """For `peak_megabytes`: one contender's window, three times over."""
    contenders, forget = field(cell, num_lanes, hidden_size, 1, [name])

    def run() -> None:
        for _ in range(3):
            forget()
            contenders[name]()

    return run


def measure(quick: bool) -> dict[str, Any]:
    """All points: seconds of every contender."""
    for cell in CELLS:
        require_equal(cell, 48)
    default = torch.get_num_threads()
    rounds, seldom = (5, {"by hand": 3, "autograd": 1}) if quick else (25, {"by hand": 9, "autograd": 3})
    one_thread = [] if quick or default == 1 else [1]
    limits: dict[str, dict[str, float]] = {}
    points = []
    for threads in (default, *one_thread):
        torch.set_num_threads(threads)
        before = gemm_limits(threads, rounds)
        names = ["chargen", "torch.nn", "by hand", "autograd"] if threads == default else ["chargen", "torch.nn"]
        for cell in CELLS:
            for B, H in QUICK_GRID if quick else GRID:
                contenders, forget = field(cell, B, H, 1, names)
                seconds = interleaved(contenders, rounds, forget, seldom)
                points.append({"threads": threads, "cell": cell, "lanes": B, "hidden": H, "seconds": seconds})
        after = gemm_limits(threads, rounds)
        limits[str(threads)] = {library: max(rate, before[library]) for library, rate in after.items()}
    torch.set_num_threads(default)
    deep = []
    for L, H in [(2, 256)] if quick else [(2, 256), (3, 256), (2, 512), (3, 512)]:
        contenders, forget = field("lstm", 32, H, L, ["chargen", "torch.nn"])
        deep.append({"layers": L, "lanes": 32, "hidden": H, "seconds": interleaved(contenders, rounds, forget)})
    memory = {name: peak_megabytes(three_windows, name, "lstm", 64, 512) for name in ("chargen", "torch.nn")}
    return {"ticks": NUM_TICKS, "gemm_gflops": limits, "points": points, "deep": deep, "peak_megabytes": memory}


def table(result: dict[str, Any]) -> str:
    """The summary against the goals, then every point."""
    rates = "; ".join(
        ", ".join(f"{name} {rate:.0f}" for name, rate in limits.items()) + f" (threads: {threads})"
        for threads, limits in result["gemm_gflops"].items()
    )
    parts = [
        f"Vocabulary {VOCAB_SIZE}, embedding {EMBEDDING_SIZE}, T {NUM_TICKS}. The best float32 products of this run, "
        f"GFLOP/s: {rates}. A ratio above 1 means that chargen is faster.",
        _summary(result),
    ]
    for threads, limits in result["gemm_gflops"].items():
        points = [point for point in result["points"] if str(point["threads"]) == threads]
        parts += [f"One layer, threads: {threads}, milliseconds:", _points(points, limits)]
    rows = [
        (f"{p['layers']} layers, B {p['lanes']}, H {p['hidden']}", *_milliseconds(p, "chargen", "torch.nn"),
         times(ratio(p, "torch.nn")))
        for p in result["deep"]
    ]  # fmt: skip
    parts += ["Deeper, lstm:", markdown(("", "chargen ms", "torch.nn ms", "chargen to torch.nn"), rows)]
    return "\n\n".join(parts)


def ratio(point: dict[str, Any], slow: str, fast: str = "chargen") -> float:
    """How many times faster one contender is than another."""
    return float(point["seconds"][slow] / point["seconds"][fast])


def _gflops(point: dict[str, Any]) -> float:
    """The rate of chargen, over all that it does."""
    return flop(point["cell"], point["lanes"], point["hidden"]) / float(point["seconds"]["chargen"]) / 1e9


def _milliseconds(point: dict[str, Any], *names: str) -> list[str]:
    return [f"{1e3 * point['seconds'][name]:.2f}" if name in point["seconds"] else "" for name in names]


def _points(points: list[dict[str, Any]], limits: dict[str, float]) -> str:
    with_all = "autograd" in points[0]["seconds"]
    names = ["chargen", "torch.nn", *(["by hand", "autograd"] if with_all else [])]
    headings = ["cell, B, H", *names, "to torch.nn", *(["to autograd"] if with_all else []), "GFLOP/s"]
    headings += [f"of {library}" for library in limits]
    rows = [
        [
            f"{p['cell']}, {p['lanes']}, {p['hidden']}",
            *_milliseconds(p, *names),
            times(ratio(p, "torch.nn")),
            *([times(ratio(p, "autograd"))] if with_all else []),
            f"{_gflops(p):.0f}",
            *(f"{_gflops(p) / limit:.0%}" for limit in limits.values()),
        ]
        for p in points
    ]
    return markdown(headings, rows)


def _summary(result: dict[str, Any]) -> str:
    """Median and least of each ratio over the points of all threads, with its goal."""
    points = result["points"]
    whole = [p for p in points if "autograd" in p["seconds"]]
    of = {cell: [p for p in points if p["cell"] == cell] for cell in CELLS}
    figures: list[tuple[str, float, list[float]]] = [
        (f"{cell}, chargen to torch.nn", goal, [ratio(p, "torch.nn") for p in of[cell]])
        for cell, goal in GOALS_NN.items()
    ]
    by_hand_rnn = [ratio(p, "torch.nn", "by hand") for p in whole if p["cell"] == "rnn"]
    figures += [
        ("any cell, chargen to torch.nn, at the least", GOAL_ANYWHERE, [ratio(p, "torch.nn") for p in points]),
        ("any cell, chargen to autograd", GOAL_AUTOGRAD, [ratio(p, "autograd") for p in whole]),
        ("rnn, by hand to torch.nn", GOAL_BY_HAND_NN, by_hand_rnn),
        ("any cell, by hand to autograd", GOAL_BY_HAND_AUTOGRAD, [ratio(p, "autograd", "by hand") for p in whole]),
        ("lstm of several layers, chargen to torch.nn", GOAL_DEEP, [ratio(p, "torch.nn") for p in result["deep"]]),
    ]
    rows = [(name, times(goal), times(statistics.median(f)), times(min(f))) for name, goal, f in figures]
    for library in next(iter(result["gemm_gflops"].values())):
        for cell in CELLS:
            shares = [_gflops(p) / result["gemm_gflops"][str(p["threads"])][library] for p in of[cell]]
            median = statistics.median(shares)
            rows.append(
                (f"{cell}, of the best of {library}", f"{GOAL_GEMM:.0%}", f"{median:.0%}", f"{min(shares):.0%}")
            )
    ours, theirs = result["peak_megabytes"]["chargen"], result["peak_megabytes"]["torch.nn"]
    rows.append(
        ("peak memory, MB, chargen beside torch.nn; lstm, B 64, H 512", f"{theirs:.0f}", f"{ours:.0f}", f"{ours:.0f}")
    )
    return markdown(("", "goal", "median", "least"), rows)


if __name__ == "__main__":
    main(measure, table)
