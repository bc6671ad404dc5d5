"""The files of a run, written without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from chargen.storage.run_folder import CONFIG, METRICS, SUMMARY


def write_log(folder: Path, *rows: tuple[int, float, float | str]) -> None:
    """Write a log of updates, seconds and validation scores."""
    lines = [f"{update},{seconds},{score}" for update, seconds, score in rows]
    (folder / METRICS).write_text("update,seconds,validation_nats_per_char\n" + "\n".join(lines) + "\n")


def write_summary(folder: Path, updates: int, score: float = 1.5) -> None:
    """Write the summary of a run of 9 seconds."""
    content = {"validation_nats_per_char": score, "updates": updates, "train_seconds": 9.0}
    (folder / SUMMARY).write_text(json.dumps(content))


def write_config(folder: Path, path: Any, **trainer: Any) -> None:
    """Write the settings of a run that learns from `path`."""
    settings = {"corpus": {"name": "text", "path": path}, "trainer": trainer, "run_dir": str(folder)}
    (folder / CONFIG).write_text(
        yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8", errors="backslashreplace"
    )
