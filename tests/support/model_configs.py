"""Small model configs for tests."""

from __future__ import annotations

from typing import Any

from chargen.config import ModelConfig


def small_config(cell: str = "gru", **changes: Any) -> ModelConfig:
    """Return the config of a small model with two layers and without dropout.

    Args:
        cell: a name from `CELL_TYPES`.
        changes: other fields of `ModelConfig`.
    """
    sizes = {"vocab_size": 11, "hidden_size": 8, "num_layers": 2, "embedding_size": 5, "dropout": 0.0}
    return ModelConfig(cell=cell, **{**sizes, **changes})
