"""Fixtures of the tests that forge files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.environment import Command, Figure
from support.forgery import TRACE, remove_previous

Refused = Callable[..., str]


@pytest.fixture
def refused(chargen: Command, away: Path, figure: Figure) -> Refused:
    """Runs a command that has to refuse a file, and returns the line it prints.

    The exit code is 2, standard error has one line, nothing in the file has run, and no file of a run was replaced.
    """

    def files() -> dict[Path, tuple[int, int]]:
        names = ("*.ckpt", "model.safetensors")
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for name in names for file in away.rglob(name)}

    def run(*words: str) -> str:
        before = files()
        code, _, err = chargen(*words)
        assert (code, err.count("\n")) == (2, 1), err
        assert err.startswith("chargen: ")
        assert not (away / TRACE).exists()
        assert files() == before
        figure("hostile files refused", 1)
        return err

    return run


@pytest.fixture
def checkpoint(trained: Callable[..., Path]) -> Path:
    """The last checkpoint of a run in the folder `r`, which has no other one to fall back to."""
    return remove_previous(trained("r"))
