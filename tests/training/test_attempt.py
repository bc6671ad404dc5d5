"""An attempt computes on one thread of torch, because its threads wait for each other."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.environment import Command
from support.models import TEXT, TINY

from chargen.training.module import CharLanguageModel


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.starts
@pytest.mark.usefixtures("two_threads")
def test_a_run_computes_on_one_thread_of_torch(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[int] = set()
    for name in ("training_step", "validation_step"):
        step = getattr(CharLanguageModel, name)

        @functools.wraps(step)  # Lightning reads the signature
        def recording(self, *arguments, step=step):
            used.add(torch.get_num_threads())
            return step(self, *arguments)

        monkeypatch.setattr(CharLanguageModel, name, recording)
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    code, _, err = chargen("train", "t.txt", *TINY)
    assert code == 0, err
    assert used == {1}
    assert torch.get_num_threads() == 2
