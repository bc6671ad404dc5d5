"""The memory that training needs, estimated, and the memory of this machine.

Dimensions: B lanes, T ticks, V vocabulary, H hidden, L layers.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace

from chargen.config import ModelConfig, TrainConfig
from chargen.errors import ConfigError

_TOLERANCE = 2
"""A run is refused if it needs more than this multiple of the memory; the estimate is only known to that factor."""


def training_megabytes(model: ModelConfig, batch_size: int, sequence_length: int) -> float:
    """Estimate the memory for weights, gradients, the two means of AdamW and the activations of one window.

    Args:
        model: with its vocabulary size.
        batch_size: B.
        sequence_length: T.
    """
    activations = batch_size * sequence_length * (model.num_layers * model.hidden_size * 8 + model.num_symbols)
    return 4e-6 * (4 * model.num_parameters + activations)


def machine_megabytes() -> float:
    """Return the memory of this machine; infinity if the system does not say."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf
    return 1e-6 * size if size > 0 else math.inf


def require_memory(config: TrainConfig, vocab_size: int) -> None:
    """Refuse a run that this machine cannot hold, before anything is built.

    Raises:
        ConfigError: it needs more than twice the memory of this machine.
    """
    model = replace(config.model, vocab_size=vocab_size)
    needed, there = training_megabytes(model, config.batch_size, config.sequence_length), machine_megabytes()
    if needed > _TOLERANCE * there:
        raise ConfigError(
            f"model.hidden_size={model.hidden_size} with batch_size={config.batch_size} and "
            f"sequence_length={config.sequence_length} needs about {needed / 1000:,.0f} GB, and this machine has "
            f"{there / 1000:,.0f}: write smaller ones"
        )
