"""Fixtures of the tests that forge files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.environment import Command, Figure
from support.forgery import TRACE, remove_previous
from support.processes import ForkedProcess, nothing

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


@pytest.fixture
def start(away: Path) -> Iterator[Callable[..., ForkedProcess]]:
    """Starts chargen in a process of its own, like `launch`, but without waiting for its imports."""
    processes = []

    def fork(*words: str, prepare: Callable[[], object] = nothing, **env: str) -> ForkedProcess:
        processes.append(ForkedProcess(words, prepare, env))
        return processes[-1]

    yield fork
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
