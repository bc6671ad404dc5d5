"""chargen learns to write: character-level text generation with recurrent networks, unrolled by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from chargen.nn.model import CharRNN as CharRNN
    from chargen.storage.model_file import Portable as Portable
    from chargen.sampling.generator import Choice as Choice
    from chargen.sampling.generator import Writer as Writer
    from chargen.corpus.tokenizer import Tokenizer as Tokenizer

_HOMES = {
    "CharRNN": "nn.model",
    "Portable": "storage.model_file",
    "Choice": "sampling.generator",
    "Tokenizer": "corpus.tokenizer",
    "Writer": "sampling.generator",
}

__all__ = ["CharRNN", "Choice", "Portable", "Tokenizer", "Writer", "__version__"]


def __getattr__(name: str) -> Any:
    """Public names come when they are asked for, so that `import chargen` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'chargen' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"chargen.{_HOMES[name]}"), name)
