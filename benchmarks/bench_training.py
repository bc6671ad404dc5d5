"""Training speed in characters per second: `chargen train`, bare training loops and a small GPT.

All recurrent models have the sizes of `model=small`: H 256, embedding 64, dropout 0.2, B 16, T 64, AdamW, gradients
clipped by global norm.

- `chargen train`: the command in its own process. The result is the median of `chars_per_second` in its metrics.csv.
  The command validates once, after its last update, so no row contains a validation.
- `bare loop`: the same `CharRNN` with the same kernels, without Lightning.
- `torch.nn loop`: the same loop over `nn.Embedding`, `nn.GRU` or `nn.LSTM`, and `nn.Linear`.
- `unroll alone`: only the forward and backward pass of the recurrence in such a step.
- `baby GPT`: the model of `baby_gpt.py`, with its own batch size and context length.

The loops take turns in blocks of updates in one process, and `chargen train` runs between these blocks. To find the
time of the parts of a step, the graph of the bare loop is cut into parts that are timed one by one. They are the same
operations in the same order.

Dimensions: N characters, B lanes, T ticks, V vocabulary, H hidden, G gates.
"""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import baby_gpt
import torch
from measure import Contender, find_text, format_ratio, main, markdown_table, time_call, time_interleaved
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.config import CorpusConfig, ModelConfig
from chargen.corpus.encoded import Corpus, load_corpus
from chargen.nn.linear import linear
from chargen.nn.loss import cross_entropy
from chargen.nn.model import CharRNN
from chargen.nn.unroll import TableLookup, unroll

CELLS = ("gru", "lstm")
B, T, HIDDEN_SIZE, EMBEDDING_SIZE, DROPOUT = 16, 64, 256, 64, 0.2
LEARNING_RATE, BETAS, WEIGHT_DECAY, MAX_GRADIENT_NORM = 4e-3, (0.9, 0.99), 0.1, 1.0
GOAL_OUTSIDE_UNROLL = 0.1  # fraction of a step
PARTS = ("unroll", "table of input gates", "dropout, head and loss", "clipping", "optimizer")


# ---------------------------------------------------------------------- models and loops


class TorchCharRNN(nn.Module):
    """`CharRNN` built from the layers of `torch.nn`."""

    def __init__(self, cell: str, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE)
        self.recurrence = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](EMBEDDING_SIZE, HIDDEN_SIZE)
        self.head = nn.Linear(HIDDEN_SIZE, vocab_size)

    def cross_entropy(self, ids: Tensor, targets: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Compute the loss as `CharRNN.cross_entropy` does.

        The layers run time-major, because that is faster, and use one dropout mask for all ticks, as in `CharRNN`.

        Args:
            ids: (B, T).
            targets: (B, T), the character after each id.
            states: the states before the window; None for zeros.

        Returns:
            The sum of -ln p in nats and the states after the window.
        """
        outputs, states = self.recurrence(self.embedding(ids.t()), states)  # (T, B, H)
        outputs = outputs * F.dropout(torch.ones_like(outputs[0]), DROPOUT)
        logits = self.head(outputs)  # (T, B, V)
        return F.cross_entropy(logits.flatten(0, 1), targets.t().flatten(), reduction="sum"), states


class Loop:
    """A minimal training loop: consecutive windows, carried states, AdamW and gradient clipping.

    Args:
        model: `CharRNN` or `TorchCharRNN`.
        ids: (N,) the text, int64.
    """

    def __init__(self, model: CharRNN | TorchCharRNN, ids: Tensor) -> None:
        self.model = model
        lane_size = (len(ids) - 1) // B
        starts = torch.arange(B)[:, None] * lane_size
        self._lanes = ids[starts + torch.arange(lane_size + 1)]  # (B, lane_size + 1)
        self._position = 0
        self.states: Any = None
        matrices = [p for p in model.parameters() if p.dim() > 1]
        vectors = [p for p in model.parameters() if p.dim() <= 1]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, fused=True)

    def window(self) -> tuple[Tensor, Tensor]:
        """Return the next inputs and targets, (B, T) each."""
        if self._position + T >= self._lanes.shape[1]:
            self._position, self.states = 0, None
        ids = self._lanes[:, self._position : self._position + T + 1]
        self._position += T
        return ids[:, :-1], ids[:, 1:]

    def step(self) -> None:
        """Run one update."""
        inputs, targets = self.window()
        loss, states = self.model.cross_entropy(inputs, targets, self.states)
        self.states = _detached(states)
        self.optimizer.zero_grad(set_to_none=True)
        (loss / targets.numel()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()

    def block(self, num_updates: int) -> Contender:
        """Return a function that runs `num_updates` updates."""

        def run() -> None:
            for _ in range(num_updates):
                self.step()

        return run


def _detached(states: Any) -> Any:
    return states.detach() if isinstance(states, Tensor) else tuple(_detached(part) for part in states)


class TimedLoop(Loop):
    """A `Loop` over a `CharRNN` that records the seconds of each part of every step."""

    def __init__(self, model: CharRNN, ids: Tensor) -> None:
        super().__init__(model, ids)
        self.model: CharRNN = model
        self.seconds: dict[str, list[float]] = {part: [] for part in PARTS}

    def step(self) -> None:
        """Run one update. Detach the tensors between two parts, and pass their gradients on by hand."""
        model, (inputs, targets) = self.model, self.window()
        weight_ih, weight_hh, bias_ih, bias_hh = model.recurrence.weights(0)
        ids = inputs.t()
        (state,) = self.states or model.recurrence.zero_state(B)
        self.optimizer.zero_grad(set_to_none=True)
        times = [time.perf_counter()]

        def mark() -> None:
            times.append(time.perf_counter())

        table = linear(model.embedding.weight, weight_ih, bias_ih)
        mark()
        leaf_table = table.detach().requires_grad_()
        outputs, state = unroll(model.recurrence.cell, TableLookup(leaf_table, ids), weight_hh, bias_hh, state)
        mark()
        leaf_outputs = outputs.detach().requires_grad_()
        mask = F.dropout(torch.ones_like(leaf_outputs[0]), DROPOUT)
        loss = cross_entropy(leaf_outputs, mask, model.head.weight, model.head.bias, targets.t())
        (loss / targets.numel()).backward()
        mark()
        outputs.backward(leaf_outputs.grad)
        mark()
        table.backward(leaf_table.grad)
        mark()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        mark()
        self.optimizer.step()
        mark()
        self.states = (_detached(state),)
        forward_table, forward, head, backward, backward_table, clipping, optimizer = (
            later - earlier for earlier, later in pairwise(times)
        )
        durations = (forward + backward, forward_table + backward_table, head, clipping, optimizer)
        for part, seconds in zip(PARTS, durations, strict=True):
            self.seconds[part].append(seconds)


def unroll_alone(model: CharRNN, ids: Tensor, num_calls: int) -> Contender:
    """Return a function that runs only the forward and backward pass of the recurrence, `num_calls` times."""
    inputs = ids[: B * T].reshape(B, T).t()
    weight_ih, weight_hh, bias_ih, bias_hh = (w.detach().requires_grad_() for w in model.recurrence.weights(0))
    table = linear(model.embedding.weight, weight_ih, bias_ih).detach().requires_grad_()
    (state,) = model.recurrence.zero_state(B)
    grad = torch.randn(T, B, HIDDEN_SIZE) / (B * T)

    def run() -> None:
        for _ in range(num_calls):
            table.grad = weight_hh.grad = bias_hh.grad = None
            outputs, _ = unroll(model.recurrence.cell, TableLookup(table, inputs), weight_hh, bias_hh, state)
            outputs.backward(grad)

    return run


# --------------------------------------------------------------------------- the command


def chargen_train(text: Path | None, cell: str, max_steps: int, folder: Path) -> dict[str, float]:
    """Run `chargen train` to its end.

    Args:
        text: the file to train on; None for the Python language reference.
        cell: the recurrent cell.
        max_steps: the number of updates.
        folder: a folder for the run and for encoded corpora.

    Returns:
        `chars_per_second`, the median over the rows of metrics.csv, and `first_update_seconds`, the time from the start
        of the command to the end of the first update.

    Raises:
        RuntimeError: the command failed.
    """
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "chargen", "train", *([str(text)] if text else [])]
    command += ["model=small", f"model.cell={cell}", f"trainer.max_steps={max_steps}", "sample_length=0"]
    command += [f"trainer.val_check_interval={max_steps}", f"run_dir={run_dir}", f"data_dir={folder}"]
    metrics = run_dir / "metrics.csv"
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not metrics.exists():
            time.sleep(0.01)
        first_row_seconds = time.monotonic() - begin
        _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"chargen train failed: {errors.strip().splitlines()[-1:]}")
    with open(metrics, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["chars_per_second"]]
    # The first row is written after update 50 and holds the training time up to there. The rest is startup time.
    startup_seconds = first_row_seconds - float(rows[0]["seconds"])
    speeds = [float(row["chars_per_second"]) for row in rows]
    return {
        "chars_per_second": statistics.median(speeds),
        "first_update_seconds": startup_seconds + B * T / speeds[0],
    }


# ------------------------------------------------------------------------------- measuring


def measure(quick: bool) -> dict[str, Any]:
    """Measure the training speed of all contenders and the time of the parts of a step."""
    repeats, max_steps, block_updates, rounds = (1, 300, 15, 7) if quick else (3, 1500, 40, 9)
    text = find_text("tinyshakespeare.txt")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = CorpusConfig(name="benchmark", path=str(text)) if text else CorpusConfig(name="python_reference")
        corpus = load_corpus(config, folder)
        ids = torch.from_numpy(corpus.train.astype("int64"))
        cells = {}
        for cell in CELLS:
            contenders = _contenders(cell, corpus, ids, block_updates)
            runs = []
            for _ in range(repeats):
                command = chargen_train(text, cell, max_steps, folder)
                seconds = time_interleaved({name: run for name, (run, _) in contenders.blocks.items()}, rounds)
                speeds = {name: contenders.blocks[name][1] / duration for name, duration in seconds.items()}
                runs.append({"command": command, "speeds": speeds})
            cells[cell] = _medians(runs, contenders.timed)
        sampling = _gpt_sampling_speed(corpus, 200 if quick else 1000)
        return {
            "text": "tinyshakespeare" if text else "python_reference",
            "vocabulary": corpus.tokenizer.vocab_size,
            "threads": torch.get_num_threads(),
            "updates": {"chargen train": max_steps, "block": block_updates, "blocks": rounds, "repeats": repeats},
            "cells": cells,
            "baby_gpt_sampling": sampling,
        }


class _Contenders(NamedTuple):
    """The contenders of one cell.

    Attributes:
        blocks: a function that runs a block of updates, and the number of characters in the block, by name.
        timed: the loop that records the time of the parts of a step. It is one of the contenders.
    """

    blocks: dict[str, tuple[Contender, int]]
    timed: TimedLoop


def _contenders(cell: str, corpus: Corpus, ids: Tensor, num_updates: int) -> _Contenders:
    torch.manual_seed(1)
    vocab_size = corpus.tokenizer.vocab_size
    config = ModelConfig(vocab_size, cell, HIDDEN_SIZE, 1, EMBEDDING_SIZE, DROPOUT)
    timed = TimedLoop(CharRNN(config), ids)
    gpt = baby_gpt.train(baby_gpt.BabyGPT(vocab_size), ids, 2000)
    num_characters = B * T * num_updates
    blocks = {
        "bare loop": (Loop(CharRNN(config), ids).block(num_updates), num_characters),
        "torch.nn loop": (Loop(TorchCharRNN(cell, vocab_size), ids).block(num_updates), num_characters),
        "unroll alone": (unroll_alone(CharRNN(config), ids, num_updates), num_characters),
        "timed": (timed.block(num_updates), num_characters),
        "baby GPT": (_advance(gpt, num_updates), baby_gpt.BATCH_SIZE * baby_gpt.CONTEXT * num_updates),
    }
    return _Contenders(blocks, timed)


def _advance(iterator: Iterator[object], num_items: int) -> Contender:
    """Return a function that takes `num_items` items from an iterator."""

    def run() -> None:
        for _ in range(num_items):
            next(iterator)

    return run


def _medians(runs: Sequence[dict[str, Any]], timed: TimedLoop) -> dict[str, Any]:
    """Return the median speeds over the repeats, and the median time of each part of a step over all updates."""
    names = runs[0]["speeds"]
    speeds = {name: statistics.median(run["speeds"][name] for run in runs) for name in names if name != "timed"}
    command = {key: statistics.median(run["command"][key] for run in runs) for key in runs[0]["command"]}
    return {
        "chars_per_second": {"chargen train": command["chars_per_second"], **speeds},
        "first_update_seconds": command["first_update_seconds"],
        "part_seconds": {part: statistics.median(seconds) for part, seconds in timed.seconds.items()},
    }


def _gpt_sampling_speed(corpus: Corpus, length: int) -> float:
    """Return how many characters per second an untrained baby GPT samples. The speed does not depend on training."""
    model = baby_gpt.BabyGPT(corpus.tokenizer.vocab_size)
    list(baby_gpt.sample(model, [0], 20))
    return length / time_call(lambda: list(baby_gpt.sample(model, [0], length)))


# -------------------------------------------------------------------------------- the table


def table(result: dict[str, Any]) -> str:
    """Format the speeds, then the time of the parts of an update."""
    cells = result["cells"]
    rows = []
    for name in ("chargen train", "bare loop", "torch.nn loop", "baby GPT"):
        row = [name]
        for cell in cells.values():
            speeds = cell["chars_per_second"]
            row += [f"{speeds[name]:,.0f}", format_ratio(speeds["chargen train"] / speeds[name])]
        rows.append(row)
    headings = ["characters/s", *(word for cell in cells for word in (cell, "speedup of chargen train"))]
    startup = " and ".join(f"{cell['first_update_seconds']:.1f} s" for cell in cells.values())
    parts = [
        f"{result['text']}, vocabulary {result['vocabulary']}, {result['threads']} threads.",
        markdown_table(headings, rows),
        f"Time from the start of the command to the first update: {startup} ({', '.join(cells)}). The baby GPT samples "
        f"{result['baby_gpt_sampling']:,.0f} characters/s.",
        "Time of the parts of an update. Shares are fractions of the bare loop's update unless a row says otherwise:",
        _breakdown(cells),
    ]
    return "\n\n".join(parts)


def _breakdown(cells: dict[str, Any]) -> str:
    """Format the time of the parts of an update, with two columns for each cell."""
    goal = f"goal {GOAL_OUTSIDE_UNROLL:.0%}"
    columns = []
    for cell in cells.values():
        update = {name: B * T / speed for name, speed in cell["chars_per_second"].items()}
        bare, trained, parts = update["bare loop"], update["chargen train"], cell["part_seconds"]
        rows = [(part, seconds, bare) for part, seconds in parts.items()]
        rows += [
            ("rest: windows, autograd, states", bare - sum(parts.values()), bare),
            ("**bare loop**", bare, bare),
            ("**chargen train**", trained, bare),
            (f"outside the unroll, share of the bare loop ({goal})", bare - parts["unroll"], bare),
            (f"outside the unroll, share of chargen train ({goal})", trained - parts["unroll"], trained),
            ("unroll, timed alone", update["unroll alone"], bare),
        ]
        columns.append({name: (f"{1e3 * seconds:.2f}", f"{seconds / total:.0%}") for name, seconds, total in rows})
    rows = [(name, *(text for column in columns for text in column[name])) for name in columns[0]]
    return markdown_table(["", *(word for cell in cells for word in (f"{cell}, ms", "share"))], rows)


if __name__ == "__main__":
    main(measure, table)
