"""Held-out score after equal updates: products in bf16 against float32.

Each pair of models starts from the same weights and reads the same windows with the same dropout. One computes its
matrix products in float32, the other within `torch.autocast` in bf16, as `trainer.precision=bf16-mixed` does. Both are
scored in float32 by protocol B on the last tenth of the text. The kernels round in the same way on every processor;
the times tell something only where the kernels have an instruction for bf16.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_training import BETAS, LEARNING_RATE, B, Loop, T
from measure import find_text, main, markdown_table

from chargen import native
from chargen.config import CorpusConfig, ModelConfig
from chargen.corpus.encoded import load_corpus
from chargen.evaluation.score import score_streaming
from chargen.nn.model import CharRNN
from chargen.nn.precision import bf16_products
from chargen.nn.threads import compute_threads

HIDDEN_SIZE, DROPOUT, NUM_SEEDS, NUM_UPDATES = 256, 0.1, 5, 2000
GOAL = 0.003
"""Nats per character by which bf16 may be worse, the mean of all pairs."""


@compute_threads()
def train(seed: int, ids: torch.Tensor, held_out: np.ndarray, vocab_size: int, num_updates: int, *, bf16: bool) -> Any:
    """Train a model with a cosine learning rate, and score it.

    Returns:
        Its score in nats per character, and the seconds of training.
    """
    torch.manual_seed(seed)
    loop = Loop(CharRNN(ModelConfig(vocab_size, "gru", HIDDEN_SIZE, 1, 64, DROPOUT)), ids)
    begin = time.perf_counter()
    with bf16_products(bf16):
        for update in range(num_updates):
            for group in loop.optimizer.param_groups:
                group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * update / num_updates))
            loop.step()
    seconds = time.perf_counter() - begin
    return score_streaming(loop.model, held_out).nats_per_char, seconds


def measure(quick: bool) -> dict[str, Any]:
    """Train and score all pairs."""
    num_seeds, num_updates = (2, 100) if quick else (NUM_SEEDS, NUM_UPDATES)
    text = find_text("tinyshakespeare.txt")
    config = CorpusConfig(name="benchmark", path=str(text)) if text else CorpusConfig(name="python_reference")
    with tempfile.TemporaryDirectory() as folder:
        corpus = load_corpus(config, Path(folder))
    ids = torch.from_numpy(corpus.train.astype("int64"))
    pairs = []
    for seed in range(1, num_seeds + 1):
        pair = {}
        for name, bf16 in (("float32", False), ("bf16", True)):
            nats, seconds = train(seed, ids, corpus.validation, corpus.tokenizer.vocab_size, num_updates, bf16=bf16)
            pair[name] = {"nats": nats, "seconds": seconds}
        pairs.append({"seed": seed, **pair})
    return {
        "text": "tinyshakespeare" if text else "python_reference",
        "updates": num_updates,
        "has_bf16": native.has_bf16(),
        "pairs": pairs,
    }


def table(result: dict[str, Any]) -> str:
    """Format the pairs, and the mean of their differences with its standard error."""
    rows, differences = [], []
    for pair in result["pairs"]:
        single, half = pair["float32"], pair["bf16"]
        differences.append(half["nats"] - single["nats"])
        ratio = f"{single['seconds'] / half['seconds']:.2f} x" if result["has_bf16"] else "-"
        rows.append((pair["seed"], f"{single['nats']:.4f}", f"{half['nats']:.4f}", f"{differences[-1]:+.4f}", ratio))
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return "\n\n".join([
        f"{result['text']}, gru 1 x {HIDDEN_SIZE}, B {B}, T {T}, AdamW with betas {BETAS}, {result['updates']:,} "
        "updates.",
        markdown_table(("seed", "float32, nats/char", "bf16, nats/char", "difference", "speedup of bf16"), rows),
        f"Mean difference {statistics.mean(differences):+.4f} nats/char, standard error {error:.4f}; goal: at most "
        f"{GOAL:+.3f}.",
    ])  # fmt: skip


if __name__ == "__main__":
    main(measure, table)
