"""A short measurement of training speed on this machine."""

from __future__ import annotations

import time

import torch

from chargen.config import ModelConfig
from chargen.nn.model import CharRNN

MIN_SECONDS = 0.3
"""The time that a measurement takes at least, seconds."""

MIN_PASSES = 2
"""The number of timed passes at least."""


def measure_speed(config: ModelConfig, batch_size: int, sequence_length: int) -> float:
    """Run forward and backward passes over random characters for about 0.3 seconds.

    The state of PyTorch's random generator is the same after the call as before it.

    Args:
        config: the shape of the model, with its vocabulary size.
        batch_size: B, the number of lanes.
        sequence_length: T, the number of characters in a window.

    Returns:
        Characters per second of the passes, on the CPU. The updates of an optimizer are not included.
    """
    with torch.random.fork_rng(devices=[]):
        model = CharRNN(config)
        ids = torch.randint(config.num_symbols, (batch_size, sequence_length + 1))
        _run_pass(model, ids)  # the first pass allocates memory and starts threads
        num_passes, seconds = 0, 0.0
        while num_passes < MIN_PASSES or seconds < MIN_SECONDS:
            started = time.perf_counter()
            _run_pass(model, ids)
            seconds += time.perf_counter() - started
            num_passes += 1
    return num_passes * batch_size * sequence_length / seconds


def _run_pass(model: CharRNN, ids: torch.Tensor) -> None:
    loss, _ = model.cross_entropy(ids[:, :-1], ids[:, 1:])
    torch.autograd.grad(loss, list(model.parameters()))
