"""Find the compiled kernels and check that they fit this source.

The library reports a version of its interface and the size of each struct. A library with another version or other
sizes was built from other sources. Calling it would corrupt memory, so it is refused with an error.
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

from chargen.errors import UserError
from chargen.native.structures import (
    STRUCTURES,
    Gradients,
    Head,
    HeadGradients,
    Linear,
    LinearGradients,
    Network,
    Stream,
    Window,
)

ABI_VERSION = 4
"""The same number as in kernels.h. It changes whenever a struct or the signature of a function changes."""

FOLDER = Path(__file__).parent
"""Where the build places the library."""

_STAMP: Sequence[tuple[str, Any, list[Any]]] = (
    ("chargen_abi_version", c_int64, []),
    ("chargen_struct_size", c_int64, [c_char_p]),
)

_FUNCTIONS: Sequence[tuple[str, Any, list[Any]]] = (
    ("chargen_cells", c_char_p, []),
    ("chargen_cell_number", c_int64, [c_char_p]),
    ("chargen_use", c_char_p, [c_char_p]),
    ("chargen_in_use", c_char_p, []),
    ("chargen_instruction_sets", c_char_p, []),
    ("chargen_has_bf16", c_int64, []),
    ("chargen_use_kernel_threads", None, [c_int]),
    ("chargen_saved_size", c_int64, [c_int64] * 5),
    ("chargen_forward", c_int, [POINTER(Window)]),
    ("chargen_backward", c_int, [POINTER(Window), POINTER(Gradients)]),
    ("chargen_linear_forward", c_int, [POINTER(Linear)]),
    ("chargen_linear_backward", c_int, [POINTER(Linear), POINTER(LinearGradients)]),
    ("chargen_head_size", c_int64, [c_int64] * 2),
    ("chargen_head_forward", c_int, [POINTER(Head)]),
    ("chargen_head_backward", c_int, [POINTER(Head), POINTER(HeadGradients)]),
    ("chargen_instruction_set_number", c_int64, []),
    ("chargen_vector_width", c_int64, []),
    ("chargen_panel", c_int64, []),
    ("chargen_read", c_int, [POINTER(Network), c_int64, c_int64, *[c_void_p] * 3, c_int64, c_int64]),
    ("chargen_write", c_int, [POINTER(Network), POINTER(Stream), c_int64, c_int64, c_int64]),
    ("chargen_decode", c_int64, [c_char_p, c_int64, c_void_p, POINTER(c_int64)]),
    ("chargen_count", None, [c_void_p, c_int64, c_int64, c_void_p]),
    ("chargen_look_up", None, [c_void_p, c_int64, c_int64, c_void_p, c_int64, c_int64, c_void_p]),
)


def find_library(folder: Path = FOLDER) -> ctypes.CDLL | None:
    """Load the kernels that were built into a folder.

    A folder may hold libraries of several machines and Python versions. The one that was built for this Python comes
    first. Files that the system cannot load are skipped.

    Returns:
        The library; None if no file can be loaded.

    Raises:
        UserError: the library does not fit this source.
    """
    own_name = f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    files = [file for file in folder.glob("_kernels*") if file.suffix in (".so", ".pyd")]
    for file in sorted(files, key=lambda file: (file.name != own_name, file.name)):
        try:
            found = ctypes.CDLL(str(file))
        except OSError:
            continue
        return _checked(found, file)
    return None


def load_library(file: Path) -> ctypes.CDLL:
    """Load the kernels from a file.

    Raises:
        UserError: the system cannot load the file, or it does not fit this source.
    """
    try:
        found = ctypes.CDLL(str(file.absolute()))
    except OSError as error:
        raise UserError(f"{file} cannot be loaded ({error}): {_rebuild()}") from None
    return _checked(found, file)


def _checked(found: ctypes.CDLL, file: Path) -> ctypes.CDLL:
    """Return the library with the types of its functions declared, if its stamp fits this source."""
    _declare(found, _STAMP, file)
    version = found.chargen_abi_version()
    if version != ABI_VERSION:
        raise _refused(file, f"its interface has version {version}, not {ABI_VERSION}")
    for mirror in STRUCTURES:
        size = found.chargen_struct_size(mirror.__name__.encode())
        if size != ctypes.sizeof(mirror):
            raise _refused(file, f"its {mirror.__name__} has {size} bytes, not {ctypes.sizeof(mirror)}")
    _declare(found, _FUNCTIONS, file)
    return found


def _declare(found: ctypes.CDLL, functions: Sequence[tuple[str, Any, list[Any]]], file: Path) -> None:
    for name, result, arguments in functions:
        function = getattr(found, name, None)
        if function is None:
            raise _refused(file, f"it lacks the function {name}")
        function.restype, function.argtypes = result, arguments


def _refused(file: Path, reason: str) -> UserError:
    return UserError(f"{file} was built from other sources than this chargen ({reason}): {_rebuild()}")


def _rebuild() -> str:
    from chargen.native.installation import build_command

    return f"rebuild it with `{build_command()}`"
