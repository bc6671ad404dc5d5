"""A second text: a minute of training that begins with the weights of another run, and a minute from random weights.

The first run reads the first part of tinyshakespeare, or of the couplets of the Tang dynasty, for three minutes. The
second text is the rest of the file, a few plays or later poems: its last tenth is held out. `init=RUN` is tried with
the learning rate of random weights and with smaller ones. Scores are nats per character by protocol B.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from bench_quality import run_chargen
from measure import find_text, main, markdown_table

FIRST_SECONDS, SECONDS = 180, 60
RATES = (4e-3, 2e-3, 1e-3)
"""Learning rates of a run with `init`: that of random weights, a half and a quarter, which is the default."""

TEXTS = {"plays": ("tinyshakespeare.txt", 900_000), "couplets": ("tang_couplets.txt", 700_000)}
"""The file of each pair of texts, and where it is cut, in characters."""


def write_parts(folder: Path, name: str, cut: int) -> tuple[Path, Path] | None:
    """Write both parts of a file, cut behind a line; None if there is no such file."""
    file = find_text(name)
    if file is None:
        return None
    text = file.read_text(encoding="utf-8")
    cut = text.index("\n", cut) + 1
    parts = folder / f"first_{name}", folder / f"second_{name}"
    for part, content in zip(parts, (text[:cut], text[cut:]), strict=True):
        part.write_text(content, encoding="utf-8")
    return parts


def train(text: Path, folder: Path, seconds: int, *settings: str) -> tuple[Path, float]:
    """Train on a text; return the folder of the run and its score."""
    run_dir = Path(tempfile.mkdtemp(dir=folder))
    run_chargen(
        "train", str(text), f"trainer.max_time={seconds}s", "sample_length=0", f"run_dir={run_dir}",
        f"data_dir={folder}", *settings,
    )  # fmt: skip
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return run_dir, float(summary["validation_nats_per_char"])


def measure(quick: bool) -> dict[str, Any]:
    """Train on both texts. A quick run takes the plays, small models, and five to ten seconds."""
    result: dict[str, Any] = {}
    first_seconds, seconds = (10, 5) if quick else (FIRST_SECONDS, SECONDS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, (file, cut) in list(TEXTS.items())[: 1 if quick else None]:
            if (parts := write_parts(folder, file, cut)) is None:
                continue
            first, second = parts
            sizes = ["model=small"] if quick or label == "couplets" else []
            run_dir, first_score = train(first, folder, first_seconds, *sizes)
            scores = {"random": train(second, folder, seconds, *sizes)[1]}
            for rate in RATES[: 1 if quick else None]:
                settings = (f"init={run_dir}", f"optimizer.learning_rate={rate}")
                scores[f"{rate:g}"] = train(second, folder, seconds, *settings)[1]
            result[label] = {"first": first_score, "scores": scores, "characters": len(second.read_text("utf-8"))}
    return {"texts": result, "seconds_of_second": seconds}


def table(result: dict[str, Any]) -> str:
    """Format a row for each second text."""
    rows = []
    for label, row in result["texts"].items():
        scores = row["scores"]
        with_init = [f"{score:.4f}" for name, score in scores.items() if name != "random"]
        best = min(score for name, score in scores.items() if name != "random")
        rows.append((label, f"{row['characters']:,}", f"{scores['random']:.4f}", *with_init,
                     f"{scores['random'] - best:+.4f}"))  # fmt: skip
    rates = [name for name in next(iter(result["texts"].values()))["scores"] if name != "random"]
    headings = ("second text", "characters", "random weights", *(f"`init`, rate {rate}" for rate in rates), "gain")
    return f"{result['seconds_of_second']} seconds each:\n\n{markdown_table(headings, rows)}"


if __name__ == "__main__":
    main(measure, table)
