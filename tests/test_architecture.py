"""Imports point down, heavy packages have owners, and `sample` loads none of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support.environment import ROOT
from support.models import write_model

FLOORS = (
    ("files", "native", "plain"),
    ("symbols",),
    ("config", "tokenizer", "cells", "linear", "plots", "baselines", "novelty"),
    ("corpus", "overrides", "unroll", "head", "portable", "advice", "guard"),
    ("lanes", "logs", "model", "sampling", "runs"),
    ("evaluation",),
    ("dynamic", "doctor"),
    ("training", "callbacks"),
    ("fitting",),
    ("cli",),
    ("__main__", "__init__"),
)
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
BESIDE = {("callbacks", "training")}  # one floor, one direction
OWNERS = {
    "hydra": {"cli", "overrides"},
    "omegaconf": {"cli", "config", "overrides"},
    "lightning": {"lanes", "logs", "training", "callbacks", "fitting"},
    "tokenizers": {"tokenizer"},
    "matplotlib": {"plots"},
    "torch": {
        *("cells", "unroll", "linear", "head", "model", "evaluation", "dynamic", "doctor"),
        *("lanes", "training", "callbacks", "fitting", "plain", "runs", "cli"),
    },
    "typer": {"cli"},
}
MODULES = sorted((ROOT / "src" / "chargen").glob("*.py"))
NATIVE = ROOT / "src" / "chargen" / "native" / "__init__.py"


def imports(file: Path) -> list[str]:
    """Every module a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: relative import"
            found += [f"chargen.{alias.name}" for alias in node.names] if node.module == "chargen" else [node.module]
    return [name for name in found if name]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_imports_point_down(file: Path) -> None:
    for name in imports(file):
        package, _, module = name.partition(".")
        if package == "chargen" and module in FLOOR and file.stem != "__init__":
            down = FLOOR[module] < FLOOR[file.stem] or (file.stem, module) in BESIDE
            assert down, f"{file.stem} imports {module}, which is not below it"
        if package in OWNERS:
            assert file.stem in OWNERS[package], f"{file.stem} imports {package}, which belongs to {OWNERS[package]}"


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.stem)
def test_a_module_opens_with_its_sentence(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":"))


def test_every_module_has_a_floor() -> None:
    assert {file.stem for file in MODULES} | {"native"} == set(FLOOR)


def test_native_stands_on_the_standard_library_and_numpy() -> None:
    for name in imports(NATIVE):
        assert name.partition(".")[0] in {*sys.stdlib_module_names, "numpy"}, name


HEAVY = {"torch", "lightning", "hydra", "omegaconf", "matplotlib"}


def test_sampling_loads_nothing_heavy(tmp_path: Path) -> None:
    """The command itself, to its last character."""
    write_model(tmp_path / "r")
    code = f"""
import sys
from chargen.cli.app import main
sys.argv = ["chargen", "sample", "r", "--length", "20", "--prompt", "ab"]
try:
    main()
finally:
    print(sorted({HEAVY} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "[]"
