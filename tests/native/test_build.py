"""The build: a missing compiler installs no kernels, a failing one fails, and a wheel holds everything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from support.compilers import COMPILER, needs_compiler
from support.environment import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="needs the source tree")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source tree without what was built in it."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return tmp_path


def libraries(tree: Path) -> list[Path]:
    return sorted((tree / "src" / "chargen" / "native").glob("_kernels*"))


def build(tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = words or ("-q", "build_ext", "--inplace")
    return subprocess.run(
        [sys.executable, "setup.py", *words], cwd=tree, capture_output=True, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CXX": "/no/such/compiler", "CC": "/no/such/compiler"}, "there is no C++ compiler here"),
        ({"CHARGEN_KERNELS": "off"}, "CHARGEN_KERNELS=off"),
    ],
)
def test_without_a_compiler_stale_kernels_are_removed(tree: Path, environment: dict[str, str], reason: str) -> None:
    stale = tree / "src" / "chargen" / "native" / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    stale.write_bytes(b"of an earlier build")
    result = build(tree, **environment)
    assert result.returncode == 0, result.stderr
    assert f"warning: chargen is installed without compiled kernels: {reason}" in result.stderr
    assert libraries(tree) == []


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CHARGEN_KERNELS": "require", "CXX": "false"}, "there is no C++ compiler here (false does not run)"),
        ({"CHARGEN_KERNELS": "yes"}, "CHARGEN_KERNELS=yes: write require or off, or leave it out"),
    ],
)
def test_a_build_that_must_have_kernels_fails_without_them(
    tree: Path, environment: dict[str, str], reason: str
) -> None:
    result = build(tree, **environment)
    assert result.returncode != 0
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


@needs_compiler
def test_a_failing_compiler_fails_the_build_and_is_shown(tree: Path) -> None:
    source = tree / "src" / "chargen" / "native" / "avx2.cpp"
    source.write_text("this is not C++;\n" + source.read_text(encoding="utf-8"), encoding="utf-8")
    result = build(tree)
    assert result.returncode != 0
    assert "avx2.cpp:1" in result.stderr
    assert "CHARGEN_KERNELS=off pip install" in result.stderr
    assert "Traceback" not in result.stderr
    assert libraries(tree) == []


@needs_compiler
def test_make_kernels_fails_with_the_compiler(tree: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    shutil.copy(ROOT / "Makefile", tree / "Makefile")
    bin_folder = tree / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    (bin_folder / "python").chmod(0o755)
    (tree / "src" / "chargen" / "native" / "avx2.cpp").write_text("this is not C++;\n", encoding="utf-8")
    result = subprocess.run(["make", "kernels"], cwd=tree, capture_output=True, text=True)
    assert result.returncode != 0
    assert "avx2.cpp:1" in result.stderr


def test_every_folder_with_code_is_packaged(tree: Path) -> None:
    """A folder that was added only today, too."""
    (tree / "src" / "chargen" / "added_today").mkdir()
    (tree / "src" / "chargen" / "added_today" / "module.py").write_text('"""Nothing."""\n', encoding="utf-8")
    result = build(tree, "-q", "build_py", "--build-lib", "built")
    assert result.returncode == 0, result.stderr
    expected = {file.relative_to(tree / "src") for file in (tree / "src").rglob("*.py")}
    expected |= {Path("chargen", file.relative_to(tree)) for file in (tree / "conf").rglob("*.yaml")}
    expected.add(Path("chargen", "py.typed"))
    packaged = {file.relative_to(tree / "built") for file in (tree / "built").rglob("*") if file.is_file()}
    assert expected <= packaged


@pytest.mark.slow
@needs_compiler
def test_a_wheel_holds_code_settings_and_kernels(tree: Path) -> None:
    """It works from an empty folder, without the source tree."""
    wheels = tree / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels), "."]
    subprocess.run(command, cwd=tree, check=True, env={**os.environ, "CXX": str(COMPILER)})
    (wheel,) = wheels.glob("*.whl")
    installed = tree / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    packaged = {file.relative_to(installed) for file in installed.rglob("*") if file.is_file()}
    assert {file.relative_to(tree / "src") for file in (tree / "src").rglob("*.py")} <= packaged
    assert {Path("chargen", file.relative_to(tree)) for file in (tree / "conf").rglob("*.yaml")} <= packaged
    code = """
import chargen, chargen.sampling.generator
from chargen import native
print(chargen.__file__, native.in_use())
"""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=wheels, capture_output=True, text=True, env=environment, check=True,
    )  # fmt: skip
    file, instruction_set = result.stdout.split()
    assert Path(file).is_relative_to(installed)
    assert instruction_set != "off"
