"""The model whose weights a new run begins with: `init=RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from chargen.errors import ConfigError
from chargen.storage.run_folder import load_model

if TYPE_CHECKING:
    from chargen.config import TrainConfig
    from chargen.storage.model_file import ModelFile

SHAPE = ("cell", "hidden_size", "num_layers", "embedding_size", "head_size", "residual")
"""The settings of a model that decide on the shapes of its weights, besides the vocabulary."""


RATE = 0.25
"""The learning rate relative to that of random weights: measured by benchmarks/bench_init.py."""


def initial_model(config: TrainConfig, keys: Sequence[str]) -> tuple[TrainConfig, ModelFile]:
    """Read the model that `config.init` names.

    Args:
        config: the settings of the new run.
        keys: the keys that were typed.

    Returns:
        The settings with the shape of that model and a smaller learning rate, unless one was typed; and the model.

    Raises:
        ConfigError: a setting that was typed does not fit it.
        FileError: it cannot be read.
    """
    from chargen.corpus.tokenizer import Tokenizer

    if config.resume is not None:
        raise ConfigError("init begins a new run, and resume continues one: write one of them")
    initial = load_model(config.init)
    for name in SHAPE:
        given, stored = getattr(config.model, name), getattr(initial.config, name)
        typed = next((key for key in (f"model.{name}", "model") if key in keys), None)
        if given != stored and typed is not None:
            raise ConfigError(f"model.{name}={given}: {config.init} has model.{name}={stored}; leave out {typed}")
    unit = Tokenizer.from_json(initial.tokenizer).unit
    if unit != config.corpus.unit:
        raise ConfigError(
            f"corpus.unit={config.corpus.unit}: {config.init} is a model of {unit}s; write corpus.unit={unit}"
        )
    model = replace(config.model, **{name: getattr(initial.config, name) for name in SHAPE})
    optimizer = config.optimizer
    if "optimizer.learning_rate" not in keys:
        optimizer = replace(optimizer, learning_rate=RATE * optimizer.learning_rate)
    return replace(config, model=model, optimizer=optimizer), initial
