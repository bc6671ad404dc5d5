"""A package that is missing or broken is one line that says what to install."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path

import pytest
from support.models import write_model

from chargen.cli.packages import MODULES, message_of_import

MAIN = """
import sys
sys.modules[sys.argv[1]] = None  # as if the package were not installed
sys.argv[1:] = sys.argv[2:]
from chargen.__main__ import main
main()
"""


def run_without(module: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", MAIN, module, *words], capture_output=True, text=True, cwd=cwd)


def test_the_requirements_of_the_package_are_known() -> None:
    """All but the development tools."""
    wanted = [text for text in requires("chargen") or [] if 'extra == "dev"' not in text]
    assert {re.split("[>;]", text)[0].lower() for text in wanted} == set(MODULES.values())


@pytest.mark.starts
@pytest.mark.parametrize(
    ("module", "words", "package"),
    [
        ("torch", ["train", "t.txt"], "torch"),
        ("torch", ["train", "-m", "t.txt", "seed=1,2"], "torch"),
        ("torch", ["evaluate", "r", "--text", "t.txt"], "torch"),
        ("torch", ["doctor", "t.txt"], "torch"),
        ("lightning", ["train", "t.txt"], "lightning"),
        ("torchmetrics", ["train", "t.txt"], "lightning"),  # a package that lightning needs
        ("hydra", ["train", "t.txt"], "hydra-core"),
        ("rich", ["evaluate", "r", "--text", "t.txt"], "rich"),
        ("tokenizers", ["sample", "r"], "tokenizers"),
        ("typer", ["sample", "r"], "typer"),
    ],
)
def test_a_missing_package_is_one_line(module: str, words: list[str], package: str, tmp_path: Path) -> None:
    write_model(tmp_path / "r")
    (tmp_path / "t.txt").write_text("abc \n" * 2000, encoding="utf-8")
    result = run_without(module, *words, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"chargen: {package} ")
    program, *arguments = shlex.split(line.partition(": write ")[2])
    assert [program, *arguments[:-1]] == [sys.executable, "-m", "pip", "install"]
    assert arguments[-1].startswith(f"{package}>=")


@pytest.mark.starts
def test_info_prints_its_table_without_torch(tmp_path: Path) -> None:
    result = run_without("torch", "info", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "threads      unknown: torch cannot be imported" in result.stdout
    assert "kernels      " in result.stdout


def test_a_broken_package_is_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose parts do not fit together."""
    (tmp_path / "mlflow.py").write_text("from sys import no_such_name\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    with pytest.raises(ImportError) as caught:
        import_module("mlflow")
    line = message_of_import(caught.value)
    assert line is not None
    assert line.startswith("mlflow cannot be imported (cannot import name 'no_such_name' from 'sys'")
    assert " install --force-reinstall 'mlflow>=" in line


def test_a_module_of_chargen_is_a_defect_and_one_of_python_is_named() -> None:
    for code in ("import chargen.no_such_module", "from chargen import no_such_module"):
        with pytest.raises(ImportError) as caught:
            exec(code)
        assert message_of_import(caught.value) is None
    line = message_of_import(ModuleNotFoundError("No module named '_lzma'", name="_lzma"))
    assert line == "this Python was built without its module _lzma: install chargen into another one"


def test_all_that_is_missing_is_installed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requirements of an extra are left out, except for the package that was asked for."""
    (tmp_path / "chargen-9.dist-info").mkdir()
    metadata = """Name: chargen
Version: 9
Requires-Dist: numpy>=1
Requires-Dist: no-such-package>=2
Requires-Dist: torch>=3
Requires-Dist: nor-this-one>=4; extra == "plots"
"""
    (tmp_path / "chargen-9.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    line = message_of_import(ModuleNotFoundError("No module named 'torch'", name="torch"))
    assert line is not None
    assert line.endswith(" -m pip install 'torch>=3' 'no-such-package>=2'")
