"""`chargen plot` draws the learning curve of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Chargen = Callable[..., tuple[int, str, str]]


def test_the_learning_curve_is_drawn(chargen: Chargen, away: Path) -> None:
    (away / "r").mkdir()
    rows = (
        "update,seconds,train_nats_per_char,validation_nats_per_char,learning_rate\n1,1.0,3.0,,0.1\n2,2.0,2.0,2.5,0.2\n"
    )
    (away / "r" / "metrics.csv").write_text(rows)
    code, out, _ = chargen("plot", "r")
    assert (code, out.strip()) == (0, "r/curve.png")
    assert (away / "r" / "curve.png").read_bytes().startswith(b"\x89PNG")
