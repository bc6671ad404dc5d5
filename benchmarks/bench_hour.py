"""Quality after one hour: `+experiment=one_hour` on tinyshakespeare, one seed, protocols as in bench_quality.py.

The run is written to runs/one_hour. An interrupted run in that folder is resumed. A finished one is only scored.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench_quality import require_tinyshakespeare, run_chargen, score_run
from measure import ROOT, main, markdown_table

GOAL = 1.40  # nats per character, protocol B
RUN_DIR = ROOT / "runs" / "one_hour"


def measure(quick: bool) -> dict[str, Any]:
    """Train, resume or only score the run. A quick run trains for one minute in a temporary folder."""
    text = require_tinyshakespeare()
    with tempfile.TemporaryDirectory() as name:
        run_dir = Path(name) / "run" if quick else RUN_DIR
        if not (run_dir / "summary.json").exists():
            settings = ["+experiment=one_hour", *(["trainer.max_time=00:00:01:00"] if quick else [])]
            new_run = [str(text), *settings, "sample_length=0", f"run_dir={run_dir}", f"data_dir={name}"]
            run_chargen("train", *([f"resume={run_dir}"] if (run_dir / "last.ckpt").exists() else new_run))
        return score_run(run_dir, text, Path(name))


def table(run: dict[str, Any]) -> str:
    """Format the scores as a table of one row, and the validation losses during the run as a sentence."""
    headings = ("B, nats/char", "A", "C", "goal for B", "parameters", "characters seen", "updates", "seconds")
    row = (
        *(f"{run[protocol]:.4f}" for protocol in "BAC"),
        f"{GOAL:.2f}",
        f"{run['parameters']:,}",
        f"{run['characters_seen'] / 1e6:.1f} M",
        f"{run['updates']:,}",
        f"{run['train_seconds']:,.0f}",
    )
    losses = ", ".join(f"{nats:.3f} after {seconds / 60:.0f}" for seconds, nats in run["curve"])
    return (
        f"{markdown_table(headings, [row])}\n\nValidation loss during the run, nats per character after minutes of "
        f"training: {losses}."
    )


if __name__ == "__main__":
    main(measure, table)
