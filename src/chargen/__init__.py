"""chargen learns to write: character-level text generation with recurrent networks, unrolled by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chargen.corpus.tokenizer import Tokenizer as Tokenizer
    from chargen.nn.model import CharRNN as CharRNN
    from chargen.sampling.generator import SamplingParams as SamplingParams
    from chargen.sampling.generator import TextGenerator as TextGenerator
    from chargen.storage.model_file import ModelFile as ModelFile

_HOMES = {
    "CharRNN": "nn.model",
    "ModelFile": "storage.model_file",
    "SamplingParams": "sampling.generator",
    "Tokenizer": "corpus.tokenizer",
    "TextGenerator": "sampling.generator",
}

__all__ = ["CharRNN", "ModelFile", "SamplingParams", "TextGenerator", "Tokenizer", "__version__"]


def __getattr__(name: str) -> Any:
    """Public names come when they are asked for, so that `import chargen` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'chargen' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"chargen.{_HOMES[name]}"), name)
