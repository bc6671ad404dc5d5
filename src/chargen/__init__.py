"""chargen learns to write: character-level text generation with recurrent networks, unrolled by hand.

    import chargen

    generator = chargen.load("runs/mine")
    print(generator.generate("It is", max_length=500, seed=1))

- `load`: load a trained model as a `TextGenerator`.
- `TextGenerator`: writes and scores text.
- `SamplingParams`: how each character is chosen.
- `ModelFile`: a `model.safetensors`: weights, settings, tokenizer, metadata.
- `Tokenizer`: text to ids and back.
- `TrainConfig`, `parse_config`: the settings of a run, checked.
- `CharRNN`: the network in PyTorch.

A name is imported when it is first used. `CharRNN` alone needs torch: where torch is not installed, `__all__` and
`dir(chargen)` leave it out, so that `from chargen import *` works, and `chargen.CharRNN` raises ModuleNotFoundError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.2.0"

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

if TYPE_CHECKING:
    from chargen.config import TrainConfig as TrainConfig
    from chargen.config import parse_config as parse_config
    from chargen.corpus.tokenizer import Tokenizer as Tokenizer
    from chargen.nn.model import CharRNN as CharRNN
    from chargen.sampling.generator import TextGenerator as TextGenerator
    from chargen.sampling.generator import load as load
    from chargen.sampling.params import SamplingParams as SamplingParams
    from chargen.storage.model_file import ModelFile as ModelFile
else:  # a type checker that saw a `__getattr__` would accept every name
    from importlib import import_module
    from importlib.util import find_spec

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

    try:
        _has_torch = find_spec("torch") is not None
    except (ImportError, ValueError):
        _has_torch = False
    if not _has_torch:
        __all__.remove("CharRNN")

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used, so that `import chargen` is fast."""
        if name not in _MODULES:
            raise AttributeError(f"module 'chargen' has no attribute {name!r}")
        value = getattr(import_module(f"chargen.{_MODULES[name]}"), name)
        _resolve_annotations(value)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(
            {*__all__, *(name for name, value in globals().items() if name[:2] == "__" and not callable(value))}
        )

    def _resolve_annotations(value: object) -> None:
        """Replace the annotations of a function or a class, which are strings, by types, so that `help` shows types."""
        from inspect import get_annotations
        from types import FunctionType
        from typing import get_type_hints

        members = [value, *vars(value).values()] if isinstance(value, type) else [value]
        for member in members:
            owner = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(owner, (FunctionType, type)) and owner.__module__ == value.__module__:
                types = get_type_hints(owner, include_extras=True)
                owner.__annotations__ = {
                    name: None if text == "None" else types[name] for name, text in get_annotations(owner).items()
                }
        for name, field in getattr(value, "__dataclass_fields__", {}).items():
            field.type = value.__annotations__.get(name, field.type)
