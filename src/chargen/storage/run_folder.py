"""The folder of a run: the names of its files, and how to find a run and its model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from chargen.errors import FileError
from chargen.storage.atomic import as_path, previous_path
from chargen.storage.checkpoint import CHECKPOINT, Checkpoint
from chargen.storage.model_file import ModelFile

RUNS = Path("runs")
"""The folder in which new runs are created."""

MODEL = "model.safetensors"
METRICS = "metrics.csv"
SAMPLES = "samples.txt"
SUMMARY = "summary.json"
CONFIG = "config.yaml"
TOKENIZER = "tokenizer.json"
PROFILE = "fit-profile.txt"  # Lightning makes this name

RUN_FILES = frozenset(
    (MODEL, METRICS, SAMPLES, SUMMARY, CONFIG, TOKENIZER, PROFILE, CHECKPOINT, str(previous_path(Path(CHECKPOINT))))
)
"""The files that a run writes."""

_COMMON = frozenset((MODEL, TOKENIZER))  # other programs write files of these names side by side, too


def is_run_folder(folder: Path) -> bool:
    """Tell whether a folder is that of a run, by its files: it may have been moved or renamed."""
    found = [name for name in RUN_FILES if (folder / name).is_file()]
    return len(found) > 1 and not _COMMON.issuperset(found)


def is_runs_folder(folder: Path) -> bool:
    """Tell whether a folder is the one in which chargen creates runs: its name, and a run or a sweep in it."""
    if folder.name != RUNS.name:
        return False
    return any(map(is_run_folder, chain(folder.glob("*/"), folder.glob("*/*/"))))


def run_folders(top: Path) -> Iterator[Path]:
    """Yield the folders at or below `top` that hold a run, a model or a checkpoint."""
    for place, folders, names in os.walk(top):
        folders.sort()
        folder = Path(place)
        if not {MODEL, CHECKPOINT}.isdisjoint(names) or is_run_folder(folder):
            yield folder


def newest_run() -> Path:
    """Return the folder of the run whose model was written last.

    Raises:
        FileError: there is none.
    """
    models = sorted(filter(Path.is_file, RUNS.rglob(MODEL)), key=lambda file: file.stat().st_mtime)
    if not models:
        raise FileError(f"there is no run in {RUNS}/ yet: train one with `chargen train`, or name a model's file")
    return models[-1].parent


def load_model(where: str | os.PathLike[str] | None) -> ModelFile:
    """Load the model of a run.

    Args:
        where: a run's folder, a `model.safetensors` or a `last.ckpt`; `~` is the home folder; None for the newest run.

    Raises:
        ArgumentError: `where` is not a path.
        FileError: there is none, or it cannot be read.
    """
    place = newest_run() if where is None else as_path(where, allowed="a string, a path or None")
    if place.is_dir():
        file = place / MODEL if (place / MODEL).is_file() else place / CHECKPOINT
        if not file.is_file():
            raise FileError(f"{place} holds no {MODEL} and no {CHECKPOINT}: it is not a run, or has not validated yet")
    else:
        file = place
    if not file.is_file():
        raise FileError(f"no such run: {place}{existing_runs()}")
    if file.suffix != ".ckpt":
        return ModelFile.load(file)
    return Checkpoint.read(file).model_file()


def existing_runs() -> str:
    """Name the runs that exist, to complete a message about one that does not."""
    found = sorted({str(file.parent) for name in (MODEL, CHECKPOINT) for file in RUNS.rglob(name)})
    return f"; there are {', '.join(found[-3:])}" if found else "; train one with `chargen train`"
