"""A mistake of the user is one line; a defect of chargen keeps its traceback and asks to be reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.environment import Command
from support.models import write_model

from chargen.cli.app import TRACEBACK
from chargen.errors import ArgumentError, UserError

LOADER = "chargen.storage.run_folder.load_model"


def raising(error: Exception) -> object:
    def load_model(where: Path | None) -> None:
        raise error

    return load_model


@pytest.mark.parametrize("error", [ValueError("boom"), KeyError("boom"), RuntimeError("boom"), AssertionError("boom")])
def test_a_defect_keeps_its_traceback(error: Exception, chargen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, raising(error))
    code, out, err = chargen("sample", "r")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):")
    assert f"{type(error).__name__}: " in err
    assert "this is a defect of chargen, not a mistake of yours; please report it" in err


def test_a_traceback_cannot_steer_a_terminal(chargen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, raising(ValueError("\x1b[2J")))
    assert "\x1b" not in chargen("sample", "r")[2]


def test_a_mistake_is_one_line(chargen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, raising(UserError("write\nsomething else")))
    assert chargen("sample", "r") == (2, "", "chargen: write something else\n")
    monkeypatch.setattr(LOADER, raising(ArgumentError("top_p", 2, "above 0 and at most 1")))
    assert chargen("sample", "r") == (2, "", "chargen: --top-p 2: must be above 0 and at most 1\n")


def test_the_traceback_of_a_mistake_is_shown_on_request(chargen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, raising(UserError("wrong")))
    monkeypatch.setenv(TRACEBACK, "1")
    code, _, err = chargen("sample", "r")
    assert code == 2
    assert "Traceback" in err
    assert err.endswith("chargen: wrong\n")


def test_errors_of_the_file_system_name_the_file(chargen: Command, away: Path) -> None:
    write_model(away / "r")
    (away / "r" / "model.safetensors").unlink()
    (away / "r" / "model.safetensors").symlink_to(away / "r" / "model.safetensors")
    code, _, err = chargen("sample", "r/model.safetensors")
    assert (code, err.count("\n")) == (2, 1)
    assert "r/model.safetensors" in err
