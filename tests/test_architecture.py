"""Imports point down by folder, heavy packages have owners, and every name has one home."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.environment import ROOT
from support.models import write_model

PACKAGE = ROOT / "src" / "chargen"
FLOORS = (
    ("errors", "schema", "durations", "trainer_settings", "cell_types", "config", "native"),
    ("storage", "planning", "ngrams"),
    ("corpus", "nn"),
    ("sampling", "evaluation", "export"),
    ("insight", "training", "serving"),
    ("cli",),
    ("__main__", "__init__"),
)
"""The folders by floor, the lowest first. Folders of one floor do not import each other, except on the lowest."""

FLOOR = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}
GROUND = {
    "errors": set(),
    "cell_types": set(),
    "schema": {"errors"},
    "durations": {"errors", "schema"},
    "trainer_settings": {"errors", "schema", "durations"},
    "config": {"errors", "schema", "trainer_settings", "cell_types"},
    "native": {"errors"},
}
"""What the modules of the lowest floor may import of each other."""

OWNERS = {
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "typer": {"cli"},
    "lightning": {"training"},
    "tokenizers": {"corpus"},
    "safetensors": {"storage"},
    "matplotlib": {"insight"},
    "torch": {"nn", "evaluation", "insight", "training", "storage", "cli"},
}
"""The folders that may import a heavy package."""

LATE_TORCH = ("storage", "cli")
"""Folders that import torch inside functions only, so that commands which do not need it start without it."""

MAX_LINES = 350
MAX_POSITIONAL = 5
OVERRIDES = {"redirect_request"}
"""Functions that override one of the standard library, whose signature they have to repeat."""

MODULES = sorted(PACKAGE.rglob("*.py"))
BY_PATH = [pytest.param(file, id=str(file.relative_to(PACKAGE))) for file in MODULES]


def folder_of(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every module that is imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            if node.module == "chargen":
                yield from ((f"chargen.{alias.name}", node) for alias in node.names)
            elif node.module:
                yield node.module, node


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


@pytest.mark.parametrize("file", BY_PATH)
def test_imports_point_down(file: Path) -> None:
    folder = folder_of(file)
    for name, _ in imports(ast.parse(file.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] != "chargen" or len(parts) == 1 or folder in ("__main__", "__init__"):
            continue
        other = parts[1]
        assert other in FLOOR, f"{name} is in no folder that FLOORS lists"
        if folder in GROUND and other in GROUND and other != folder:
            assert other in GROUND[folder], f"{folder} imports {name}"
        elif other != folder:
            assert FLOOR[other] < FLOOR[folder], f"{folder} imports {name}, which is not below it"


@pytest.mark.parametrize("file", BY_PATH)
def test_heavy_packages_are_imported_by_their_owners_only(file: Path) -> None:
    folder, tree = folder_of(file), ast.parse(file.read_text(encoding="utf-8"))
    inside = {node for function in functions(tree) for node in ast.walk(function)}
    guarded = {
        node
        for condition in ast.walk(tree)
        if isinstance(condition, ast.If) and ast.unparse(condition.test) == "TYPE_CHECKING"
        for node in ast.walk(condition)
    }
    for name, node in imports(tree):
        package = name.partition(".")[0]
        if package in OWNERS:
            assert folder in OWNERS[package], f"{folder} imports {package}, which belongs to {OWNERS[package]}"
        if package == "torch" and folder in LATE_TORCH:
            assert node in inside or node in guarded, f"{file.name} imports torch at its top"


@pytest.mark.parametrize("file", BY_PATH)
def test_assertions_do_nothing(file: Path) -> None:
    """An assertion calls nothing but `isinstance`, because `PYTHONOPTIMIZE` removes it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            calls = {ast.unparse(call.func) for call in ast.walk(node.test) if isinstance(call, ast.Call)}
            assert calls <= {"isinstance"}, f"{file.name}:{node.lineno}"


def test_every_folder_has_a_floor() -> None:
    folders = {folder_of(file) for file in MODULES}
    assert folders <= set(FLOOR), folders - set(FLOOR)


@pytest.mark.parametrize("file", BY_PATH)
def test_a_module_opens_with_one_sentence(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring is not None
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":"))


@pytest.mark.parametrize("file", BY_PATH)
def test_a_package_lists_its_modules(file: Path) -> None:
    """The docstring of a folder lists every module in it."""
    if file.name == "__init__.py" and file.parent != PACKAGE:
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        for module in file.parent.glob("*.py"):
            assert module == file or f"`{module.stem}`" in docstring, f"{module.stem} is not described in {file}"


@pytest.mark.parametrize("file", BY_PATH)
def test_modules_are_short(file: Path) -> None:
    """A longer module says in its first lines why it is one."""
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES or "long because" in text[:1500]


@pytest.mark.parametrize("file", BY_PATH)
def test_functions_take_few_positional_arguments(file: Path) -> None:
    for function in functions(ast.parse(file.read_text(encoding="utf-8"))):
        if (folder_of(file) == "cli" and function.name == file.stem) or function.name in OVERRIDES:
            continue  # a command: typer turns its parameters into flags
        names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
        number = len([name for name in names if name not in ("self", "cls", "ctx")])
        assert number <= MAX_POSITIONAL, f"{file.name}: {function.name} takes {number} positional arguments"


def test_the_kernels_need_the_standard_library_and_numpy_only() -> None:
    for file in (PACKAGE / "native").glob("*.py"):
        for name, _ in imports(ast.parse(file.read_text(encoding="utf-8"))):
            package = name.partition(".")[0]
            assert package in {*sys.stdlib_module_names, "numpy", "chargen"}, f"{file.name} imports {name}"


def test_every_folder_is_packaged() -> None:
    """A wheel holds every folder of the package: setup.py finds them."""
    from setuptools import find_namespace_packages

    found = find_namespace_packages(str(ROOT / "src"), include=["chargen", "chargen.*"], exclude=["*.__pycache__"])
    folders = {".".join(file.parent.relative_to(ROOT / "src").parts) for file in MODULES}
    assert folders <= set(found)
    assert "find_namespace_packages(" in (ROOT / "setup.py").read_text(encoding="utf-8")


HEAVY = {"torch", "lightning", "hydra", "omegaconf", "matplotlib"}


@pytest.mark.parametrize("file", ["model.safetensors", "."])
def test_sampling_loads_nothing_heavy(file: str, tmp_path: Path) -> None:
    """The command itself, to its last character."""
    write_model(tmp_path / "r")
    code = f"""
import sys
from chargen.cli.app import main
sys.argv = ["chargen", "sample", "r/{file}", "--length", "20", "--prompt", "ab"]
try:
    main()
finally:
    print(sorted({HEAVY} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_loads_nothing_but_typer(tmp_path: Path) -> None:
    code = f"""
import sys
from chargen.cli.app import main
sys.argv = ["chargen", "--help"]
try:
    main()
finally:
    print(sorted({HEAVY | {"numpy", "tokenizers", "rich.progress", "safetensors"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "[]"
