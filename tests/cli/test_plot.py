"""`chargen plot` draws the learning curve of a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Chargen = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(away: Path) -> Path:
    """A run of two updates."""
    (away / "r").mkdir()
    rows = (
        "update,seconds,train_nats_per_char,validation_nats_per_char,learning_rate\n1,1.0,3.0,,0.1\n2,2.0,2.0,2.5,0.2\n"
    )
    (away / "r" / "metrics.csv").write_text(rows)
    return away / "r"


def test_the_learning_curve_is_drawn(chargen: Chargen, run: Path, away: Path) -> None:
    code, out, _ = chargen("plot", "r")
    assert (code, out.strip()) == (0, "r/curve.png")
    assert (away / "r" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert chargen("plot", "r")[0] == 0  # the curve of a run is replaced


def test_another_picture_is_replaced_only_if_told_to(chargen: Chargen, run: Path, away: Path) -> None:
    (away / "p.svg").write_text("notes")
    code, out, err = chargen("plot", "r", "--output", "p.svg")
    assert (code, out, (away / "p.svg").read_text()) == (2, "", "notes")
    assert err == "chargen: p.svg exists: write --force to replace it, or the name of another file\n"
    assert chargen("plot", "r", "--output", "p.svg", "--force")[:2] == (0, "p.svg\n")
    assert "<svg" in (away / "p.svg").read_text()


def test_a_picture_goes_through_a_pipe(run: Path, away: Path) -> None:
    command = [sys.executable, "-m", "chargen", "plot", "r", "--output", "-"]
    plotted = subprocess.run(command, capture_output=True, check=True)
    assert plotted.stderr == b""
    assert plotted.stdout.startswith(b"\x89PNG")
    assert plotted.stdout.endswith(b"IEND\xaeB`\x82")  # and nothing behind it
    assert not (away / "-").exists()


def test_a_run_without_measurements_is_not_damaged(chargen: Chargen, run: Path) -> None:
    """It was killed before its first measurement; the picture is empty."""
    header = (run / "metrics.csv").read_text().splitlines()[0]
    (run / "metrics.csv").write_text(f"{header}\n")
    assert chargen("plot", "r") == (0, "r/curve.png\n", "")
