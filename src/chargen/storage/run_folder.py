"""The folder of a run: the names of its files, and how to find a run and its model."""

from __future__ import annotations

from pathlib import Path

from chargen.errors import FileError
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


def newest_run() -> Path:
    """Return the folder of the run whose model was written last.

    Raises:
        FileError: there is none.
    """
    models = sorted(RUNS.rglob(MODEL), key=lambda file: file.stat().st_mtime)
    if not models:
        raise FileError(f"there is no run in {RUNS}/ yet: train one with `chargen train`, or name a model's file")
    return models[-1].parent


def load_model(where: Path | None) -> ModelFile:
    """Load the model of a run.

    Args:
        where: a run's folder, a `model.safetensors` or a `last.ckpt`; None for the newest run.

    Raises:
        FileError: there is none, or it cannot be read.
    """
    where = where or newest_run()
    if where.is_dir():
        file = where / MODEL if (where / MODEL).is_file() else where / CHECKPOINT
        if not file.is_file():
            raise FileError(f"{where} holds no {MODEL} and no {CHECKPOINT}: it is not a run, or has not validated yet")
    else:
        file = where
    if not file.is_file():
        raise FileError(f"no such run: {where}{existing_runs()}")
    if file.suffix != ".ckpt":
        return ModelFile.load(file)
    return Checkpoint.read(file).model_file()


def existing_runs() -> str:
    """Name the runs that exist, to complete a message about one that does not."""
    found = sorted({str(file.parent) for name in (MODEL, CHECKPOINT) for file in RUNS.rglob(name)})
    return f"; there are {', '.join(found[-3:])}" if found else "; train one with `chargen train`"
