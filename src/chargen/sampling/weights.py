"""The arrays of a model file in the form that the networks use.

Dimensions: L layers, V vocabulary, E embedding, H hidden, G gates, R rows and K columns of a matrix.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from chargen.storage.model_file import ModelFile

Array = np.ndarray

Precision = Literal["float32", "int8"]
"""Of the weights during sampling: int8 is smaller and faster, and its score a little worse."""

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


def layer_weights(model_file: ModelFile, layer: int) -> tuple[Array, Array, Array, Array]:
    """Return `weight_ih` (G*H, E or H), `weight_hh` (G*H, H), `bias_ih` (G*H,) and `bias_hh` (G*H,) of a layer.

    Raises:
        KeyError: an array is missing.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = (
        model_file.weights[f"recurrence.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return weight_ih, weight_hh, bias_ih, bias_hh


def input_table(model_file: ModelFile) -> Array:
    """Return the first layer's input gates of every character, (V, G*H), so that a tick looks them up."""
    weight_ih, _, bias_ih, _ = layer_weights(model_file, 0)
    return np.asarray(model_file.weights["embedding.weight"] @ weight_ih.T + bias_ih)


def quantize(rows: Array) -> tuple[Array, Array]:
    """Quantize a matrix to int8, symmetrically and row by row.

    Args:
        rows: (R, K) float32.

    Returns:
        Integers from -127 to 127, (R, K) int8, and the scale of each row, (R,) float32: rows = integers * scale.
    """
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    return np.rint(rows / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8), scale
