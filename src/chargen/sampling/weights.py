"""The arrays of a model file in the form that the networks use.

Dimensions: L layers, V vocabulary, E embedding, H hidden, G gates, R rows and K columns of a matrix.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from chargen.errors import ArgumentError
from chargen.storage.model_file import ModelFile

Array = np.ndarray

Precision = Literal["float32", "int8"]
"""Of the weights during sampling: int8 is smaller and faster, and its score a little worse."""

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")

_ROWS_AT_ONCE = 1024
"""Rows of a table that are held in float64 at once."""


def check_precision(precision: Precision) -> None:
    """Check that a precision is one of `PRECISIONS`.

    Raises:
        ArgumentError: it is not.
    """
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise ArgumentError("precision", precision, " or ".join(PRECISIONS))


def layer_weights(model_file: ModelFile, layer: int) -> tuple[Array, Array, Array, Array]:
    """Return `weight_ih` (G*H, E or H), `weight_hh` (G*H, H), `bias_ih` (G*H,) and `bias_hh` (G*H,) of a layer.

    Raises:
        KeyError: an array is missing.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = (
        model_file.weights[f"recurrence.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return weight_ih, weight_hh, bias_ih, bias_hh


def head_weights(model_file: ModelFile) -> tuple[Array, Array]:
    """Return the matrix of the output layer, (V, H), and its bias, (V,), with the projection before it multiplied in.

    Raises:
        KeyError: an array is missing.
    """
    weight, bias = model_file.weights["head.weight"], model_file.weights["head.bias"]
    if not model_file.config.has_projection:
        return weight, bias
    projection, offset = (model_file.weights[f"projection.{name}"].astype(np.float64) for name in ("weight", "bias"))
    whole = np.empty((len(weight), projection.shape[1]), dtype=np.float32)
    for begin in range(0, len(whole), _ROWS_AT_ONCE):
        rows = slice(begin, begin + _ROWS_AT_ONCE)
        whole[rows] = weight[rows] @ projection
    return whole, (bias + weight @ offset).astype(np.float32)


def input_table(model_file: ModelFile) -> Array:
    """Return the first layer's input gates of every character, (V, G*H) float32, so that a tick looks them up.

    The sums are computed in float64: rounded to float32, they do not depend on the order in which a processor adds.
    """
    weight_ih, _, bias_ih, _ = layer_weights(model_file, 0)
    embedding, columns = model_file.weights["embedding.weight"], weight_ih.T.astype(np.float64)
    table = np.empty((len(embedding), len(weight_ih)), dtype=np.float32)
    for begin in range(0, len(table), _ROWS_AT_ONCE):
        rows = slice(begin, begin + _ROWS_AT_ONCE)
        with np.errstate(over="ignore"):  # of a run that has diverged to huge finite weights
            table[rows] = embedding[rows] @ columns + bias_ih
    return table


def quantize(rows: Array) -> tuple[Array, Array]:
    """Quantize a matrix to int8, symmetrically and row by row.

    Args:
        rows: (R, K) float32.

    Returns:
        Integers from -127 to 127, (R, K) int8, and the scale of each row, (R,) float32: rows = integers * scale.
    """
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    return np.rint(rows / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8), scale
