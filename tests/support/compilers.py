"""The C++ compiler, for tests that build something with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.environment import ROOT

NATIVE = ROOT / "src" / "chargen" / "native"
COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


def compile_library(target: Path, code: str) -> Path:
    """Compile C++ code into a shared library."""
    source = target.with_suffix(".cpp")
    source.write_text(code, encoding="utf-8")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-I", str(NATIVE), str(source), "-o", str(target)], check=True)
    return target
