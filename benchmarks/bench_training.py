"""Characters per second of training: `chargen train`, bare loops in plain torch, and a small GPT.

Everything is `model=small`: H 256, embedding 64, dropout 0.2, B 16, T 64, AdamW, clipped by global norm.

- `chargen train`: the command itself in a process of its own; the median of `chars_per_second` in its
  metrics.csv. It validates once, behind its last update, so that no row holds a validation.
- `bare loop`: the same `CharRNN` on the same kernel, without Lightning.
- `torch.nn loop`: the same loop over `nn.Embedding`, `nn.GRU` or `nn.LSTM`, and `nn.Linear`.
- `unroll alone`: what of a step is the recurrence itself, forward and back.
- `baby GPT`: `baby_gpt.py`, with its own batch and context.

Loops take turns in blocks of updates in one process; `chargen train` runs between their turns. What is
around the unroll in a step is found by cutting the bare loop's graph into parts and timing each: the
same operations, in the same order.

Dimensions: B lanes, T ticks, V vocabulary, H hidden, G gates.
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
from typing import Any

import baby_gpt
import torch
from measure import ROOT, Contender, interleaved, main, markdown, seconds_of, times
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
LEARNING_RATE, BETAS, WEIGHT_DECAY, CLIP = 4e-3, (0.9, 0.99), 0.1, 1.0
TEXTS = (ROOT / "data" / "tinyshakespeare.txt", ROOT.parent / "shared" / "data" / "tinyshakespeare.txt")
GOAL_AROUND = 0.1  # of a step
PARTS = ("unroll", "table of input gates", "dropout, head and loss", "clipping", "optimizer")


# ---------------------------------------------------------------------- what a loop trains


class TorchCharRNN(nn.Module):
    """`CharRNN` as it is written with `torch.nn`: ids and targets (B, T), states -> the sum of -ln p, states."""

    def __init__(self, cell: str, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, EMBEDDING_SIZE)
        self.recurrence = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](EMBEDDING_SIZE, HIDDEN_SIZE)
        self.head = nn.Linear(HIDDEN_SIZE, vocab_size)

    def cross_entropy(self, ids: Tensor, targets: Tensor, states: Any = None) -> tuple[Tensor, Any]:
        """Time-major inside, which is the faster way, and with the same cheap dropout as `CharRNN`."""
        outputs, states = self.recurrence(self.embedding(ids.t()), states)  # (T, B, H)
        outputs = outputs * F.dropout(torch.ones_like(outputs[0]), DROPOUT)
        logits = self.head(outputs)  # (T, B, V)
        return F.cross_entropy(logits.flatten(0, 1), targets.t().flatten(), reduction="sum"), states


class Loop:
    """A bare training loop: consecutive windows, the carry, AdamW, clipping; nothing else.

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
        """The next inputs and targets, (B, T) each."""
        if self._position + T >= self._lanes.shape[1]:
            self._position, self.states = 0, None
        ids = self._lanes[:, self._position : self._position + T + 1]
        self._position += T
        return ids[:, :-1], ids[:, 1:]

    def step(self) -> None:
        """One update."""
        inputs, targets = self.window()
        loss, states = self.model.cross_entropy(inputs, targets, self.states)
        self.states = _detached(states)
        self.optimizer.zero_grad(set_to_none=True)
        (loss / targets.numel()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()

    def block(self, updates: int) -> Contender:
        """So many updates."""

        def run() -> None:
            for _ in range(updates):
                self.step()

        return run


def _detached(states: Any) -> Any:
    return states.detach() if isinstance(states, Tensor) else tuple(_detached(part) for part in states)


class CutLoop(Loop):
    """`Loop` over a `CharRNN`, cut where the parts of a step meet, with the seconds of each."""

    def __init__(self, model: CharRNN, ids: Tensor) -> None:
        super().__init__(model, ids)
        self.model: CharRNN = model
        self.seconds: dict[str, list[float]] = {part: [] for part in PARTS}

    def step(self) -> None:
        """One update; what crosses a cut is a leaf above it, and its gradient goes on below."""
        model, (inputs, targets) = self.model, self.window()
        weight_ih, weight_hh, bias_ih, bias_hh = model.recurrence.weights(0)
        ids = inputs.t()
        (state,) = self.states or model.recurrence.zero_state(B)
        self.optimizer.zero_grad(set_to_none=True)
        began = [time.perf_counter()]

        def cut() -> None:
            began.append(time.perf_counter())

        table = linear(model.embedding.weight, weight_ih, bias_ih)
        cut()
        leaf_table = table.detach().requires_grad_()
        outputs, state = unroll(model.recurrence.cell, TableLookup(leaf_table, ids), weight_hh, bias_hh, state)
        cut()
        leaf_outputs = outputs.detach().requires_grad_()
        mask = F.dropout(torch.ones_like(leaf_outputs[0]), DROPOUT)
        loss = cross_entropy(leaf_outputs, mask, model.head.weight, model.head.bias, targets.t())
        (loss / targets.numel()).backward()
        cut()
        outputs.backward(leaf_outputs.grad)
        cut()
        table.backward(leaf_table.grad)
        cut()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        cut()
        self.optimizer.step()
        cut()
        self.states = (_detached(state),)
        forward_table, forward, head, backward, backward_table, clipping, optimizer = (
            later - earlier for earlier, later in pairwise(began)
        )
        taken = (forward + backward, forward_table + backward_table, head, clipping, optimizer)
        for part, seconds in zip(PARTS, taken, strict=True):
            self.seconds[part].append(seconds)


def unroll_alone(model: CharRNN, ids: Tensor, calls: int) -> Contender:
    """Forward and backward of the recurrence in such a step, and nothing else."""
    inputs = ids[: B * T].reshape(B, T).t()
    weight_ih, weight_hh, bias_ih, bias_hh = (w.detach().requires_grad_() for w in model.recurrence.weights(0))
    table = linear(model.embedding.weight, weight_ih, bias_ih).detach().requires_grad_()
    (state,) = model.recurrence.zero_state(B)
    grad = torch.randn(T, B, HIDDEN_SIZE) / (B * T)

    def run() -> None:
        for _ in range(calls):
            table.grad = weight_hh.grad = bias_hh.grad = None
            outputs, _ = unroll(model.recurrence.cell, TableLookup(table, inputs), weight_hh, bias_hh, state)
            outputs.backward(grad)

    return run


# --------------------------------------------------------------------------- the command


def chargen_train(text: Path | None, cell: str, max_steps: int, folder: Path) -> dict[str, float]:
    """Runs `chargen train` to its end.

    Returns:
        `chars_per_second`, the median of the rows of metrics.csv; `first_update_seconds`, from the command
        to the first update.
    """
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    command = [sys.executable, "-m", "chargen", "train", *([str(text)] if text else [])]
    command += ["model=small", f"model.cell={cell}", f"trainer.max_steps={max_steps}", "sample_length=0"]
    command += [f"trainer.val_check_interval={max_steps}", f"run_dir={run_dir}", f"data_dir={folder}"]
    metrics = run_dir / "metrics.csv"
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not metrics.exists():
            time.sleep(0.01)
        first_row = time.monotonic() - began
        _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"chargen train failed: {errors.strip().splitlines()[-1:]}")
    with open(metrics, encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["chars_per_second"]]
    # The first row is written behind update 50, and knows how long those took: what came before is the start.
    until_training = first_row - float(rows[0]["seconds"])
    speeds = [float(row["chars_per_second"]) for row in rows]
    return {
        "chars_per_second": statistics.median(speeds),
        "first_update_seconds": until_training + B * T / speeds[0],
    }


# ------------------------------------------------------------------------------- measuring


def measure(quick: bool) -> dict[str, Any]:
    """Characters per second of all, and seconds of the parts of a step."""
    repeats, max_steps, updates, rounds = (1, 300, 15, 7) if quick else (3, 1500, 40, 9)
    text = next((file for file in TEXTS if file.is_file()), None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = CorpusConfig(name="benchmark", path=str(text)) if text else CorpusConfig(name="python_reference")
        corpus = load_corpus(config, folder)
        ids = torch.from_numpy(corpus.train.astype("int64"))
        cells = {}
        for cell in CELLS:
            field = _field(cell, corpus, ids, updates)
            runs = []
            for _ in range(repeats):
                command = chargen_train(text, cell, max_steps, folder)
                loops = interleaved({loop: run for loop, (run, _) in field.contenders.items()}, rounds)
                speeds = {loop: field.contenders[loop][1] / seconds for loop, seconds in loops.items()}
                runs.append({"command": command, "speeds": speeds})
            cells[cell] = _medians(runs, field.cut)
        sampling = _sampling(corpus, 200 if quick else 1000)
        return {
            "text": "tinyshakespeare" if text else "python_reference",
            "vocabulary": corpus.tokenizer.vocab_size,
            "threads": torch.get_num_threads(),
            "updates": {"chargen train": max_steps, "a block": updates, "blocks": rounds, "repeats": repeats},
            "cells": cells,
            "baby_gpt_sampling": sampling,
        }


class _Field:
    """The loops of one cell: each a block of updates, with the characters in it."""

    def __init__(self, contenders: dict[str, tuple[Contender, int]], cut: CutLoop) -> None:
        self.contenders = contenders
        self.cut = cut


def _field(cell: str, corpus: Corpus, ids: Tensor, updates: int) -> _Field:
    torch.manual_seed(1)
    vocab_size = corpus.tokenizer.vocab_size
    config = ModelConfig(vocab_size, cell, HIDDEN_SIZE, 1, EMBEDDING_SIZE, DROPOUT)
    cut = CutLoop(CharRNN(config), ids)
    gpt = baby_gpt.train(baby_gpt.BabyGPT(vocab_size), ids, 2000)
    characters = B * T * updates
    contenders = {
        "bare loop": (Loop(CharRNN(config), ids).block(updates), characters),
        "torch.nn loop": (Loop(TorchCharRNN(cell, vocab_size), ids).block(updates), characters),
        "unroll alone": (unroll_alone(CharRNN(config), ids, updates), characters),
        "cut": (cut.block(updates), characters),
        "baby GPT": (_next(gpt, updates), baby_gpt.BATCH_SIZE * baby_gpt.CONTEXT * updates),
    }
    return _Field(contenders, cut)


def _next(iterator: Iterator[object], number: int) -> Contender:
    def run() -> None:
        for _ in range(number):
            next(iterator)

    return run


def _medians(runs: Sequence[dict[str, Any]], cut: CutLoop) -> dict[str, Any]:
    """Over the repeats; the parts of a step over all its updates."""
    names = runs[0]["speeds"]
    speeds = {name: statistics.median(run["speeds"][name] for run in runs) for name in names if name != "cut"}
    command = {key: statistics.median(run["command"][key] for run in runs) for key in runs[0]["command"]}
    return {
        "chars_per_second": {"chargen train": command["chars_per_second"], **speeds},
        "first_update_seconds": command["first_update_seconds"],
        "part_seconds": {part: statistics.median(seconds) for part, seconds in cut.seconds.items()},
    }


def _sampling(corpus: Corpus, length: int) -> float:
    """Characters per second that an untrained baby GPT writes: its speed does not depend on what it knows."""
    model = baby_gpt.BabyGPT(corpus.tokenizer.vocab_size)
    list(baby_gpt.sample(model, [0], 20))
    return length / seconds_of(lambda: list(baby_gpt.sample(model, [0], length)))


# -------------------------------------------------------------------------------- the table


def table(result: dict[str, Any]) -> str:
    """Speeds, then where a step's time goes."""
    cells = result["cells"]
    rows = []
    for name in ("chargen train", "bare loop", "torch.nn loop", "baby GPT"):
        row = [name]
        for cell in cells.values():
            speeds = cell["chars_per_second"]
            row += [f"{speeds[name]:,.0f}", times(speeds["chargen train"] / speeds[name])]
        rows.append(row)
    headings = ["characters/s", *(word for cell in cells for word in (cell, "chargen train to it"))]
    first = " and ".join(f"{cell['first_update_seconds']:.1f} s" for cell in cells.values())
    parts = [
        f"{result['text']}, vocabulary {result['vocabulary']}, {result['threads']} threads.",
        markdown(headings, rows),
        f"From the command to the first update: {first} ({', '.join(cells)}). The baby GPT samples "
        f"{result['baby_gpt_sampling']:,.0f} characters/s.",
        "What an update is made of, as shares of the bare loop's where nothing else is said:",
        _breakdown(cells),
    ]
    return "\n\n".join(parts)


def _breakdown(cells: dict[str, Any]) -> str:
    columns = []
    for cell in cells.values():
        update = {name: B * T / speed for name, speed in cell["chars_per_second"].items()}
        bare, trained, parts = update["bare loop"], update["chargen train"], cell["part_seconds"]
        rows = [(part, seconds, bare) for part, seconds in parts.items()]
        rows += [
            ("rest: window, autograd, carry", bare - sum(parts.values()), bare),
            ("**bare loop**", bare, bare),
            ("**chargen train**", trained, bare),
            (f"around the unroll, of the bare loop (goal {GOAL_AROUND:.0%})", bare - parts["unroll"], bare),
            (f"around the unroll, of chargen train (goal {GOAL_AROUND:.0%})", trained - parts["unroll"], trained),
            ("the unroll on its own", update["unroll alone"], bare),
        ]
        columns.append({name: (f"{1e3 * seconds:.2f}", f"{seconds / whole:.0%}") for name, seconds, whole in rows})
    rows = [(name, *(text for column in columns for text in column[name])) for name in columns[0]]
    return markdown(["", *(word for cell in cells for word in (f"{cell}, ms", "share"))], rows)


if __name__ == "__main__":
    main(measure, table)
