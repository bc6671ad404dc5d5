"""What the files of a run say about it, read without torch: `chargen runs` lists it."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chargen.config import ModelConfig
from chargen.errors import FileError
from chargen.storage.checkpoint import CHECKPOINT
from chargen.storage.checksum import has_checksum
from chargen.storage.locks import is_locked
from chargen.storage.model_file import ESTIMATE, read_header
from chargen.storage.run_folder import CONFIG, METRICS, MODEL, RUN_FILES, SUMMARY, run_folders

MAX_BYTES = 1 << 24
"""The largest file of text of a run that is read: years of training make less."""


@dataclass
class RunRecord:
    """What the files of a run say.

    Attributes:
        folder: the folder of the run.
        written: when its last file was written, in seconds as `time.time` counts them.
        is_running: whether a process writes to it.
        config: its settings, as its file holds them; empty if there is none.
        corpus: `name`, `characters` and more about its text.
        model: the shape of its model; None before the first validation.
        updates: how far it came.
        seconds: how long it trained.
        score: nats per character; None if there is none.
        is_final: whether `score` is that of the end of the run, by protocol B; otherwise, it is the best validation.
        has_checkpoint: whether it can be continued.
        damaged: the names of files that cannot be read.
    """

    folder: Path
    written: float = 0.0
    is_running: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)
    model: ModelConfig | None = None
    updates: int = 0
    seconds: float = 0.0
    score: float | None = None
    is_final: bool = False
    has_checkpoint: bool = False
    damaged: list[str] = field(default_factory=list)

    @property
    def unit(self) -> str:
        """What the model reads and writes: `character` or `byte`."""
        corpus = self.config.get("corpus")
        return "byte" if isinstance(corpus, dict) and corpus.get("unit") == "byte" else "character"


def list_runs(top: Path) -> list[RunRecord]:
    """Describe the runs at and below a folder, the newest last.

    Raises:
        FileError: there is no such folder.
    """
    if not top.is_dir():
        raise FileError(f"no such folder: {top}")
    return sorted(map(read_run, run_folders(top)), key=lambda run: run.written)


def read_run(folder: Path) -> RunRecord:
    """Describe a run. Files that are missing say nothing; files that cannot be read are named."""
    run = RunRecord(folder, max(_written(folder / name) for name in RUN_FILES))
    for name, read in _READERS.items():
        if (folder / name).is_file():
            try:
                read(folder / name, run)
            # FileError, and what damaged JSON, YAML and CSV raise, are ValueErrors
            except (OSError, ValueError, csv.Error, LookupError, TypeError, AttributeError, RecursionError):
                run.damaged.append(name)
    run.is_running = is_locked(folder)
    return run


def _written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _text_of(file: Path) -> str:
    if file.stat().st_size > MAX_BYTES:
        raise ValueError("larger than any that chargen writes")
    return file.read_text(encoding="utf-8")


def _read_config(file: Path, run: RunRecord) -> None:
    import yaml

    try:
        run.config = dict(yaml.safe_load(_text_of(file)))  # yaml's compiled loader refuses names that are not UTF-8
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _read_model(file: Path, run: RunRecord) -> None:
    run.model, metadata = read_header(file)
    run.corpus = dict(metadata.get("corpus") or {})
    run.config = run.config or dict(metadata.get("config") or {})
    run.updates = int(metadata.get("updates") or 0)
    run.score = _finite(metadata.get(ESTIMATE))


def _read_metrics(file: Path, run: RunRecord) -> None:
    scores = []
    for row in csv.DictReader(_text_of(file).splitlines()):
        run.updates, run.seconds = max(run.updates, int(row["update"])), float(row["seconds"])
        if row.get("validation_nats_per_char"):
            scores.append(float(row["validation_nats_per_char"]))
    run.score = min(filter(math.isfinite, scores), default=run.score)


def _read_summary(file: Path, run: RunRecord) -> None:
    summary = json.loads(_text_of(file))
    score, updates = float(summary["validation_nats_per_char"]), int(summary["updates"])
    if updates >= run.updates:  # otherwise, the run went on and has not come to its new end
        run.score, run.updates, run.is_final = _finite(score), updates, True
        run.seconds = float(summary["train_seconds"])


def _read_checkpoint(file: Path, run: RunRecord) -> None:
    run.has_checkpoint = True
    if not has_checksum(file):
        raise ValueError("it was cut off")


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


_READERS = {
    CONFIG: _read_config,
    MODEL: _read_model,
    METRICS: _read_metrics,
    SUMMARY: _read_summary,
    CHECKPOINT: _read_checkpoint,
}
"""How each file of a run is read; a later one may correct an earlier one."""
