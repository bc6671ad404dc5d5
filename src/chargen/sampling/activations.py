"""exp, sigmoid and tanh of float32 arrays with the bits of the compiled kernels.

The functions do what `native/simd.h` does with `REPRODUCIBLE`: the same operations on float32 numbers, in the same
order. Each operation is rounded as IEEE 754 says, so the results are the same on every processor. `np.exp` and
`np.tanh` are faster, and differ in the last bits from one processor to another.

All arguments and results have the shape (N,).
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

_SHIFT = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer, held in the low bits
_COEFFICIENTS = tuple(np.float32(1) / np.float32(factorial) for factorial in (720, 120, 24, 6, 2))


def exp(x: Array) -> Array:
    """Return e^x for x (N,) float32; infinity above 88.4, and e^-80 below -80."""
    power, small = _split_exp(np.minimum(np.maximum(x, np.float32(-80)), np.float32(89)))
    return np.asarray((np.float32(1) + small) * power)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + e^-x) for x (N,) float32."""
    return np.asarray(np.float32(1) / (np.float32(1) + exp(-x)))


def tanh(x: Array) -> Array:
    """Return tanh x for x (N,) float32, as -d / (2 + d) with d = e^(-2|x|) - 1, with the sign of x."""
    power, small = _split_exp(np.maximum(np.float32(-2) * np.abs(x), np.float32(-80)))
    d = small * power + (power - np.float32(1))
    return np.asarray(np.copysign(-d / (np.float32(2) + d), x))


def _split_exp(x: Array) -> tuple[Array, Array]:
    """Split e^x = 2^n e^r for x (N,) from -80 to 89. Return 2^n and e^r - 1, both (N,) float32."""
    shifted = x * np.float32(1.44269504) + _SHIFT
    n = shifted - _SHIFT
    r = x - n * np.float32(0.693145752)
    r = r - n * np.float32(1.42860677e-6)
    power = ((shifted.view(np.int32) + np.int32(127)) << 23).view(np.float32)
    p = r * (np.float32(1) / np.float32(5040))
    for coefficient in _COEFFICIENTS[:-1]:
        p = (p + coefficient) * r
    return power, (p + _COEFFICIENTS[-1]) * r * r + r
