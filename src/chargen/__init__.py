"""chargen learns to write: character-level text generation with recurrent networks, unrolled by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from chargen.config import TrainConfig as TrainConfig
    from chargen.config import parse_config as parse_config
    from chargen.corpus.tokenizer import Tokenizer as Tokenizer
    from chargen.nn.model import CharRNN as CharRNN
    from chargen.sampling.generator import TextGenerator as TextGenerator
    from chargen.sampling.generator import load as load
    from chargen.sampling.params import SamplingParams as SamplingParams
    from chargen.storage.model_file import ModelFile as ModelFile

_MODULES = {
    "CharRNN": "nn.model",
    "ModelFile": "storage.model_file",
    "SamplingParams": "sampling.params",
    "TextGenerator": "sampling.generator",
    "Tokenizer": "corpus.tokenizer",
    "TrainConfig": "config",
    "load": "sampling.generator",
    "parse_config": "config",
}

__all__ = [
    "CharRNN",
    "ModelFile",
    "SamplingParams",
    "TextGenerator",
    "Tokenizer",
    "TrainConfig",
    "__version__",
    "load",
    "parse_config",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import chargen` is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'chargen' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"chargen.{_MODULES[name]}"), name)
