"""What an hour is worth: `+experiment=one_hour` on tinyshakespeare, one seed, by the protocols of bench_quality.py.

The run is written to runs/one_hour. One that was stopped there goes on, one that is finished is only scored.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench_quality import SHARED, command, scored
from measure import ROOT, main, markdown

GOAL = 1.40  # nats per character, protocol B
RUN = ROOT / "runs" / "one_hour"


def measure(quick: bool) -> dict[str, Any]:
    """Trains, goes on or only scores; a quick one takes a minute, in a folder of its own."""
    text = SHARED / "tinyshakespeare.txt"
    if not text.exists():
        raise SystemExit(f"there is no {text.relative_to(ROOT.parent)}: the table is of that text")
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run" if quick else RUN
        if not (run / "summary.json").exists():
            shape = ["+experiment=one_hour", *(["trainer.max_time=00:00:01:00"] if quick else [])]
            fresh = [str(text), *shape, "sample_length=0", f"run_dir={run}", f"data_dir={name}"]
            command("train", *([f"resume={run}"] if (run / "last.ckpt").exists() else fresh))
        return scored(run, text, Path(name))


def table(run: dict[str, Any]) -> str:
    """One row, and the curve in words."""
    headings = ("B, nats/char", "A", "C", "goal for B", "parameters", "characters seen", "updates", "seconds")
    row = (
        *(f"{run[protocol]:.4f}" for protocol in "BAC"),
        f"{GOAL:.2f}",
        f"{run['parameters']:,}",
        f"{run['characters_seen'] / 1e6:.1f} M",
        f"{run['updates']:,}",
        f"{run['train_seconds']:,.0f}",
    )
    looks = ", ".join(f"{nats:.3f} after {seconds / 60:.0f}" for seconds, nats in run["curve"])
    return f"{markdown(headings, [row])}\n\nNats per held-out character on the way, by minutes: {looks}."


if __name__ == "__main__":
    main(measure, table)
