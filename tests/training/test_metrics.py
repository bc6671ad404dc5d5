"""`metrics.csv` holds what the run has measured, and nothing of updates that were lost."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import Timer
from rich.console import Console
from support.runs import module_for, plan, run

from chargen.errors import FileError
from chargen.planning.length import RunLength
from chargen.training.metrics import COLUMNS, MetricsFile
from chargen.training.progress import ProgressReport
from chargen.training.run_length import RunLengthCallback
from chargen.training.validations import Validations


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_metrics_and_lines_of_a_run(tmp_path: Path) -> None:
    clock, out = Timer(verbose=False), io.StringIO()
    length, counted = RunLength(None, 12), plan(max_steps=12, val_check_interval=6)
    metrics = MetricsFile(tmp_path / "metrics.csv", clock, counted.characters_seen)
    validations = Validations(clock, length, counted, print)
    report = ProgressReport(
        Console(file=out), clock, lambda: validations.seconds, max_seconds=None,
        characters_seen=counted.characters_seen, log_every=4, line_seconds=0.0,
    )  # fmt: skip
    settings = {"log_every_n_steps": 4, "val_check_interval": 6, "check_val_every_n_epoch": None, "logger": [metrics]}
    run_length = RunLengthCallback(clock, length, counted, validations, print)
    run(module_for("gru", 12), tmp_path, clock, run_length, validations, report, **settings)
    rows = rows_of(tmp_path / "metrics.csv")
    assert [int(row["update"]) for row in rows if row["train_nats_per_char"]] == [4, 8, 12]
    assert [int(row["update"]) for row in rows if row["validation_nats_per_char"]] == [6, 12]
    counts = {int(row["update"]): int(row["characters"]) for row in rows}
    assert counts == {4: 4 * 15, 6: 6 * 15 - 6, 8: 8 * 15 - 6, 12: 2 * (6 * 15 - 6)}  # the last of a pass is short
    assert all(float(row["gradient_norm"]) > 0 for row in rows if row["gradient_norm"])
    lines = out.getvalue().splitlines()
    assert lines[-1].startswith("100%  update 12  loss ")
    assert all(word in lines[-1] for word in ("nats", "bpc", "k chars/s", "clipped"))


def test_rows_of_lost_updates_are_dropped(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.csv", Timer(verbose=False), lambda update: 10 * update)
    for update in (5, 10, 15):
        metrics.log_metrics({"train_nats_per_char": 1.0, "unknown_metric": 3.0}, step=update)
    metrics.log_metrics({"skipped": 1.0}, step=14)
    metrics.drop_after(10, keep_events=True)
    assert [row["update"] for row in rows_of(tmp_path / "metrics.csv")] == ["5", "10", "14"]
    metrics.drop_after(10)
    metrics.log_metrics({"train_nats_per_char": 2.0}, step=15)
    rows = rows_of(tmp_path / "metrics.csv")
    assert [(row["update"], row["train_nats_per_char"]) for row in rows] == [("5", "1"), ("10", "1"), ("15", "2")]
    assert tuple(rows[0]) == COLUMNS


def test_columns_of_version_0_1_are_renamed(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("update,seconds,left_out,returns\n3,1.0,1,\n4,2.0,,1\n", encoding="utf-8")
    MetricsFile(file, Timer(verbose=False), int).drop_after(4)
    assert [(row["skipped"], row["rollbacks"]) for row in rows_of(file)] == [("1", ""), ("", "1")]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"update\n\xff\xfe")
    with pytest.raises(FileError, match=r"metrics\.csv is damaged: move it away"):
        MetricsFile(tmp_path / "metrics.csv", Timer(verbose=False), int).drop_after(4)
