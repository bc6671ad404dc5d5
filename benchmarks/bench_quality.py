"""Quality after a given training time, in nats per character: `chargen train`, a small GPT and a plain LSTM.

A row of the first table is a `chargen train` process whose length is set by `trainer.max_time`. Its ten validations
count towards that time; the validations of the other models do not. The best weights of each run are scored on the last
tenth of the text, which is not trained on:

- A, windowed: windows of 256 characters, each from a zero state.
- B, streaming: one state carried from the beginning of the held-out text to its end. This is the main score.
- C, dynamic: as B, while the model continues to learn from what it has already been scored on (Krause et al. 2018), by
  the rms rule. Its three constants were chosen on the first 20,000 characters of tinyshakespeare's held-out text.

The baby GPT has a context of 64 characters and is scored in windows of that size. The plain LSTM is a short program
over `nn.LSTM`: 1 x 256, AdamW with a cosine over its training time, no dropout, B 16, T 32. Its score is B. Other texts
are measured by bench_texts.py.

Dimensions: B lanes, T ticks, V vocabulary.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import baby_gpt
import numpy as np
import torch
from measure import ROOT, find_text, main, markdown_table
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.config import CorpusConfig
from chargen.corpus.encoded import Corpus, load_corpus
from chargen.evaluation.dynamic import RMS, gradient_mean_squares, score_dynamic
from chargen.evaluation.score import score_streaming, score_windowed
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ModelFile

BUDGETS = {15: "fifteen_seconds", 60: "one_minute", 180: "three_minutes"}
"""The experiment for each training time in seconds."""

GOALS = {15: 1.88, 60: 1.58, 180: 1.47}  # nats per character, protocol B
SEEDS = (1, 2, 3)
NUM_VALIDATIONS = 10

PUBLISHED = (
    ("nanoGPT's CPU recipe, 0.80 M parameters, 183 s, windows of 64", 1.8857, "run on two cores"),
    ("nanoGPT's GPU recipe, 10.65 M, 3 min of an A100, windows of 256", 1.4697, "its README"),
    ("minGRU, minLSTM, 3 layers of 384, on a GPU", 1.548, "arXiv 2410.01201"),
    ("torch-rnn, 3 x 800, 14 M, on a GPU", 1.629, "its pull request 20"),
    ("PPMd, order 6, adaptive as in protocol C", 1.4061, "bytes added to the compressed training text"),
)
"""Scores on tinyshakespeare from elsewhere: the model, nats per character, and the source."""


# ------------------------------------------------------------------------------- chargen


def require_tinyshakespeare() -> Path:
    """Return the file of tinyshakespeare.

    Raises:
        SystemExit: the file does not exist.
    """
    text = find_text("tinyshakespeare.txt")
    if text is None:
        fetch = "`chargen train corpus=tinyshakespeare` fetches it"
        raise SystemExit(f"this benchmark needs data/tinyshakespeare.txt; {fetch}")
    return text


def chargen_train(
    text: Path, folder: Path, seconds: int, *, seed: int, experiment: str | None = None
) -> dict[str, Any]:
    """Run `chargen train` and score its best weights.

    Args:
        text: the file to train on.
        folder: a folder for the run and for encoded corpora.
        seconds: the length of the run, unless an experiment sets it.
        seed: the seed of the run.
        experiment: the experiment to run; None for the default settings.
    """
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    time_limit = f"trainer.max_time=00:00:{seconds // 60:02}:{seconds % 60:02}"
    settings = [f"+experiment={experiment}" if experiment else time_limit, f"seed={seed}", "sample_length=0"]
    run_chargen("train", str(text), *settings, f"run_dir={run_dir}", f"data_dir={folder}")
    return score_run(run_dir, text, folder)


def score_run(run_dir: Path, text: Path, folder: Path) -> dict[str, Any]:
    """Score a finished run with protocols A, B and C, and read its sizes and validation losses."""
    corpus = load_corpus(CorpusConfig(name="text", path=str(text)), folder)
    model_file = ModelFile.load(run_dir / "model.safetensors")
    model = CharRNN.from_model_file(model_file)
    mean_squares = gradient_mean_squares(model, corpus.train, RMS.window_size)
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    with open(run_dir / "metrics.csv", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("validation_nats_per_char")]
    return {
        "A": score_windowed(model, corpus.validation).nats_per_char,
        "B": score_streaming(model, corpus.validation).nats_per_char,
        "C": score_dynamic(model, corpus.validation, RMS, mean_squares).nats_per_char,
        "weight_dropout": model_file.config.weight_dropout,
        **{key: summary[key] for key in ("parameters", "characters_seen", "train_seconds", "updates")},
        "curve": [[float(row["seconds"]), float(row["validation_nats_per_char"])] for row in rows],
    }


def baselines(text: Path, folder: Path) -> dict[str, float]:
    """Return the scores that `chargen evaluate --baselines` prints for a text, in nats per character by name."""
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    short_run = ["trainer.max_steps=2", "model=tiny", "sample_length=0"]
    run_chargen("train", str(text), *short_run, f"run_dir={run_dir}", f"data_dir={folder}")
    run_chargen("evaluate", str(run_dir), "--baselines", "--json", str(run_dir / "scores.json"))
    return dict(json.loads((run_dir / "scores.json").read_text(encoding="utf-8"))["baselines"])


def run_chargen(*arguments: str) -> None:
    """Run the `chargen` command.

    Raises:
        RuntimeError: the command failed; the message holds the last line of its standard error.
    """
    run = subprocess.run([sys.executable, "-m", "chargen", *arguments], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"chargen {arguments[0]} failed: {run.stderr.strip().splitlines()[-1:]}")


# ------------------------------------------------------------------------------ other models


def train_gpt(corpus: Corpus, seconds: float) -> dict[str, Any]:
    """Train the baby GPT for `seconds`, with a learning rate schedule that ends then, and return its best score."""
    torch.manual_seed(1)
    ids, held_out = (torch.from_numpy(part.astype(np.int64)) for part in (corpus.train, corpus.validation))
    model = baby_gpt.BabyGPT(corpus.tokenizer.vocab_size)
    trial, trial_updates = baby_gpt.train(baby_gpt.BabyGPT(corpus.tokenizer.vocab_size), ids, 1000), 60
    next(trial)
    begin = time.monotonic()
    for _ in range(trial_updates):
        next(trial)
    total = int(seconds / (time.monotonic() - begin) * trial_updates)
    curve, elapsed, next_validation = [], 0.0, 1
    begin = time.monotonic()
    for update, _ in enumerate(baby_gpt.train(model, ids, total), 1):
        elapsed = time.monotonic() - begin
        if update == total or elapsed >= next_validation * seconds / NUM_VALIDATIONS:
            curve.append([elapsed, _score_gpt(model, held_out)])
            begin += time.monotonic() - begin - elapsed  # do not count the validation as training time
            next_validation += 1
        if elapsed >= seconds:
            break
    return {
        "nats": min(nats for _, nats in curve),
        "curve": curve,
        "train_seconds": elapsed,
        "characters_seen": update * baby_gpt.BATCH_SIZE * baby_gpt.CONTEXT,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def _score_gpt(model: baby_gpt.BabyGPT, ids: Tensor) -> float:
    """Return the nats per character of a text (N,) in complete windows of the context length."""
    model.eval()
    num_scored = (len(ids) - 1) // baby_gpt.CONTEXT * baby_gpt.CONTEXT
    inputs, targets = ids[:num_scored].view(-1, baby_gpt.CONTEXT), ids[1 : num_scored + 1].view(-1, baby_gpt.CONTEXT)
    total = 0.0
    for x, y in zip(inputs.split(64), targets.split(64), strict=True):
        total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
    return total / num_scored


class PlainLSTM(nn.Module):
    """A character-level language model of `nn.Embedding`, `nn.LSTM` and `nn.Linear`."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(vocab_size, 64), nn.LSTM(64, 256)
        self.head = nn.Linear(256, vocab_size)

    def cross_entropy(self, ids: Tensor, states: Any) -> tuple[Tensor, Any]:
        """Read ids and compute the mean loss of the predictions.

        Args:
            ids: (T+1, B). The first id of each lane is context, the T after it are predicted.
            states: the states before the window; None for zeros.

        Returns:
            The mean of -ln p in nats and the detached states after the window.
        """
        outputs, states = self.lstm(self.embedding(ids[:-1]), states)
        states = tuple(state.detach() for state in states)
        return F.cross_entropy(self.head(outputs).flatten(0, 1), ids[1:].flatten()), states


def train_lstm(corpus: Corpus, seconds: float) -> dict[str, Any]:
    """Train a plain `nn.LSTM` for `seconds` and return the best score of ten validations, as for chargen."""
    torch.manual_seed(1)
    model, next_validation, best = PlainLSTM(corpus.tokenizer.vocab_size), 1, math.inf
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    windows, states, seen = _windows(corpus.train, 16, 32), None, 0
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        ids, starts = next(windows)
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (seen + 1) / 50_000) * 0.5 * (1 + math.cos(math.pi * elapsed / seconds))
        loss, states = model.cross_entropy(ids, None if starts else states)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += ids[1:].numel()
        is_due = time.monotonic() - begin >= next_validation * seconds / NUM_VALIDATIONS
        if next_validation < NUM_VALIDATIONS and is_due:
            validation_begin = time.monotonic()
            best = min(best, _score_lstm(model, corpus.validation))
            begin += time.monotonic() - validation_begin
            next_validation += 1
    best = min(best, _score_lstm(model, corpus.validation))
    parameters = sum(p.numel() for p in model.parameters())
    return {"nats": best, "train_seconds": elapsed, "characters_seen": seen, "parameters": parameters}


@torch.no_grad()
def _score_lstm(model: PlainLSTM, ids: np.ndarray) -> float:
    """Return the nats per character of a text (N,) with the state carried from its beginning to its end."""
    text, total, states = torch.from_numpy(ids.astype(np.int64))[:, None], 0.0, None
    for begin in range(0, len(text) - 1, 4096):
        piece = text[begin : begin + 4097]
        mean, states = model.cross_entropy(piece, states)
        total += mean.item() * (len(piece) - 1)
    return total / (len(text) - 1)


def _windows(ids: np.ndarray, B: int, T: int) -> Iterator[tuple[Tensor, bool]]:
    """Yield consecutive windows (T+1, B) of B lanes without end, and whether the window begins the text."""
    size = (len(ids) - 1) // B
    lanes = torch.from_numpy(np.stack([ids[b * size : (b + 1) * size + 1] for b in range(B)], 1).astype(np.int64))
    while True:
        for begin in range(0, size, T):
            yield lanes[begin : begin + T + 1], begin == 0


# ------------------------------------------------------------------------------- measuring


def measure(quick: bool) -> dict[str, Any]:
    """Train and score all models. A complete run also draws docs/quality.png."""
    text = require_tinyshakespeare()
    seeds = SEEDS[:1] if quick else SEEDS
    budgets = dict(list(BUDGETS.items())[:1]) if quick else BUDGETS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = load_corpus(CorpusConfig(name="tinyshakespeare", path=str(text)), folder)
        result: dict[str, Any] = {"budgets": {}}
        for seconds, experiment in budgets.items():
            runs = [chargen_train(text, folder, seconds, seed=seed, experiment=experiment) for seed in seeds]
            result["budgets"][str(seconds)] = {
                "experiment": experiment,
                "runs": runs,
                "gpt": train_gpt(corpus, seconds),
            }
        longest = max(budgets)
        result["plain_lstm"] = train_lstm(corpus, longest)
        result["baselines"] = baselines(text, folder)
        if not quick:
            _draw_curves(result["budgets"][str(longest)])
    return result


def _draw_curves(row: dict[str, Any]) -> None:
    from chargen.insight.figures import compare_runs

    curves = {
        "chargen": [run["curve"] for run in row["runs"]],
        "GPT, 4 layers of 128, context 64": [row["gpt"]["curve"]],
    }
    compare_runs(ROOT / "docs" / "quality.png", "tinyshakespeare, two cores: nats per held-out character", curves)


# -------------------------------------------------------------------------------- the table


def table(result: dict[str, Any]) -> str:
    """Format the scores after each training time, then those of the other models."""
    rows, last = [], {}
    for seconds, row in result["budgets"].items():
        runs = row["runs"]
        rows.append(
            [
                f"{seconds} s, `+experiment={row['experiment']}`",
                str(len(runs)),
                *(_mean_and_deviation([run[protocol] for run in runs]) for protocol in "BAC"),
                f"{GOALS[int(seconds)]:.2f}",
                f"{runs[0]['parameters']:,}",
                f"{statistics.mean(run['characters_seen'] for run in runs) / 1e6:.1f} M",
                f"{row['gpt']['nats']:.4f}",
            ]
        )
        last = row
    headings = ["time", "seeds", "B, nats/char", "A", "C", "goal for B", "parameters", "characters seen", "baby GPT"]
    plain, gpt = result["plain_lstm"], last["gpt"]
    others = [
        (f"plain `nn.LSTM`, {plain['train_seconds']:.0f} s, {plain['parameters']:,} parameters", plain["nats"], "B"),
        (f"baby GPT, {gpt['train_seconds']:.0f} s, {gpt['parameters']:,} parameters", gpt["nats"], "windows of 64"),
        *((name, nats, "this text, same split") for name, nats in result["baselines"].items()),
        *PUBLISHED,
    ]
    parts = [
        "tinyshakespeare, trained on the first nine tenths and scored on the last tenth, mean and standard deviation "
        "over seeds. Protocol A scores windows from a zero state, protocol B carries one state through the held-out "
        "text, and in protocol C the model also learns while it is scored:",
        markdown_table(headings, rows),
        "Other models and baselines, measured in the same run or published elsewhere:",
        markdown_table(
            ("", "nats/char", "protocol or source"), [(model, f"{nats:.4f}", source) for model, nats, source in others]
        ),
    ]
    return "\n\n".join(parts)


def _mean_and_deviation(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    main(measure, table)
