"""What tests know about this repository and this machine, and the types of shared fixtures."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from chargen import native
from chargen.cell_types import CELL_TYPES

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""

CELLS = tuple(CELL_TYPES)
"""The names of all cells."""

NATIVE_CELLS = tuple(name for name in CELLS if native.library() and native.has_cell(name))
"""The names of the cells that the compiled kernels compute."""

INSTRUCTION_SETS = native.instruction_sets(native.kernels()) if native.library() else []
"""The instruction sets of the compiled kernels that this machine has."""

Launch = Callable[..., "subprocess.Popen[bytes]"]
Command = Callable[..., tuple[int, str, str]]
Figure = Callable[[str, int], None]
