"""Help fits the terminal, and names every setting."""

from __future__ import annotations

import pytest
from support.environment import Command

from chargen.cli.train_help import EXAMPLES, train_help
from chargen.config import TrainConfig
from chargen.schema import keys_of
from chargen.trainer_settings import TRAINER_SETTINGS

HIDDEN = {"trainer", "model.vocab_size"}


def test_every_setting_is_explained() -> None:
    lines = [line.strip() for line in train_help().splitlines()]
    for key in set(keys_of(TrainConfig)) - HIDDEN:
        assert any(line.startswith(f"{key}=") and " " in line for line in lines), key
    for name, setting in TRAINER_SETTINGS.items():
        assert any(line.startswith(f"trainer.{name}=") for line in lines) != setting.is_refused


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_help_is_wrapped_at_the_width_of_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words stay; only what is typed in one piece may be longer than a line."""
    unwrapped = train_help()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    wrapped = train_help()
    assert wrapped.split() == unwrapped.split()
    typed = {command for command, _ in EXAMPLES}
    for line in wrapped.splitlines():
        assert len(line) <= width or line.strip() in typed or line.startswith("Usage:"), line
    assert max(map(len, unwrapped.splitlines())) <= 120


@pytest.mark.parametrize("words", ["--help", "sample --help", "evaluate --help", "plot --help"])
def test_help_of_other_commands_is_wrapped(words: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (40, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        code, out, _ = command(*words.split())
        assert code == 0
        assert all(len(line) <= width or line.startswith("Usage:") for line in out.splitlines())
