"""Characters per second of sampling on one core, one stream and 64, in float32 and in bytes.

One layer, vocabulary 67, temperature 0.8, weights of no training: speed does not depend on what they know.

- `float32`, `int8`: the compiled sampler, one stream; `64 streams`: as many side by side on the same core.
- `numpy`: the sampler that runs without a compiler.
- `torch loop`: `nn.Embedding`, one step of `nn.LSTM` or `nn.GRU`, `nn.Linear`, softmax, multinomial.

What int8 costs is measured on a model that a plain loop trains for some seconds: nats per character of
64 lanes of held-out text, read by the sampler in either precision. The time to the first character is
that of the command, from its start to the first byte that it writes, files in the cache.

Dimensions: N streams, V vocabulary, H hidden.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_training import TEXTS, Loop
from measure import Contender, interleaved, main, markdown, times
from torch import nn

from chargen import native
from chargen.config import CorpusConfig, ModelConfig
from chargen.corpus.encoded import load_corpus
from chargen.nn.model import CharRNN
from chargen.sampling.generator import PRECISIONS, NativeNetwork, NumpyNetwork, Precision, SamplingParams, generate
from chargen.storage.model_file import ModelFile

VOCAB_SIZE, EMBEDDING_SIZE, STREAMS = 67, 64, 64
CHOICE = SamplingParams(0.8)
GOALS = {("lstm", 256): {"float32": 45e3, "int8": 100e3}, ("lstm", 512): {"float32": 12e3, "int8": 40e3}}
GOAL_STREAMS, GOAL_TORCH, GOAL_NUMPY, GOAL_FIRST = 5.0, 20.0, 5.0, 1.0
SCORED_LANES, SCORED_TICKS = 64, 400


@contextmanager
def one_core() -> Iterator[None]:
    """Everything on one core, torch's threads too."""
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)


def compiled(model: NativeNetwork, num_streams: int, length: int) -> Contender:
    """So many characters on each of so many streams."""

    def run() -> None:
        randoms = [np.random.default_rng(seed) for seed in range(num_streams)]
        for _ in model.generate([2], length, CHOICE, randoms):
            pass

    return run


def torch_loop(model: CharRNN, length: int) -> Contender:
    """What a person writes first: the model's weights in `torch.nn`, one character at a time."""
    settings = model.settings
    recurrence = {"lstm": nn.LSTM, "gru": nn.GRU}[settings.cell](EMBEDDING_SIZE, settings.hidden_size)
    recurrence.load_state_dict(model.recurrence.state_dict())

    def run() -> None:
        with torch.inference_mode():
            id, state = torch.tensor([[2]]), None
            for _ in range(length):
                outputs, state = recurrence(model.embedding(id), state)
                probabilities = torch.softmax(model.head(outputs[0, 0]) / CHOICE.temperature, dim=-1)
                id = torch.multinomial(probabilities, 1)[None]
                id.item()

    return run


def speeds(cell: str, hidden_size: int, quick: bool) -> dict[str, float]:
    """Characters per second of every contender, by name."""
    torch.manual_seed(1)
    model = CharRNN(ModelConfig(VOCAB_SIZE, cell, hidden_size, 1, EMBEDDING_SIZE)).eval()
    portable = model.to_model_file("", {})
    slow, fast = (200, 3000) if quick else (1000, 20_000)
    numpy_model, random = NumpyNetwork(portable), np.random.default_rng(1)
    contenders: dict[str, tuple[Contender, int]] = {
        "torch loop": (torch_loop(model, slow), slow),
        "numpy": (lambda: list(generate(numpy_model, [2], slow, CHOICE, random)), slow),
    }
    for precision in PRECISIONS if native.library() else ():
        sampler, each = NativeNetwork(portable, precision), max(64, fast // STREAMS)
        contenders[precision] = (compiled(sampler, 1, fast), fast)
        contenders[f"{precision}, {STREAMS} streams"] = (compiled(sampler, STREAMS, each), each * STREAMS)
    seconds = interleaved({name: run for name, (run, _) in contenders.items()}, 3 if quick else 9)
    return {name: contenders[name][1] / taken for name, taken in seconds.items()}


# ------------------------------------------------------------------------ what bytes cost


def trained(seconds: float, folder: Path) -> tuple[ModelFile, np.ndarray, str]:
    """A model that a plain loop trains for so long, and text that it has not seen."""
    text = next((file for file in TEXTS if file.is_file()), None)
    config = CorpusConfig(name=text.stem, path=str(text)) if text else CorpusConfig(name="python_reference")
    corpus = load_corpus(config, folder)
    torch.manual_seed(1)
    model = CharRNN(ModelConfig(corpus.tokenizer.vocab_size, "lstm", 256, 1, EMBEDDING_SIZE))
    loop, end = Loop(model, torch.from_numpy(corpus.train.astype("int64"))), time.monotonic() + seconds
    while time.monotonic() < end:
        loop.step()
    notes: dict[str, object] = {"start_id": corpus.start_id}
    return model.to_model_file(corpus.tokenizer.to_json(), notes), np.asarray(corpus.validation), corpus.name


def nats_per_char(portable: ModelFile, ids: np.ndarray, precision: Precision) -> float:
    """Of lanes of the text, read by the sampler one character at a time from a zero state."""
    model = NativeNetwork(portable, precision)
    size = min(SCORED_TICKS, (len(ids) - 1) // SCORED_LANES)
    lanes = np.stack([ids[lane * size : (lane + 1) * size + 1] for lane in range(SCORED_LANES)]).astype(np.int64)
    states, nats = None, []
    for tick in range(size):
        logits, states = model.read(lanes[:, tick : tick + 1], states)
        logits -= logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=1))
        nats.append(log_sum - logits[np.arange(SCORED_LANES), lanes[:, tick + 1]])
    return float(np.mean(nats))


def seconds_to_first(run: Path, times_over: int) -> float:
    """From the start of `chargen sample` to the first byte that it writes."""
    taken = []
    for _ in range(times_over):
        began = time.monotonic()
        command = [sys.executable, "-m", "chargen", "sample", str(run), "--length", "1000", "--seed", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read(1)
            taken.append(time.monotonic() - began)
            process.stdout.read()
    return statistics.median(taken)


# ------------------------------------------------------------------------------- measuring


def measure(quick: bool) -> dict[str, Any]:
    """Speeds of all sizes, what bytes cost, and how soon the first character comes."""
    points = []
    with one_core():
        for cell in ("lstm", "gru"):
            for hidden_size in (256,) if quick else (128, 256, 512):
                points.append({"cell": cell, "hidden": hidden_size, "speeds": speeds(cell, hidden_size, quick)})
    with tempfile.TemporaryDirectory() as name:
        portable, ids, text = trained(8 if quick else 60, Path(name))
        run = Path(name) / "model.safetensors"
        portable.save(run)
        costs = {precision: nats_per_char(portable, ids, precision) for precision in PRECISIONS if native.library()}
        first = seconds_to_first(run, 3 if quick else 7)
    return {"points": points, "nats_per_char": costs, "text": text, "first_character_seconds": first}


def table(result: dict[str, Any]) -> str:
    """Speeds with their ratios, then the rest."""
    names = list(result["points"][0]["speeds"])
    headings = ["cell, H", *(f"{name}, k chars/s" for name in names)]
    rows, ratios = [], []
    for point in result["points"]:
        found = point["speeds"]
        rows.append([f"{point['cell']}, {point['hidden']}", *(f"{found[name] / 1e3:.1f}" for name in names)])
        if "float32" not in found:
            continue
        goals = GOALS.get((point["cell"], point["hidden"]), {})
        ratios.append(
            [
                f"{point['cell']}, {point['hidden']}",
                times(found["float32"] / found["torch loop"]),
                times(found["numpy"] / found["torch loop"]),
                *(times(found[f"{p}, {STREAMS} streams"] / found[p]) for p in PRECISIONS),
                ", ".join(f"{p} {found[p] / goal:.1f} x" for p, goal in goals.items()) or "-",
            ]
        )
    parts = ["One core.", markdown(headings, rows)]
    if ratios:
        headings = ["cell, H", f"float32 to torch loop (goal {GOAL_TORCH:.0f} x)"]
        headings += [f"numpy to torch loop (goal {GOAL_NUMPY:.0f} x at H 128)"]
        headings += [f"{p}: {STREAMS} streams to one (goal {GOAL_STREAMS:.0f} x)" for p in PRECISIONS]
        parts.append(markdown([*headings, "one stream, of the goal"], ratios))
    costs = result["nats_per_char"]
    if costs:
        score = ", ".join(f"{precision} {nats:.4f}" for precision, nats in costs.items())
        parts.append(
            f"What bytes cost, lstm, H 256, {result['text']}, nats per character of {SCORED_LANES} lanes of "
            f"{SCORED_TICKS}: {score}; {costs['int8'] - costs['float32']:+.4f}."
        )
    parts.append(
        f"From `chargen sample` to its first character: {result['first_character_seconds']:.2f} s "
        f"(goal {GOAL_FIRST:.1f} s)."
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main(measure, table)
