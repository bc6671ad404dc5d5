"""exp, sigmoid and tanh in float32 are those of numpy in float64 but for the last bits."""

from __future__ import annotations

import numpy as np
import pytest

from chargen.sampling import activations

X = np.concatenate((np.linspace(-100, 100, 20_001), np.geomspace(1e-30, 1, 1001), -np.geomspace(1e-30, 1, 1001)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("exp", np.exp), ("sigmoid", lambda x: 1 / (1 + np.exp(-x))), ("tanh", np.tanh)],
)
def test_activations_equal_numpy(name: str, expected) -> None:
    """Between the bounds of exp, -80 and 88, to four times the distance of two float32 numbers."""
    x = X.astype(np.float32)
    x = x[(x > -80) & (x < 88)]
    result = getattr(activations, name)(x)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected(x.astype(np.float64)), rtol=4 * 2.0**-23, atol=0)


def test_beyond_its_bounds_exp_goes_on() -> None:
    small, large = activations.exp(np.array([-1000, 1000], np.float32))
    assert 0 < small < 1e-34
    assert large == np.inf
    assert activations.sigmoid(np.array([-1000, 1000], np.float32)).tolist() == [0, 1]
    assert activations.tanh(np.array([-1000, 1000], np.float32)).tolist() == [-1, 1]
