"""The table of input gates holds the exact sums, rounded once, so it is the same on every processor."""

from __future__ import annotations

import numpy as np
from support.sampling import random_model_file

from chargen.sampling.weights import input_table


def test_the_input_table_is_rounded_once() -> None:
    """Sums of float32 numbers in another order differ in the last bits."""
    file = random_model_file("lstm", 50)
    embedding, bias = file.weights["embedding.weight"], file.weights["recurrence.bias_ih_l0"]
    columns = file.weights["recurrence.weight_ih_l0"].T
    exact = (embedding.astype(np.longdouble)[:, :, None] * columns.astype(np.longdouble)).sum(axis=1) + bias
    table = input_table(file)
    assert table.dtype == np.float32
    assert np.array_equal(table, exact.astype(np.float32))
    assert not np.array_equal(table, embedding @ columns + bias), "this test could not fail"
