"""Finds a trained model: a run's folder, one of its two files, or the newest run of all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from chargen.storage.atomic import checksum_matches, previous_path
from chargen.storage.model_file import FORMAT_VERSION, ModelFile
from chargen.storage.plain_data import load_plain, require_plain

RUNS = Path("runs")
MODEL, CHECKPOINT = "model.safetensors", "last.ckpt"


_PARTS = (
    (("hyper_parameters", "model"), dict),
    (("hyper_parameters", "tokenizer"), str),
    (("hyper_parameters", "run"), dict),
    (("hyper_parameters", "run", "config"), dict),
    (("hyper_parameters", "run", "corpus", "sha256"), str),
    (("state_dict",), dict),
    (("global_step",), int),
    (("callbacks", "Timer", "time_elapsed", "train"), float),
    (("chargen", "plan", "total"), (int, type(None))),
)
"""Of a checkpoint of chargen, what is looked at before Lightning is, and what it is."""


def newest() -> Path:
    """The folder of the run whose model was written last.

    Raises:
        ValueError: there is none.
    """
    models = sorted(RUNS.rglob(MODEL), key=lambda file: file.stat().st_mtime)
    if not models:
        raise ValueError(f"there is no run in {RUNS}/ yet: train one with `chargen train`, or name a model's file")
    return models[-1].parent


def load_model(where: Path | None) -> ModelFile:
    """The model of a run.

    Args:
        where: a folder, a `model.safetensors` or a `last.ckpt`; None for the newest run.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    where = where or newest()
    if where.is_dir():
        file = where / MODEL if (where / MODEL).is_file() else where / CHECKPOINT
        if not file.is_file():
            raise ValueError(f"{where} holds no {MODEL} and no {CHECKPOINT}: it is not a run, or has not validated yet")
    else:
        file = where
    if not file.is_file():
        raise ValueError(f"no such run: {where}{_others()}")
    if file.suffix != ".ckpt":
        return ModelFile.load(file)
    return portable_of(load_checkpoint(file), file)


def portable_of(checkpoint: dict[str, Any], file: Path) -> ModelFile:
    """The model in a checkpoint.

    Raises:
        ValueError: its weights are not of the sizes that its settings name. `file` is for the message.
    """
    hyper = checkpoint["hyper_parameters"]
    weights = {
        name.removeprefix("model."): value.float().numpy()
        for name, value in checkpoint["state_dict"].items()  # of which all belong to the model
    }
    return ModelFile(weights, hyper["model"], hyper["tokenizer"], hyper["run"]).checked(file)


def load_checkpoint(file: Path) -> dict[str, Any]:
    """The content of a `last.ckpt`: tensors and plain data, on the CPU.

    Raises:
        ValueError: it is missing, damaged, of another program or of a later version.
    """
    import torch  # late: a model.safetensors is read without it

    if not file.is_file():
        raise ValueError(f"no such checkpoint: {file}{_others()}")
    try:
        checkpoint = load_plain(file)
        version = checkpoint["chargen"]["format_version"]
        if type(version) is not int:
            raise TypeError
        later, earlier = version > FORMAT_VERSION, version < FORMAT_VERSION
        for keys, kind in _PARTS:
            part: Any = checkpoint
            for key in keys:
                if not isinstance(part, dict):
                    raise TypeError
                part = part[key]
            if not isinstance(part, kind):
                raise TypeError
        for name, weight in checkpoint["state_dict"].items():
            if not (isinstance(weight, torch.Tensor) and weight.is_floating_point() and str(name).startswith("model.")):
                raise TypeError
        require_plain(checkpoint["hyper_parameters"], None)
        seconds = checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"]
        if not (math.isfinite(seconds) and seconds >= 0):
            raise TypeError
    except (KeyError, TypeError, IndexError):
        raise ValueError(f"{file} is a checkpoint of another program: give a {CHECKPOINT} of chargen") from None
    except Exception as error:  # torch raises whatever its parts raise, for any damage or foreign content
        raise ValueError(
            f"{file} is truncated, damaged or not a checkpoint of plain data ({type(error).__name__}): give another one"
        ) from None
    if earlier:
        raise ValueError(
            f"{file} was written by an earlier chargen, in format {version}: start a new run, or use that one"
        )
    if not checksum_matches(file):
        raise ValueError(f"{file} has been damaged since it was written: its checksum does not match; give another one")
    if later:
        raise ValueError(f"{file} was written by a later chargen: update with pip install -U chargen")
    return dict(checkpoint)


def undamaged(file: Path) -> tuple[Path, dict[str, Any], str]:
    """A checkpoint to go on from: the one that is named or, where it is damaged, the one before it.

    Returns:
        Which it is, its content, and what is wrong with the one that was named, or nothing.

    Raises:
        ValueError: neither can be used.
    """
    try:
        return file, load_checkpoint(file), ""
    except ValueError as error:
        before = previous_path(file)
        if not before.is_file():
            raise
        return before, load_checkpoint(before), str(error)


def _others() -> str:
    """The runs that there are, for a message."""
    found = sorted({str(file.parent) for name in (MODEL, CHECKPOINT) for file in RUNS.rglob(name)})
    return f"; there are {', '.join(found[-3:])}" if found else "; train one with `chargen train`"
