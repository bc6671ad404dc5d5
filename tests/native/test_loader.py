"""The right kernels are found, and a library of other sources is refused."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.compilers import COMPILER, NATIVE, compile_library, needs_compiler
from support.environment import INSTRUCTION_SETS

from chargen import native
from chargen.cell_types import CELL_TYPES
from chargen.errors import UserError
from chargen.native import loader
from chargen.native.installation import build_command
from chargen.native.loader import ABI_VERSION, find_library, load_library
from chargen.native.structures import STRUCTURES, Stream, Window

built = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")

STAMP = """
#include <cstdint>
#include <cstring>
extern "C" int64_t chargen_abi_version() {{ return {version}; }}
extern "C" int64_t chargen_struct_size(const char* name) {{
    const struct {{ const char* name; int64_t size; }} sizes[] = {{ {sizes} }};
    for (const auto& entry : sizes)
        if (!strcmp(entry.name, name)) return entry.size;
    return -1;
}}
"""


def stamp(version: int = ABI_VERSION, **changed_sizes: int) -> str:
    """C++ code of a library that has the stamp of the kernels and nothing else."""
    sizes = {mirror.__name__: ctypes.sizeof(mirror) for mirror in STRUCTURES} | changed_sizes
    return STAMP.format(version=version, sizes=", ".join(f'{{"{name}", {size}}}' for name, size in sizes.items()))


def in_a_new_process(wanted: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Print the instruction set in use, or run another command, with `CHARGEN_NATIVE=wanted`."""
    command = command or ("-c", "from chargen import native; print(native.in_use())")
    environment = {**os.environ, native.VARIABLE: wanted}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)


# ------------------------------------------------------------------------------- the stamp


@built
def test_the_sizes_of_the_mirrors_equal_the_structs() -> None:
    for mirror in STRUCTURES:
        assert native.kernels().chargen_struct_size(mirror.__name__.encode()) == ctypes.sizeof(mirror)
    assert native.kernels().chargen_struct_size(b"Unknown") == -1


@built
@pytest.mark.parametrize("mirror", STRUCTURES)
def test_a_mirror_with_a_wrong_field_is_noticed(mirror: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a field more than the struct has."""
    longer = type(mirror.__name__, (ctypes.Structure,), {"_fields_": [*mirror._fields_, ("more", ctypes.c_int64)]})
    monkeypatch.setattr(loader, "STRUCTURES", (longer,))
    with pytest.raises(UserError, match=f"its {mirror.__name__} has [0-9]+ bytes, not [0-9]+"):
        find_library()


@built
def test_the_version_is_the_one_of_the_header() -> None:
    assert native.kernels().chargen_abi_version() == ABI_VERSION
    assert f"ABI_VERSION = {ABI_VERSION} " in (NATIVE / "kernels.h").read_text(encoding="utf-8")


@needs_compiler
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ('extern "C" int chargen_use() { return 0; }', "it lacks the function chargen_abi_version"),
        (stamp(version=ABI_VERSION - 1), f"its interface has version {ABI_VERSION - 1}, not {ABI_VERSION}"),
        (stamp(Window=120), f"its Window has 120 bytes, not {ctypes.sizeof(Window)}"),
        (stamp(Stream=-1), f"its Stream has -1 bytes, not {ctypes.sizeof(Stream)}"),
        (stamp(), "it lacks the function chargen_cells"),
    ],
    ids=["no stamp", "version", "size", "no struct", "no function"],
)  # fmt: skip
def test_a_library_of_other_sources_is_refused(tmp_path: Path, code: str, reason: str) -> None:
    """One line that names the file, the reason and what to do."""
    file = compile_library(tmp_path / "_kernels.so", code)
    for load in (lambda: find_library(tmp_path), lambda: load_library(file)):
        with pytest.raises(UserError) as caught:
            load()
        message = str(caught.value)
        assert message.startswith(f"{file} was built from other sources than this chargen ({reason})")
        assert message.endswith(f": rebuild it with `{build_command()}`")
        assert "\n" not in message


@needs_compiler
def test_chargen_info_fails_for_a_refused_library(tmp_path: Path) -> None:
    file = compile_library(tmp_path / "stale.so", stamp(version=0))
    result = in_a_new_process(str(file), "-m", "chargen", "info")
    assert result.returncode == 2
    assert f"{file} was built from other sources" in result.stderr
    assert "Traceback" not in result.stderr


# ------------------------------------------------------------------------------- which library


def test_a_folder_without_libraries_has_no_kernels(tmp_path: Path) -> None:
    assert find_library(tmp_path) is None


@built
def test_libraries_that_cannot_be_loaded_are_skipped(tmp_path: Path) -> None:
    """Such as those of another machine. Those of another Python that can be loaded have no Python in them and serve."""
    (tmp_path / "_kernels.another-machine.so").write_bytes(b"not a library of this machine")
    assert find_library(tmp_path) is None
    own = next(file for file in NATIVE.glob("_kernels*.so"))
    shutil.copy(own, tmp_path / "_kernels.cpython-39-another-python.so")
    assert find_library(tmp_path) is not None


@built
@needs_compiler
def test_the_library_of_this_python_comes_first(tmp_path: Path) -> None:
    """A library of another Python beside it may be out of date."""
    own = next(file for file in NATIVE.glob("_kernels*.so"))
    shutil.copy(own, tmp_path / own.name)
    compile_library(tmp_path / "_kernels.a-stale-one.so", stamp(version=0))
    assert find_library(tmp_path) is not None


def test_a_file_that_was_asked_for_must_load(tmp_path: Path) -> None:
    file = tmp_path / "kernels.so"
    file.write_bytes(b"not a library")
    result = in_a_new_process(str(file))
    assert result.returncode != 0
    assert f"UserError: {file} cannot be loaded" in result.stderr


@built
@pytest.mark.parametrize("wanted", [*INSTRUCTION_SETS, native.OFF])
def test_the_environment_chooses_the_instruction_set(wanted: str) -> None:
    assert in_a_new_process(wanted).stdout.strip() == wanted


@built
def test_the_default_is_the_best_instruction_set() -> None:
    assert in_a_new_process("").stdout.strip() == INSTRUCTION_SETS[0]


@built
def test_an_instruction_set_that_does_not_exist_is_refused() -> None:
    result = in_a_new_process("sse9")
    assert result.returncode != 0
    assert f"UserError: {native.VARIABLE}=sse9" in result.stderr
    assert "portable" in result.stderr
    with pytest.raises(UserError, match="sse9: this processor has"):
        native.use("sse9")


# ------------------------------------------------------------------------------- cells


@built
def test_the_library_numbers_the_cells_by_name() -> None:
    assert [native.cell_number(name) for name in native.cells()] == list(range(len(native.cells())))
    assert set(native.cells()) <= CELL_TYPES.keys()
    for name in CELL_TYPES:
        assert native.has_cell(name) == (name in native.cells())


@built
def test_a_cell_that_the_library_does_not_know_has_no_number() -> None:
    assert not native.has_cell("no cell")
    assert native.kernels().chargen_cell_number(b"no cell") == -1
    with pytest.raises(ValueError, match="do not compute the cell 'no cell'"):
        native.cell_number("no cell")


@built
@pytest.mark.parametrize("number", [-1, len(CELL_TYPES)])
def test_an_unknown_cell_number_is_an_error(number: int) -> None:
    kernels = native.kernels()
    assert kernels.chargen_saved_size(number, 1, 1, 1, 1) == -1
    window = Window(cell=number, T=1, B=1, H=1, num_threads=1)
    gradients = native.Gradients()
    network = native.Network(cell=number, L=1, H=1, V=1, instruction_set=kernels.chargen_instruction_set_number())
    for status in (
        kernels.chargen_forward(ctypes.byref(window)),
        kernels.chargen_backward(ctypes.byref(window), ctypes.byref(gradients)),
        kernels.chargen_read(ctypes.byref(network), 0, 0, None, None, None, 0, 1),
        kernels.chargen_write(ctypes.byref(network), None, 0, 0, 1),
    ):
        with pytest.raises(RuntimeError, match="do not compute this cell"):
            native.check(status)


@built
def test_a_network_of_an_unknown_instruction_set_is_an_error() -> None:
    kernels = native.kernels()
    network = native.Network(cell=0, L=1, H=1, V=1, instruction_set=99)
    for status in (
        kernels.chargen_read(ctypes.byref(network), 0, 0, None, None, None, 0, 1),
        kernels.chargen_write(ctypes.byref(network), None, 0, 0, 1),
    ):
        with pytest.raises(RuntimeError, match="instruction set that is not there"):
            native.check(status)


def test_an_unknown_status_is_an_error() -> None:
    native.check(0)
    with pytest.raises(RuntimeError, match="unknown status 99"):
        native.check(99)


# ------------------------------------------------------------------------------- headers


@needs_compiler
@pytest.mark.parametrize("header", sorted(NATIVE.glob("*.h")), ids=lambda header: header.name)
def test_every_header_can_be_compiled_alone(header: Path) -> None:
    flags = ["-std=c++17", "-fsyntax-only", "-Wno-psabi", "-x", "c++", "-"]
    result = subprocess.run(
        [str(COMPILER), *flags], input=f'#include "{header}"\n', capture_output=True, text=True
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
