"""The memory that training needs, estimated, and the memory of this machine.

Dimensions: B lanes, T ticks, V vocabulary, H hidden, L layers.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace

from chargen import native
from chargen.config import ModelConfig, TrainConfig
from chargen.errors import ConfigError

PROCESS_MEGABYTES = 400
"""Python, torch and Lightning, before a model is built: measured."""

BYTES_PER_PARAMETER = 40
"""Weights, gradients and the two means of AdamW in float32, and what writes and checks a checkpoint: measured."""

LARGE_VOCABULARY = 2000
"""From this vocabulary on, the output layer of a new model is smaller, unless its size is set (docs/LOG.md)."""

SCORED_TICKS = 4096
"""Ticks of the windows that are scored together, which hold the logits of all of them."""

_TOLERANCE = 2
"""A run is refused if it needs more than this multiple of the memory; the estimate is only known to that factor."""


def head_size(model: ModelConfig) -> int | None:
    """Choose what the output layer of a new model reads: all of h, None, or a projection of a quarter of its size.

    With thousands of symbols, the output layer is most of the work, and a smaller one learns more in the same time.
    """
    is_large = model.vocab_size is not None and model.vocab_size >= LARGE_VOCABULARY
    return max(1, model.hidden_size // 4) if is_large and model.head_size is None else model.head_size


def training_megabytes(model: ModelConfig, batch_size: int, sequence_length: int) -> float:
    """Estimate the most memory that `chargen train` uses on the CPU, as the system counts it.

    It is that of the process, the parameters, and the activations of one window or the logits of a score, whichever
    are larger. The compiled kernels keep fewer activations than torch's operations.

    Args:
        model: with its vocabulary size.
        batch_size: B.
        sequence_length: T.
    """
    num_vectors, num_logits = (8, 1) if native.has_cell(model.cell) else (24, 2)
    logits = num_logits * model.num_symbols
    window = batch_size * sequence_length * (num_vectors * model.num_layers * model.hidden_size + logits)
    activations = max(window, SCORED_TICKS * logits)
    return PROCESS_MEGABYTES + 1e-6 * (BYTES_PER_PARAMETER * model.num_parameters + 4 * activations)


def machine_megabytes() -> float:
    """Return the memory of this machine; infinity if the system does not say, as on Windows."""
    if sys.platform == "win32":
        return math.inf
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
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
