"""The structs of kernels.h as ctypes mirrors. Arrays are passed by their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, c_double, c_float, c_int64, c_void_p
from typing import Any, ClassVar

Fields = Sequence[tuple[str, Any]]


def _integers(*names: str) -> list[tuple[str, Any]]:
    return [(name, c_int64) for name in names]


def _addresses(*names: str) -> list[tuple[str, Any]]:
    return [(name, c_void_p) for name in names]


class Window(Structure):
    """One layer over one window: sizes, inputs, and memory for its results."""

    _fields_: ClassVar[Fields] = [
        *_integers("cell", "T", "B", "H", "num_threads", "keep", "bf16", "num_rows"),
        *_addresses("ids", "gates_x", "weight_hh", "bias_hh", "h0", "c0", "outputs", "cn", "saved"),
    ]


class Gradients(Structure):
    """Gradients of a window: three that are given, then five that are computed."""

    _fields_: ClassVar[Fields] = _addresses("outputs", "hn", "cn", "gates_x", "weight_hh", "bias_hh", "h0", "c0")


class Linear(Structure):
    """The product y = x W^T + b."""

    _fields_: ClassVar[Fields] = [
        *_integers("rows", "K", "M", "num_threads", "bf16"),
        *_addresses("x", "weight", "bias", "y"),
    ]


class LinearGradients(Structure):
    """Gradients of a product: the one of y is given, the others are computed."""

    _fields_: ClassVar[Fields] = _addresses("y", "x", "weight", "bias")


class Head(Structure):
    """The output layer and its cross-entropy over a window."""

    _fields_: ClassVar[Fields] = [
        *_integers("rows", "B", "H", "V", "num_threads", "bf16", "ignored"),
        *_addresses("outputs", "mask", "weight", "bias", "targets", "masked", "p", "nats"),
    ]


class HeadGradients(Structure):
    """Gradients of the output layer: the one of the summed loss is given, the others are computed."""

    _fields_: ClassVar[Fields] = [("nats", c_float), *_addresses("outputs", "weight", "bias")]


class PackedMatrix(Structure):
    """A matrix and its bias, packed for sampling."""

    _fields_: ClassVar[Fields] = _addresses("panels", "bias", "scale", "offset")


class Network(Structure):
    """A trained network, packed for sampling."""

    _fields_: ClassVar[Fields] = [
        *_integers("cell", "L", "H", "V", "residual", "instruction_set"),
        *_addresses("table"),
        ("hidden", POINTER(PackedMatrix)),
        ("input", POINTER(PackedMatrix)),
        ("head", PackedMatrix),
    ]


class Stream(Structure):
    """One text that is being written, with its sampling parameters."""

    _fields_: ClassVar[Fields] = [
        *((name, c_double) for name in ("temperature", "top_p", "min_p")),
        *_integers("top_k", "num_banned"),
        *_addresses("banned", "uniforms", "state", "logits", "ids"),
    ]


STRUCTURES: tuple[type[Structure], ...] = tuple(
    value for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Structure) and value is not Structure
)  # fmt: skip
"""All mirrors. The loader compares their sizes with those that the library reports."""
