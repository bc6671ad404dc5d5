"""The compiled kernels: whether they are there, which instruction set they use, and how they report errors.

The kernels are built with the package if a C++ compiler is found. Without them chargen computes in Python. Each kernel
is defined by a Python function that computes the same: `nn.unroll.unroll_by_hand`, `nn.loss.cross_entropy_reference`,
`sampling.numpy_network.NumpyNetwork`, and the functions ending in `_reference` of `corpus.code_points`.

The environment variable `CHARGEN_NATIVE` chooses the kernels: `off` for none, an instruction set (such as
`avx2` or `portable`), or the path of another build. Without it the best instruction set of the processor is used.

- `loader`: find the library and check that it fits this source.
- `installation`: the command that builds the library again.
- `structures`: the structs of kernels.h as ctypes mirrors.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from chargen.errors import UserError
from chargen.native.loader import find_library, load_library
from chargen.native.structures import Gradients as Gradients
from chargen.native.structures import Head as Head
from chargen.native.structures import HeadGradients as HeadGradients
from chargen.native.structures import Linear as Linear
from chargen.native.structures import LinearGradients as LinearGradients
from chargen.native.structures import Network as Network
from chargen.native.structures import PackedMatrix as PackedMatrix
from chargen.native.structures import Stream as Stream
from chargen.native.structures import Window as Window

VARIABLE, OFF = "CHARGEN_NATIVE", "off"
_NO_MEMORY, _BAD_ID, _BAD_CELL, _BAD_INSTRUCTION_SET = 1, 2, 3, 4  # Status of kernels.h


# ------------------------------------------------------------------------------- the library


@cache
def library() -> ctypes.CDLL | None:
    """Return the kernels; None if they were not built or are switched off.

    Raises:
        UserError: the library does not fit this source, or `CHARGEN_NATIVE` names kernels that are not there.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == OFF:
        return None
    if Path(wanted).is_file():
        return load_library(Path(wanted))
    found = find_library()
    if not wanted:
        return found
    names = [] if found is None else instruction_sets(found)
    if found is None or wanted not in names:
        raise UserError(f"{VARIABLE}={wanted}: there are no such kernels here; write {', '.join([*names, OFF])}")
    found.chargen_use(wanted.encode())
    return found


def kernels() -> ctypes.CDLL:
    """Return the kernels. The caller has made sure that they are there."""
    found = library()
    assert found is not None
    return found


def missing() -> str | None:
    """Return one line if the kernels were not built: what is slow, and how to build them.

    Returns:
        None if the kernels are there or were switched off.

    Raises:
        UserError: as for `library`.
    """
    if library() is not None or os.environ.get(VARIABLE) == OFF:
        return None
    from chargen.native.installation import build_command

    return (
        "there are no compiled kernels here, so training and sampling are several times slower; install g++ or "
        f"clang++, then write: {build_command()}"
    )


# ------------------------------------------------------------------------------- what they compute


def has_cell(name: str) -> bool:
    """Return whether the kernels are there and compute this cell."""
    found = library()
    return found is not None and found.chargen_cell_number(name.encode()) >= 0


def cell_number(name: str) -> int:
    """Return the number of a cell in the kernels.

    Raises:
        ValueError: the kernels do not compute this cell.
    """
    number: int = kernels().chargen_cell_number(name.encode())
    if number < 0:
        raise ValueError(f"the kernels do not compute the cell {name!r}; they compute {', '.join(cells())}")
    return number


def cells() -> list[str]:
    """Return the names of the cells that the kernels compute."""
    names: bytes = kernels().chargen_cells()
    return names.decode().split()


def supports(tensors: Iterable[Any]) -> bool:
    """Return whether the kernels are there and take these torch tensors: float32, on the CPU, not empty."""
    return library() is not None and all(
        str(tensor.dtype) == "torch.float32" and tensor.device.type == "cpu" and tensor.numel() for tensor in tensors
    )


# ------------------------------------------------------------------------------- threads

_kernel_threads = 0


def num_threads(torch_threads: int) -> int:
    """Return how many threads a kernel uses: as many as torch, or the number given to `kernel_threads`."""
    return _kernel_threads or torch_threads


@contextmanager
def kernel_threads(number: int) -> Iterator[None]:
    """Run the kernels on `number` threads of their own instead of torch's.

    Set torch to one thread at the same time. Torch's threads wait for each other at the end of every operation, so one
    that another program keeps from running stops all of them. A kernel waits only for threads that are running.
    """
    global _kernel_threads
    _kernel_threads = number
    kernels().chargen_use_kernel_threads(True)
    try:
        yield
    finally:
        _kernel_threads = 0
        kernels().chargen_use_kernel_threads(False)


# ------------------------------------------------------------------------------- instruction sets


def use(instruction_set: str | None) -> None:
    """Switch to another instruction set, for tests and benchmarks; None for the best one.

    Raises:
        UserError: this processor does not have it.
    """
    name = None if instruction_set is None else instruction_set.encode()
    if kernels().chargen_use(name).decode() != (instruction_set or in_use()):
        raise UserError(f"{instruction_set}: this processor has {', '.join(instruction_sets(kernels()))}")


def in_use() -> str:
    """Return the instruction set of the kernels, or `off`."""
    return OFF if library() is None else kernels().chargen_in_use().decode()


def instruction_sets(found: ctypes.CDLL) -> list[str]:
    """Return the instruction sets that a library was built for and this processor has, the best one first."""
    names: bytes = found.chargen_instruction_sets()
    return names.decode().split()


def has_bf16() -> bool:
    """Return whether the kernels are there and multiply in bf16 faster than in float32 on this processor."""
    found = library()
    return found is not None and bool(found.chargen_has_bf16())


# ------------------------------------------------------------------------------- errors


def check(status: int) -> None:
    """Raise the exception that a kernel's status stands for.

    Raises:
        MemoryError: there was not enough memory.
        IndexError: an id is not in the vocabulary.
        RuntimeError: the cell or the instruction set is unknown to the kernels.
    """
    if status == _NO_MEMORY:
        raise MemoryError("not enough memory for a window: lower batch_size, sequence_length or model.hidden_size")
    if status == _BAD_ID:
        raise IndexError("an id is beyond the vocabulary")
    if status == _BAD_CELL:
        raise RuntimeError("the kernels do not compute this cell")
    if status == _BAD_INSTRUCTION_SET:
        raise RuntimeError("the network was packed for an instruction set that is not there")
    if status:
        raise RuntimeError(f"a kernel returned the unknown status {status}")
