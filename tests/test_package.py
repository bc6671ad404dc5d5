"""The names of the package: listed, typed, imported when used, and without torch where they do not need it."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from support.environment import ROOT

import chargen

BLOCK_TORCH = "import sys; sys.modules['torch'] = None\n"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_public_names_exist_and_are_listed() -> None:
    assert "CharRNN" in chargen.__all__
    for name in chargen.__all__:
        assert getattr(chargen, name) is not None
    public = [name for name in dir(chargen) if not name.startswith("_")]
    assert public == sorted(set(chargen.__all__) - {"__version__"})
    assert all(f"`{name}`" in (chargen.__doc__ or "") for name in public)


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        chargen.Nope  # noqa: B018
    assert not hasattr(chargen, "Nope")


@pytest.mark.parametrize("name", sorted(set(chargen.__all__) - {"__version__"}))
def test_public_names_are_annotated_with_types(name: str) -> None:
    value = getattr(chargen, name)
    members = [value, *vars(value).values()] if isinstance(value, type) else [value]
    functions = [getattr(member, "fget", None) or getattr(member, "__func__", member) for member in members]
    owners = [value, *filter(inspect.isfunction, functions)]
    annotations = [annotation for owner in owners for annotation in inspect.get_annotations(owner).values()]
    annotations += [field.type for field in fields(value)] if hasattr(value, "__dataclass_fields__") else []
    assert annotations
    assert not [annotation for annotation in annotations if isinstance(annotation, str)]


def test_help_shows_signatures_with_types() -> None:
    text = pydoc.plain(pydoc.render_doc(chargen))
    assert "load(path: str | os.PathLike[str] | None = None, precision: Literal['float32', 'int8'] = 'float32')" in text
    assert "SamplingParams(temperature: float = 0.8, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0)" in text
    assert all(f"class {name}(" in text for name in chargen.__all__ if name[0].isupper())


def test_without_torch_the_other_names_can_be_used() -> None:
    code = """
before = set(globals())
from chargen import *
import chargen, pydoc
print(sorted(set(globals()) - before - {"before", "chargen", "pydoc"}) == sorted(chargen.__all__))
print("CharRNN" in chargen.__all__, "CharRNN" in dir(chargen))
print("load(path: str" in pydoc.plain(pydoc.render_doc(chargen)))
try:
    chargen.CharRNN
except ModuleNotFoundError as error:
    print("torch" in str(error))
"""
    assert run_python(BLOCK_TORCH + code).split() == ["True", "False", "False", "True", "True"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = {"numpy", "torch", "tokenizers", "lightning", "inspect"}
    assert run_python(f"import sys, chargen; print({heavy} & set(sys.modules) or 'none')").strip() == "none"


def test_a_type_checker_refuses_names_that_do_not_exist(tmp_path: Path) -> None:
    """mypy on the package's `__init__` alone: what that imports is of any type here."""
    used = tmp_path / "used.py"
    names = ", ".join(name for name in chargen.__all__ if name != "__version__")
    used.write_text(f"import chargen\nfrom chargen import {names}\nfrom chargen import Nope\nchargen.Nope\n")
    options = ["--strict", "--follow-imports=skip", "--config-file=", f"--cache-dir={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "mypy", *options, str(ROOT / "src/chargen/__init__.py"), str(used)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"MYPYPATH": str(ROOT / "src")})
    errors = [line.partition("used.py:")[2] for line in result.stdout.splitlines() if "error:" in line]
    assert errors == [
        '3: error: Module "chargen" has no attribute "Nope"  [attr-defined]',
        '4: error: Module has no attribute "Nope"  [attr-defined]',
    ], result.stdout + result.stderr
