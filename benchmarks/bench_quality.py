"""Nats per character for the minutes: `chargen train` by the clock, beside a small GPT and a plain LSTM.

A row of chargen's is a process from the first update to the best weights, its length set by `trainer.max_time`; its
ten looks at the held-out text are within that time, those of the others are not. Scores are of the last tenth of a
text, which is not trained on:

- A: windows of 256 characters that know nothing of what came before.
- B: one state carried through the whole of it. The headline.
- C: B, while the model goes on learning from what it has read (Krause et al. 2018), by the rms rule. Its three
  constants were chosen on the first 20,000 characters of tinyshakespeare's held-out text.

The baby GPT sees 64 characters, and is scored in windows of that size. The plain LSTM is `nn.LSTM`, 1 x 256, with
AdamW and a cosine to the end of its time, no dropout, B 16, T 32: what a page of torch gives. Its score is B.
Other texts have a script of their own, bench_texts.py.
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
from measure import ROOT, main, markdown
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.config import CorpusConfig
from chargen.corpus.encoded import Corpus, load_corpus
from chargen.evaluation.dynamic import RMS, gradient_mean_squares, score_dynamic
from chargen.evaluation.score import score_streaming, score_windowed
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ModelFile

SHARED = ROOT.parent / "shared" / "data"
BUDGETS = {15: "fifteen_seconds", 60: "one_minute", 180: "three_minutes"}
"""Seconds, and the experiment that is made for them."""

GOALS = {15: 1.88, 60: 1.58, 180: 1.47}  # nats per character, protocol B
SEEDS = (1, 2, 3)
VALIDATIONS = 10

PEERS = (
    ("nanoGPT's CPU recipe, 0.80 M parameters, 183 s, windows of 64", 1.8857, "run on two cores"),
    ("nanoGPT's GPU recipe, 10.65 M, 3 min of an A100, windows of 256", 1.4697, "its README"),
    ("minGRU, minLSTM, 3 layers of 384, on a GPU", 1.548, "arXiv 2410.01201"),
    ("torch-rnn, 3 x 800, 14 M, on a GPU", 1.629, "its pull request 20"),
    ("PPMd, order 6, adapting as protocol C does", 1.4061, "extra bytes behind the training text"),
)
"""Of tinyshakespeare: what, nats per character, where it was found."""


# ------------------------------------------------------------------------------- chargen


def chargen_train(text: Path, folder: Path, seconds: int, seed: int, experiment: str | None) -> dict[str, Any]:
    """Trains by the command, and scores what it leaves behind."""
    run = Path(tempfile.mkdtemp(dir=folder))
    time_limit = f"trainer.max_time=00:00:{seconds // 60:02}:{seconds % 60:02}"
    own = [f"+experiment={experiment}"] if experiment else [time_limit]
    words = ["train", str(text), *own, f"seed={seed}", "sample_length=0", f"run_dir={run}", f"data_dir={folder}"]
    command(*words)
    return scored(run, text, folder)


def scored(run: Path, text: Path, folder: Path) -> dict[str, Any]:
    """What a finished run comes to, by protocols A, B and C."""
    corpus = load_corpus(CorpusConfig(name="text", path=str(text)), folder)
    model_file = ModelFile.load(run / "model.safetensors")
    model = CharRNN.from_model_file(model_file)
    squares = gradient_mean_squares(model, corpus.train, RMS.window_size)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    with open(run / "metrics.csv", encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("validation_nats_per_char")]
    return {
        "A": score_windowed(model, corpus.validation).nats_per_char,
        "B": score_streaming(model, corpus.validation).nats_per_char,
        "C": score_dynamic(model, corpus.validation, RMS, squares).nats_per_char,
        "weight_dropout": model_file.config.weight_dropout,
        **{key: summary[key] for key in ("parameters", "characters_seen", "train_seconds", "updates")},
        "curve": [[float(row["seconds"]), float(row["validation_nats_per_char"])] for row in rows],
    }


def baselines(text: Path, folder: Path) -> dict[str, float]:
    """What `chargen evaluate --baselines` says of a text."""
    run = Path(tempfile.mkdtemp(dir=folder))
    short = ["trainer.max_steps=2", "model=tiny", "sample_length=0"]
    command("train", str(text), *short, f"run_dir={run}", f"data_dir={folder}")
    command("evaluate", str(run), "--baselines", "--json", str(run / "scores.json"))
    return dict(json.loads((run / "scores.json").read_text(encoding="utf-8"))["baselines"])


def command(*words: str) -> None:
    """Runs `chargen`, and says what it said if it fails."""
    run = subprocess.run([sys.executable, "-m", "chargen", *words], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"chargen {words[0]} failed: {run.stderr.strip().splitlines()[-1:]}")


# ------------------------------------------------------------------------------ the others


def train_gpt(corpus: Corpus, seconds: float) -> dict[str, Any]:
    """The baby GPT for so many seconds; its schedule ends with them."""
    torch.manual_seed(1)
    ids, held_out = (torch.from_numpy(part.astype(np.int64)) for part in (corpus.train, corpus.validation))
    model = baby_gpt.BabyGPT(corpus.tokenizer.vocab_size)
    trial, updates = baby_gpt.train(baby_gpt.BabyGPT(corpus.tokenizer.vocab_size), ids, 1000), 60
    next(trial)
    began = time.monotonic()
    for _ in range(updates):
        next(trial)
    total = int(seconds / (time.monotonic() - began) * updates)
    curve, taken, looks = [], 0.0, 1
    began = time.monotonic()
    for number, _ in enumerate(baby_gpt.train(model, ids, total), 1):
        taken = time.monotonic() - began
        if number == total or taken >= looks * seconds / VALIDATIONS:
            curve.append([taken, _gpt_score(model, held_out)])
            began += time.monotonic() - began - taken  # looking is not learning
            looks += 1
        if taken >= seconds:
            break
    return {
        "nats": min(nats for _, nats in curve),
        "curve": curve,
        "train_seconds": taken,
        "characters_seen": number * baby_gpt.BATCH_SIZE * baby_gpt.CONTEXT,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def _gpt_score(model: baby_gpt.BabyGPT, ids: Tensor) -> float:
    model.eval()
    whole = (len(ids) - 1) // baby_gpt.CONTEXT * baby_gpt.CONTEXT
    inputs, targets = ids[:whole].view(-1, baby_gpt.CONTEXT), ids[1 : whole + 1].view(-1, baby_gpt.CONTEXT)
    total = 0.0
    for x, y in zip(inputs.split(64), targets.split(64), strict=True):
        total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
    return total / whole


class PlainLSTM(nn.Module):
    """Embedding, `nn.LSTM`, head."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(vocab_size, 64), nn.LSTM(64, 256)
        self.head = nn.Linear(256, vocab_size)

    def cross_entropy(self, ids: Tensor, states: Any) -> tuple[Tensor, Any]:
        """The mean of -ln p over ids (T+1, B), the first of each lane being context, and the states behind them."""
        outputs, states = self.lstm(self.embedding(ids[:-1]), states)
        states = tuple(state.detach() for state in states)
        return F.cross_entropy(self.head(outputs).flatten(0, 1), ids[1:].flatten()), states


def train_lstm(corpus: Corpus, seconds: float) -> dict[str, Any]:
    """A plain `nn.LSTM` for so many seconds; the best of ten looks counts, as it does for chargen."""
    torch.manual_seed(1)
    model, looks, best = PlainLSTM(corpus.tokenizer.vocab_size), 1, math.inf
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    windows, states, seen = _windows(corpus.train, 16, 32), None, 0
    began = time.monotonic()
    while (taken := time.monotonic() - began) < seconds:
        ids, starts = next(windows)
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (seen + 1) / 50_000) * 0.5 * (1 + math.cos(math.pi * taken / seconds))
        loss, states = model.cross_entropy(ids, None if starts else states)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += ids[1:].numel()
        if looks < VALIDATIONS and time.monotonic() - began >= looks * seconds / VALIDATIONS:
            before = time.monotonic()
            best = min(best, _lstm_score(model, corpus.validation))
            began += time.monotonic() - before
            looks += 1
    best = min(best, _lstm_score(model, corpus.validation))
    parameters = sum(p.numel() for p in model.parameters())
    return {"nats": best, "train_seconds": taken, "characters_seen": seen, "parameters": parameters}


@torch.no_grad()
def _lstm_score(model: PlainLSTM, ids: np.ndarray) -> float:
    text, total, states = torch.from_numpy(ids.astype(np.int64))[:, None], 0.0, None
    for begin in range(0, len(text) - 1, 4096):
        piece = text[begin : begin + 4097]
        mean, states = model.cross_entropy(piece, states)
        total += mean.item() * (len(piece) - 1)
    return total / (len(text) - 1)


def _windows(ids: np.ndarray, B: int, T: int) -> Iterator[tuple[Tensor, bool]]:
    """Windows (T+1, B) of B lanes, one after the other for ever, and whether the text begins again."""
    lane = (len(ids) - 1) // B
    lanes = torch.from_numpy(np.stack([ids[b * lane : (b + 1) * lane + 1] for b in range(B)], 1).astype(np.int64))
    while True:
        for begin in range(0, lane, T):
            yield lanes[begin : begin + T + 1], begin == 0


# ------------------------------------------------------------------------------- measuring


def measure(quick: bool) -> dict[str, Any]:
    """Everything in the tables, and docs/quality.png."""
    text = SHARED / "tinyshakespeare.txt"
    if not text.exists():
        raise SystemExit(f"there is no {text.relative_to(ROOT.parent)}: the table is of that text")
    seeds = SEEDS[:1] if quick else SEEDS
    budgets = dict(list(BUDGETS.items())[:1]) if quick else BUDGETS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = load_corpus(CorpusConfig(name="tinyshakespeare", path=str(text)), folder)
        result: dict[str, Any] = {"budgets": {}}
        for seconds, experiment in budgets.items():
            runs = [chargen_train(text, folder, seconds, seed, experiment) for seed in seeds]
            result["budgets"][str(seconds)] = {
                "experiment": experiment,
                "runs": runs,
                "gpt": train_gpt(corpus, seconds),
            }
        longest = max(budgets)
        result["plain_lstm"] = train_lstm(corpus, longest)
        result["baselines"] = baselines(text, folder)
        if not quick:
            _draw(result["budgets"][str(longest)])
    return result


def _draw(row: dict[str, Any]) -> None:
    from chargen.insight.figures import compare_runs

    curves = {
        "chargen": [run["curve"] for run in row["runs"]],
        "GPT, 4 layers of 128, context 64": [row["gpt"]["curve"]],
    }
    compare_runs(ROOT / "docs" / "quality.png", "tinyshakespeare, two cores: nats per held-out character", curves)


# -------------------------------------------------------------------------------- the table


def table(result: dict[str, Any]) -> str:
    """Budgets beside their peers."""
    rows, last = [], {}
    for seconds, row in result["budgets"].items():
        runs = row["runs"]
        how = f"`+experiment={row['experiment']}`" if row["experiment"] else "defaults"
        rows.append(
            [
                f"{seconds} s, {how}",
                str(len(runs)),
                *(_spread([run[protocol] for run in runs]) for protocol in "BAC"),
                f"{GOALS[int(seconds)]:.2f}",
                f"{runs[0]['parameters']:,}",
                f"{statistics.mean(run['characters_seen'] for run in runs) / 1e6:.1f} M",
                f"{row['gpt']['nats']:.4f}",
            ]
        )
        last = row
    headings = ["time", "seeds", "B, nats/char", "A", "C", "goal for B", "parameters", "characters seen", "baby GPT"]
    plain, gpt = result["plain_lstm"], last["gpt"]
    beside = [
        (f"plain `nn.LSTM`, {plain['train_seconds']:.0f} s, {plain['parameters']:,} parameters", plain["nats"], "B"),
        (f"baby GPT, {gpt['train_seconds']:.0f} s, {gpt['parameters']:,} parameters", gpt["nats"], "windows of 64"),
        *((name, nats, "this text, same split") for name, nats in result["baselines"].items()),
        *PEERS,
    ]
    parts = [
        "tinyshakespeare, the first nine tenths trained on, mean and standard deviation over seeds:",
        markdown(headings, rows),
        "Beside it, in the same run or as published:",
        markdown(("", "nats/char", "found"), [(what, f"{nats:.4f}", where) for what, nats, where in beside]),
    ]
    return "\n\n".join(parts)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    main(measure, table)
