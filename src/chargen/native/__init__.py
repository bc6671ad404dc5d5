"""The compiled kernels, where there are any: finds them, and hands them arrays by their addresses.

They are built with the package when a C++ compiler is there, and chargen works without them. What a
kernel computes is defined by its Python twin: `unroll.unroll_by_hand`, `sampling.NumpyNetwork`,
`head.cross_entropy_reference`, those of `symbols`. `CHARGEN_NATIVE` in the environment chooses: `off` for none, an
instruction set by name (`avx512`, `avx2`, `portable`), or the path of another build of the kernels; without
it the best instruction set of the processor.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_char_p, c_double, c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

CELLS = ("rnn", "lstm", "gru")
"""In the order in which the kernels number them."""

VARIABLE, OFF = "CHARGEN_NATIVE", "off"
_NO_MEMORY, _BAD_ID = 1, 2  # as in kernels.h


class Window(Structure):
    """One window of one layer, as `kernels.h` describes it."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        *((name, c_int64) for name in ("cell", "T", "B", "H", "threads", "keep", "num_rows")),
        *((name, c_void_p) for name in ("ids", "gates_x", "weight_hh", "bias_hh", "h0", "c0")),
        *((name, c_void_p) for name in ("outputs", "cn", "saved")),
    ]


class Gradients(Structure):
    """Of a window: those that come, then those that are asked for."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        (name, c_void_p) for name in ("outputs", "hn", "cn", "gates_x", "weight_hh", "bias_hh", "h0", "c0")
    ]


class Linear(Structure):
    """y = x W^T + b."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        *((name, c_int64) for name in ("rows", "K", "M", "threads")),
        *((name, c_void_p) for name in ("x", "weight", "bias", "y")),
    ]


class LinearGradients(Structure):
    """Of that: the one that comes, then those that are asked for."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [(name, c_void_p) for name in ("y", "x", "weight", "bias")]


class Head(Structure):
    """The head over a window."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        *((name, c_int64) for name in ("rows", "B", "H", "V", "threads", "ignored")),
        *((name, c_void_p) for name in ("outputs", "mask", "weight", "bias", "targets", "masked", "p", "nats")),
    ]


class HeadGradients(Structure):
    """Of the head: the one that comes, then those that are asked for."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        ("nats", c_float),
        *((name, c_void_p) for name in ("outputs", "weight", "bias")),
    ]


class Packed(Structure):
    """A matrix for sampling, packed."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [(name, c_void_p) for name in ("panels", "bias", "scale", "offset")]


class Network(Structure):
    """A trained network."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        *((name, c_int64) for name in ("cell", "L", "H", "V", "residual", "lanes")),
        ("table", c_void_p),
        ("hidden", POINTER(Packed)),
        ("input", POINTER(Packed)),
        ("head", Packed),
    ]


class Choosing(Structure):
    """How a character is chosen."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        *((name, c_double) for name in ("temperature", "top_p", "min_p")),
        *((name, c_int64) for name in ("top_k", "num_never")),
        ("never", c_void_p),
    ]


_FUNCTIONS: Sequence[tuple[str, Any, list[Any]]] = (
    ("chargen_use", c_char_p, [c_char_p]),
    ("chargen_own_threads", None, [c_int]),
    ("chargen_using", c_char_p, []),
    ("chargen_instruction_sets", c_char_p, []),
    ("chargen_saved_size", c_int64, [c_int64] * 5),
    ("chargen_forward", c_int, [POINTER(Window)]),
    ("chargen_backward", c_int, [POINTER(Window), POINTER(Gradients)]),
    ("chargen_linear_forward", c_int, [POINTER(Linear)]),
    ("chargen_linear_backward", c_int, [POINTER(Linear), POINTER(LinearGradients)]),
    ("chargen_head_size", c_int64, [c_int64] * 2),
    ("chargen_head_forward", c_int, [POINTER(Head)]),
    ("chargen_head_backward", c_int, [POINTER(Head), POINTER(HeadGradients)]),
    ("chargen_lanes", c_int64, []),
    ("chargen_panel", c_int64, []),
    ("chargen_read", c_int, [POINTER(Network), c_int64, c_int64, *[c_void_p] * 3, c_int64]),
    ("chargen_write", c_int, [POINTER(Network), POINTER(Choosing), c_int64, c_int64, *[c_void_p] * 4, c_int64]),
    ("chargen_decode", c_int64, [c_char_p, c_int64, c_void_p, POINTER(c_int64)]),
    ("chargen_count", None, [c_void_p, c_int64, c_int64, c_void_p]),
    ("chargen_look_up", None, [c_void_p, c_int64, c_int64, c_void_p, c_int64, c_int64, c_void_p]),
)


@cache
def library() -> ctypes.CDLL | None:
    """The kernels; None where they were not built or are not wanted.

    Raises:
        ValueError: `CHARGEN_NATIVE` names none that this machine has.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == OFF:
        return None
    if Path(wanted).is_file():
        wanted, built = "", [Path(wanted).absolute()]
    else:  # there may be others, of another Python, and older
        here, own = Path(__file__).parent, sysconfig.get_config_var("EXT_SUFFIX")
        built = [file for file in here.glob("_kernels*") if file.suffix in (".so", ".pyd")]
        built.sort(key=lambda file: (file.name != f"_kernels{own}", file.name))
    found = next(filter(None, map(_loaded, built)), None)
    if found is None:
        return None
    if wanted and found.chargen_use(wanted.encode()).decode() != wanted:
        raise ValueError(
            f"{VARIABLE}={wanted}: no such kernels here; write {', '.join(instruction_sets(found))} or {OFF}"
        )
    return found


def _loaded(file: Path) -> ctypes.CDLL | None:
    """The kernels in a file; None if they are for another machine or of another version."""
    try:
        found = ctypes.CDLL(str(file))
        for name, result, arguments in _FUNCTIONS:
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return found


def kernels() -> ctypes.CDLL:
    """The same, for those who know that they are there."""
    found = library()
    assert found is not None
    return found


_own_threads = 0


def num_threads(of_torch: int) -> int:
    """How many threads a kernel takes: as many as torch, or those of `kernel_threads`."""
    return _own_threads or of_torch


@contextmanager
def kernel_threads(number: int) -> Iterator[None]:
    """Within, kernels take so many threads of their own instead of torch's.

    It goes together with a torch that is told to take one, and makes the two independent of another program that
    wants a processor: torch's threads wait for each other at the end of every operation, however small, while a kernel
    waits for no thread that is not running.
    """
    global _own_threads
    _own_threads = number
    kernels().chargen_own_threads(True)
    try:
        yield
    finally:
        _own_threads = 0
        kernels().chargen_own_threads(False)


def supports(tensors: Iterable[Any]) -> bool:
    """Whether there are kernels, and they compute with these tensors of torch: float32, on the CPU, not empty."""
    return library() is not None and all(
        str(tensor.dtype) == "torch.float32" and tensor.device.type == "cpu" and tensor.numel() for tensor in tensors
    )


def use(instruction_set: str | None) -> None:
    """Changes to another instruction set, for tests and benchmarks; None for the best.

    Raises:
        ValueError: this machine does not have it.
    """
    name = None if instruction_set is None else instruction_set.encode()
    if kernels().chargen_use(name).decode() != (instruction_set or in_use()):
        raise ValueError(f"{instruction_set}: this machine has {', '.join(instruction_sets(kernels()))}")


def in_use() -> str:
    """The instruction set of the kernels, or `off`."""
    return OFF if library() is None else kernels().chargen_using().decode()


def instruction_sets(found: ctypes.CDLL) -> list[str]:
    """Those that were built and that this processor has, the best first."""
    names: bytes = found.chargen_instruction_sets()
    return names.decode().split()


def check(code: int) -> None:
    """Raises what a kernel's answer stands for.

    Raises:
        MemoryError: there was not enough.
        IndexError: an id is no row of its table.
    """
    if code == _NO_MEMORY:
        raise MemoryError("not enough memory for a window: lower batch_size, sequence_length or model.hidden_size")
    if code == _BAD_ID:
        raise IndexError("an id is beyond the vocabulary")
