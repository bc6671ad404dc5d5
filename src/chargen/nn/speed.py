"""A measurement of training speed on this machine, long enough to say how much it varies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch

from chargen.config import ModelConfig
from chargen.nn.model import CharRNN
from chargen.nn.threads import compute_threads

NUM_ROUNDS = 5
"""How many times each model is timed, in turns with the others, so that a busy moment does not slow one alone."""

ROUND_SECONDS = 0.3
"""The time of one round of one model at least, seconds."""

LOOP_SECONDS = 5e-4
"""What Lightning's loop and the callbacks of a run add to an update, seconds: measured on one core of a server."""


class Speed(NamedTuple):
    """Characters per second of training on the CPU, over the rounds of a measurement.

    Attributes:
        slowest: of the slowest round.
        typical: the median.
        fastest: of the fastest round.
    """

    slowest: float
    typical: float
    fastest: float


def measure_speed(config: ModelConfig, batch_size: int, sequence_length: int) -> float:
    """Measure the typical speed of one model, characters per second. See `measure_speeds`."""
    return measure_speeds([config], batch_size, sequence_length)[0].typical


@compute_threads()
def measure_speeds(
    configs: Sequence[ModelConfig],
    batch_size: int,
    sequence_length: int,
    advance: Callable[[], object] = lambda: None,
) -> list[Speed]:
    """Train models on random characters for about two seconds each, as `chargen train` does on the CPU.

    The state of PyTorch's random generator is the same after the call as before it.

    Args:
        configs: the shapes of the models, with the sizes of their vocabularies.
        batch_size: B, the number of lanes.
        sequence_length: T, the number of characters in a window.
        advance: called after each of the `NUM_ROUNDS` + 1 rounds of each model; the first one is not timed.

    Returns:
        The speed of each model. Validations and files of a run are not included.
    """
    rates: list[list[float]] = [[] for _ in configs]
    with torch.random.fork_rng(devices=[]):
        updates = [_updates(config, batch_size, sequence_length) for config in configs]
        for turn in range(-1, NUM_ROUNDS):
            for update, of_model in zip(updates, rates, strict=True):
                if turn < 0:
                    update()  # the first one allocates memory and starts threads
                else:
                    of_model.append(batch_size * sequence_length / (_seconds_of(update) + LOOP_SECONDS))
                advance()
    return [Speed(min(of_model), median(of_model), max(of_model)) for of_model in rates]


def _updates(config: ModelConfig, batch_size: int, sequence_length: int) -> Callable[[], None]:
    """Return a function that makes one update of a new model, on a new window."""
    model = CharRNN(config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def update() -> None:
        ids = torch.randint(config.num_symbols, (batch_size, sequence_length + 1))
        loss, _ = model.cross_entropy(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        torch.autograd.backward(loss / (batch_size * sequence_length))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return update


def _seconds_of(update: Callable[[], None]) -> float:
    """Make updates for a round, and return the seconds of one."""
    began, num_updates = time.perf_counter(), 0
    while True:
        update()
        num_updates += 1
        seconds = time.perf_counter() - began
        if seconds >= ROUND_SECONDS:
            return seconds / num_updates
