"""A mistake of the user is one line; a defect of chargen keeps its traceback and asks to be reported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.environment import Command
from support.models import write_model

from chargen import native
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


# ------------------------------------------------------------------------------- kernels that were not built


@pytest.fixture
def not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.mark.usefixtures("not_built")
@pytest.mark.parametrize("name", ["train", "sample", "evaluate", "doctor"])
def test_missing_kernels_are_named_once(name: str, chargen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the commands that compute, before anything else; not in a help, and not if they were switched off."""
    code, _, err = chargen(name, "nowhere.txt")
    first, *others = err.splitlines()
    assert code == 2
    assert first == f"chargen: {native.missing()}"
    assert others
    assert not any("compiled kernels" in line for line in others)
    code, out, err = chargen(name, "--help")
    assert (code, err) == (0, "")
    assert f"chargen {name}" in out
    monkeypatch.setenv(native.VARIABLE, native.OFF)
    assert chargen(name, "nowhere.txt")[2].splitlines() == others


@pytest.mark.usefixtures("not_built")
def test_commands_that_do_not_compute_say_nothing_of_kernels(chargen: Command, away: Path) -> None:
    write_model(away / "r")
    assert "kernels" not in chargen("plot", "r")[2]
    assert chargen("info")[2] == ""


# ------------------------------------------------------------------------------- completion


def run_script(cwd: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as its script does; the shell calls it by the name `chargen`."""
    code = "import sys; sys.argv[0] = 'chargen'; from chargen.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "SHELL": "/bin/bash", "HOME": str(cwd), **environment},
    )


@pytest.mark.starts
@pytest.mark.parametrize(
    ("typed", "expected"),
    [("chargen sa", "sample"), ("chargen sample --temp", "--temperature"), ("chargen train model=t", "")],
)
def test_shells_complete_commands_and_options(typed: str, expected: str, tmp_path: Path) -> None:
    """The settings of `train` are not options, so that the shell completes names of files."""
    variables = {"_CHARGEN_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    result = run_script(tmp_path, **variables)
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, expected, "")


@pytest.mark.starts
def test_completion_can_be_installed(tmp_path: Path) -> None:
    """Into the start-up file of the shell, by a script that bash can read."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    no_detection = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the tests may run below another shell
    assert run_script(tmp_path, "--install-completion", "bash", **no_detection).returncode == 0
    check = ["-c", "source .bashrc && complete -p chargen"]
    result = subprocess.run([bash, "--norc", *check], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout == "complete -o default -F _chargen_completion chargen\n", result.stderr
