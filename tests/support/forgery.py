"""Forge files of chargen as an attacker would, checksums included."""

from __future__ import annotations

import contextlib
import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from chargen.storage.checksum import add_checksum
from chargen.storage.model_file import ModelFile, digest_of

TRACE = "opened"
"""The file that appears in the working folder if code in a forged file has run."""


class Hostile:
    """An object that runs a shell when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {TRACE}",)


def forge_checkpoint(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply `change` to the content of a checkpoint, and write it with a valid checksum."""
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    add_checksum(file)


def forge_part(file: Path, keys: tuple[Any, ...], change: Callable[[Any], Any]) -> None:
    """Replace the part of a checkpoint that is found under `keys` by what `change` makes of it."""

    def replace_part(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = change(place[keys[-1]])

    forge_checkpoint(file, replace_part)


def config_in(content: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the run inside the content of a checkpoint."""
    config: dict[str, Any] = content["hyper_parameters"]["metadata"]["config"]
    return config


def forge_model(run: Path, **attributes: Any) -> None:
    """Replace attributes of the `ModelFile` of a run, and write it with a valid checksum."""
    file = run / "model.safetensors"
    replace(ModelFile.load(file), **attributes).save(file)


def forge_header(file: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Apply `change` to the header of a model file, and write it with a valid checksum."""
    with safe_open(file, framework="numpy") as opened:
        header, arrays = dict(opened.metadata()), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    del header["sha256"]
    change(header)
    save_file(arrays, file, {**header, "sha256": digest_of(header, arrays)})


def copy_members(source: Path, target: Path, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipFile:
    """Copy a zip archive member by member into a new archive, and return it open, so that more can be added."""
    copy = zipfile.ZipFile(target, "w", compression)
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            copy.writestr(member.filename, archive.read(member))
    return copy


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fail the test if the block takes longer, also if it waits for a pipe."""

    def expire(signum: int, frame: FrameType | None) -> None:
        pytest.fail(f"it did not return within {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def remove_previous(run: Path) -> Path:
    """Remove the checkpoint before the last one, so that a run cannot fall back to it. Return the last one."""
    (run / "last.previous.ckpt").unlink(missing_ok=True)
    return run / "last.ckpt"
