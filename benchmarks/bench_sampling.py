"""Sampling speed in characters per second on one core: one stream and 64 streams, float32 and quantized weights.

The networks have one layer, a vocabulary of 67 and untrained weights, because the speed does not depend on training.
The temperature is 0.8.

- `float32`, `int8`: the compiled network with one stream.
- `float32, 64 streams`, `int8, 64 streams`: the compiled network with 64 streams side by side on the same core.
- `numpy`: the network in numpy, which is the fallback without compiled kernels.
- `torch loop`: a loop over `nn.Embedding`, one step of `nn.LSTM` or `nn.GRU`, `nn.Linear`, softmax and multinomial.

A long prompt is read into a GRU with a vocabulary of 5,387 characters, as a Chinese text has: `read` computes the head
for the last character alone, in calls that last a fraction of a second; `predict` computes it for every character.

The effect of int8 on the loss is measured on a model that a bare loop trains for some seconds: nats per character over
64 lanes of held-out text, read by the compiled network in either precision. The time to the first character is the time
from the start of the command to the first byte of its output, with all files in the page cache.

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_training import Loop
from measure import Contender, find_text, format_ratio, main, markdown_table, time_interleaved
from torch import nn

from chargen import native
from chargen.config import CorpusConfig, ModelConfig
from chargen.corpus.encoded import load_corpus
from chargen.nn.model import CharRNN
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork, generate
from chargen.sampling.params import SamplingParams
from chargen.sampling.session import Network
from chargen.sampling.weights import PRECISIONS, Precision
from chargen.storage.model_file import ModelFile

VOCAB_SIZE, EMBEDDING_SIZE, NUM_STREAMS = 67, 64, 64
PARAMS = SamplingParams(temperature=0.8)
PROMPT_IDS = [2]
CHARACTERS_PER_STEP = 32  # as in `chargen.sampling.generator`
PROMPT_VOCAB_SIZE, PROMPT_HIDDEN_SIZE = 5387, 512
GOALS = {("lstm", 256): {"float32": 45e3, "int8": 100e3}, ("lstm", 512): {"float32": 12e3, "int8": 40e3}}
"""Characters per second of one stream, by cell and H, then by precision."""

GOAL_STREAMS, GOAL_TORCH, GOAL_NUMPY = 5.0, 20.0, 5.0
"""Goals for ratios: 64 streams to one, float32 to the torch loop, numpy to the torch loop."""

GOAL_FIRST_CHARACTER = 1.0  # seconds
SCORED_LANES, SCORED_TICKS = 64, 400


@contextmanager
def one_core() -> Iterator[None]:
    """Run everything on one core, and torch with one thread."""
    num_threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(num_threads)


def native_loop(network: NativeNetwork, num_streams: int, length: int) -> Contender:
    """Return a function that writes `length` characters on each of `num_streams` streams with the compiled network."""

    def run() -> None:
        first = network.open(PROMPT_IDS, PARAMS, seed=0, max_length=length)
        sessions = [first, *(first.fork(seed) for seed in range(1, num_streams))]
        num_characters = 1  # one character at first, as in `TextGenerator`
        while not first.finished:  # all streams have the same length
            network.step(sessions, num_characters)
            num_characters = CHARACTERS_PER_STEP

    return run


def numpy_loop(network: NumpyNetwork, length: int) -> Contender:
    """Return a function that writes `length` characters with the network in numpy."""
    rng = np.random.default_rng(1)

    def run() -> None:
        for _ in generate(network, PROMPT_IDS, PARAMS, rng=rng, max_length=length):
            pass

    return run


def torch_loop(model: CharRNN, length: int) -> Contender:
    """Return a function that writes `length` characters with the layers of `torch.nn` and the weights of a model."""
    config = model.config
    recurrence = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell](EMBEDDING_SIZE, config.hidden_size)
    recurrence.load_state_dict(model.recurrence.state_dict())

    def run() -> None:
        with torch.inference_mode():
            id, state = torch.tensor([PROMPT_IDS]), None
            for _ in range(length):
                outputs, state = recurrence(model.embedding(id), state)
                probabilities = torch.softmax(model.head(outputs[0, 0]) / PARAMS.temperature, dim=-1)
                id = torch.multinomial(probabilities, 1)[None]
                id.item()

    return run


def measure_speeds(cell: str, hidden_size: int, quick: bool) -> dict[str, float]:
    """Return the characters per second of every contender by name."""
    torch.manual_seed(1)
    model = CharRNN(ModelConfig(VOCAB_SIZE, cell, hidden_size, 1, EMBEDDING_SIZE)).eval()
    model_file = model.to_model_file("", {})
    short, long = (200, 3000) if quick else (1000, 20_000)
    contenders: dict[str, tuple[Contender, int]] = {
        "torch loop": (torch_loop(model, short), short),
        "numpy": (numpy_loop(NumpyNetwork(model_file), short), short),
    }
    for precision in PRECISIONS if native.library() else ():
        network, stream_length = NativeNetwork(model_file, precision), max(64, long // NUM_STREAMS)
        contenders[precision] = (native_loop(network, 1, long), long)
        contenders[f"{precision}, {NUM_STREAMS} streams"] = (
            native_loop(network, NUM_STREAMS, stream_length),
            stream_length * NUM_STREAMS,
        )
    seconds = time_interleaved({name: run for name, (run, _) in contenders.items()}, 3 if quick else 9)
    return {name: contenders[name][1] / duration for name, duration in seconds.items()}


def measure_prompts(quick: bool) -> dict[str, dict[str, float]]:
    """Return by network the characters per second of a long prompt, with the head computed once and for every one."""
    torch.manual_seed(1)
    model = CharRNN(ModelConfig(PROMPT_VOCAB_SIZE, "gru", PROMPT_HIDDEN_SIZE, 1, EMBEDDING_SIZE)).eval()
    model_file = model.to_model_file("", {})
    networks: dict[str, tuple[Network, int]] = {"numpy": (NumpyNetwork(model_file), 200 if quick else 1000)}
    for precision in PRECISIONS if native.library() else ():
        networks[precision] = (NativeNetwork(model_file, precision), 2000 if quick else 10_000)
    rng, speeds = np.random.default_rng(1), {}
    for name, (network, length) in networks.items():
        ids = rng.integers(2, PROMPT_VOCAB_SIZE, (1, length))
        contenders: dict[str, Contender] = {
            "read": partial(network.read, ids),
            "predict": partial(network.predict, ids),
        }
        seconds = time_interleaved(contenders, 3 if quick else 5)
        speeds[name] = {way: length / duration for way, duration in seconds.items()}
    return speeds


# ------------------------------------------------------------------------ precision and startup


def train_model(seconds: float, folder: Path) -> tuple[ModelFile, np.ndarray, str]:
    """Train a model with a bare loop for `seconds`. Return it, the held-out ids and the name of the text."""
    text = find_text("tinyshakespeare.txt")
    config = CorpusConfig(name=text.stem, path=str(text)) if text else CorpusConfig(name="python_reference")
    corpus = load_corpus(config, folder)
    torch.manual_seed(1)
    model = CharRNN(ModelConfig(corpus.tokenizer.vocab_size, "lstm", 256, 1, EMBEDDING_SIZE, dropout=0.0))
    loop, end = Loop(model, torch.from_numpy(corpus.train.astype("int64"))), time.monotonic() + seconds
    while time.monotonic() < end:
        loop.step()
    metadata: dict[str, object] = {"start_id": corpus.start_id}
    return model.to_model_file(corpus.tokenizer.to_json(), metadata), np.asarray(corpus.validation), corpus.name


def nats_per_char(model_file: ModelFile, ids: np.ndarray, precision: Precision) -> float:
    """Return the loss over lanes of a text (N,) that the compiled network reads one character at a time."""
    network = NativeNetwork(model_file, precision)
    size = min(SCORED_TICKS, (len(ids) - 1) // SCORED_LANES)
    lanes = np.stack([ids[lane * size : (lane + 1) * size + 1] for lane in range(SCORED_LANES)]).astype(np.int64)
    states, nats = None, []
    for tick in range(size):
        logits, states = network.read(lanes[:, tick : tick + 1], states)
        logits -= logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=1))
        nats.append(log_sum - logits[np.arange(SCORED_LANES), lanes[:, tick + 1]])
    return float(np.mean(nats))


def first_character_seconds(model: Path, num_runs: int) -> float:
    """Return the median time from the start of `chargen sample` to the first byte of its output."""
    durations = []
    for _ in range(num_runs):
        begin = time.monotonic()
        command = [sys.executable, "-m", "chargen", "sample", str(model), "--length", "1000", "--seed", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.read(1)
            durations.append(time.monotonic() - begin)
            process.stdout.read()
    return statistics.median(durations)


# ------------------------------------------------------------------------------- measuring


def measure(quick: bool) -> dict[str, Any]:
    """Measure all speeds, the loss in each precision, and the time to the first character."""
    points = []
    with one_core():
        for cell in ("lstm", "gru"):
            for hidden_size in (256,) if quick else (128, 256, 512):
                speeds = measure_speeds(cell, hidden_size, quick)
                points.append({"cell": cell, "hidden_size": hidden_size, "speeds": speeds})
        prompts = measure_prompts(quick)
    with tempfile.TemporaryDirectory() as name:
        model_file, ids, text = train_model(8 if quick else 60, Path(name))
        path = Path(name) / "model.safetensors"
        model_file.save(path)
        losses = {precision: nats_per_char(model_file, ids, precision) for precision in PRECISIONS if native.library()}
        seconds = first_character_seconds(path, 3 if quick else 7)
    return {
        "points": points,
        "prompts": prompts,
        "nats_per_char": losses,
        "text": text,
        "first_character_seconds": seconds,
    }


def table(result: dict[str, Any]) -> str:
    """Format the speeds and their ratios, the loss in each precision, and the time to the first character."""
    names = list(result["points"][0]["speeds"])
    headings = ["cell, H", *(f"{name}, k chars/s" for name in names)]
    rows, ratios = [], []
    for point in result["points"]:
        speeds, label = point["speeds"], f"{point['cell']}, {point['hidden_size']}"
        rows.append([label, *(f"{speeds[name] / 1e3:.1f}" for name in names)])
        if "float32" not in speeds:
            continue
        goals = GOALS.get((point["cell"], point["hidden_size"]), {})
        ratios.append(
            [
                label,
                format_ratio(speeds["float32"] / speeds["torch loop"]),
                format_ratio(speeds["numpy"] / speeds["torch loop"]),
                *(format_ratio(speeds[f"{p}, {NUM_STREAMS} streams"] / speeds[p]) for p in PRECISIONS),
                ", ".join(f"{p} {speeds[p] / goal:.1f} x" for p, goal in goals.items()) or "-",
            ]
        )
    parts = ["All on one core.", markdown_table(headings, rows)]
    if ratios:
        headings = ["cell, H", f"float32: speedup over torch loop (goal {GOAL_TORCH:.0f} x)"]
        headings += [f"numpy: speedup over torch loop (goal {GOAL_NUMPY:.0f} x at H 128)"]
        headings += [f"{p}: {NUM_STREAMS} streams over one (goal {GOAL_STREAMS:.0f} x)" for p in PRECISIONS]
        parts.append(markdown_table([*headings, "one stream: speed relative to its goal"], ratios))
    headings = [
        f"long prompt: gru, H {PROMPT_HIDDEN_SIZE}, V {PROMPT_VOCAB_SIZE}",
        *("head for every character, k chars/s", "head once, k chars/s", "speedup"),
    ]
    rows = [
        [
            name,
            f"{speed['predict'] / 1e3:.1f}",
            f"{speed['read'] / 1e3:.1f}",
            format_ratio(speed["read"] / speed["predict"]),
        ]
        for name, speed in result["prompts"].items()
    ]
    parts.append(markdown_table(headings, rows))
    losses = result["nats_per_char"]
    if losses:
        scores = ", ".join(f"{precision} {nats:.4f}" for precision, nats in losses.items())
        difference = losses["int8"] - losses["float32"]
        parts.append(
            f"Effect of quantization on the loss, lstm, H 256, {result['text']}, nats per character over "
            f"{SCORED_LANES} lanes of {SCORED_TICKS} characters: {scores}; difference {difference:+.4f}."
        )
    parts.append(
        f"Time from the start of `chargen sample` to its first character: {result['first_character_seconds']:.2f} s "
        f"(goal {GOAL_FIRST_CHARACTER:.1f} s)."
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    main(measure, table)
