"""The size of a model is counted from its shape, and the memory of its training is estimated from it."""

from __future__ import annotations

import pytest

from chargen.config import ModelConfig, TrainConfig
from chargen.errors import ConfigError
from chargen.planning.size import machine_megabytes, require_memory, training_megabytes

GRU = ModelConfig(vocab_size=11, cell="gru", hidden_size=8, num_layers=1, embedding_size=4)


def test_parameters_are_counted() -> None:
    """A GRU has V E + 3 H (E + H + 2) + V H + V parameters."""
    assert GRU.num_parameters == 11 * 4 + 3 * 8 * (4 + 8 + 2) + 11 * 8 + 11


def test_memory_is_that_of_four_copies_and_one_window() -> None:
    """Four copies of the parameters and B T (8 L H + V) activations of 4 bytes."""
    assert training_megabytes(GRU, 2, 6) == pytest.approx(4e-6 * (4 * GRU.num_parameters + 2 * 6 * (8 * 8 + 11)))


def test_run_beyond_the_memory_of_the_machine_is_refused() -> None:
    config = TrainConfig(model=GRU)
    require_memory(config, 11)
    if machine_megabytes() < 1e9:
        with pytest.raises(ConfigError, match=r"model\.hidden_size=8 with batch_size=1000000 and sequence_length="):
            require_memory(TrainConfig(model=GRU, batch_size=1_000_000, sequence_length=10_000_000), 11)
