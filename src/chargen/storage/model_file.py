"""A trained model as one safe file, and back.

`model.safetensors` is complete: weights, settings, tokenizer and what is known of the run, the
last three as JSON in the header. Nothing in it can run; numpy alone reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from chargen.storage.atomic import whole

FORMAT = "chargen"
FORMAT_VERSION = 2

ESTIMATE = "validation_estimate_nats_per_char"
"""The note of how well the weights read the held-out text while they were trained."""

GATES = {"rnn": 1, "lstm": 4, "gru": 3}
SIZES = ("vocab_size", "embedding_size", "hidden_size", "num_layers")

_NOTES = (("config", dict), ("corpus", dict), ("versions", dict), ("updates", int), (ESTIMATE, float))
"""Those that chargen reads again, and what they are."""

_CLEANING: dict[str, Any] = {"normalize_newlines": False, "normalize_unicode": False, "min_count": 1}


@dataclass(frozen=True)
class Portable:
    """A model outside of any framework.

    Attributes:
        weights: arrays by their `CharRNN` names.
        settings: what builds the model again, plain data.
        tokenizer: the tokenizer's JSON.
        notes: about the run: corpus, scores, versions.
    """

    weights: dict[str, np.ndarray]
    settings: dict[str, Any]
    tokenizer: str
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def cleaning(self) -> dict[str, Any]:
        """How the text was cleaned before it was learned; as it is not, where the notes do not say."""
        corpus = self.notes.get("config", {}).get("corpus")
        said = corpus if isinstance(corpus, dict) else {}
        return {key: said[key] if type(said.get(key)) is type(usual) else usual for key, usual in _CLEANING.items()}

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        header = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "settings": json.dumps(self.settings),
            "tokenizer": self.tokenizer,
            "notes": json.dumps(self.notes, ensure_ascii=False),
        }
        with whole(path) as temporary:
            try:
                save_file(self.weights, temporary, {**header, "sha256": _digest(header, self.weights)})
            except SafetensorError as error:  # its word for a disk that is full
                raise OSError(str(error)) from None

    @staticmethod
    def load(path: Path) -> Portable:
        """Reads a file that `save` wrote.

        Raises:
            ValueError: it is no file, or damaged, of another program, or of another version.
        """
        if not path.is_file():
            raise ValueError(f"{path} is no file: give a model.safetensors of chargen")
        try:
            with safe_open(path, framework="numpy") as opened:
                header = opened.metadata() or {}
                if header.get("format") != FORMAT:
                    raise ValueError(f"{path} was written by another program: give a model.safetensors of chargen")
                if header.get("format_version") != str(FORMAT_VERSION):
                    raise ValueError(f"{path} was written by another version of chargen: pip install -U chargen")
                weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
                settings, tokenizer, notes = (header.get(part, "") for part in ("settings", "tokenizer", "notes"))
        except (SafetensorError, AttributeError, TypeError) as error:  # the last two for types numpy does not have
            raise ValueError(f"{path} is truncated or not a safetensors file ({error}): give another one") from None
        if header.pop("sha256", "") != _digest(header, weights):
            raise ValueError(f"{path} has been damaged since it was written: its checksum does not match")
        try:
            return Portable(weights, json.loads(settings), tokenizer, json.loads(notes)).checked(path)
        except (json.JSONDecodeError, RecursionError):
            raise ValueError(f"{path} is damaged: its header is not what chargen writes") from None

    def checked(self, path: Path) -> Portable:
        """Itself, if settings and notes are what chargen writes and the weights have their shapes.

        Raises:
            ValueError: they are not. `path` is for the message.
        """
        damaged = ValueError(f"{path} is damaged or forged: its settings and weights do not fit together")
        settings, notes = self.settings, self.notes
        if not isinstance(settings, dict):
            raise damaged
        if settings.keys() - {"weight_dropout"} != {*SIZES, "cell", "dropout", "residual"}:  # which came later
            raise damaged
        sizes = [settings[key] for key in SIZES]
        if not all(type(size) is int and 0 < size < 2**31 for size in sizes) or str(settings["cell"]) not in GATES:
            raise damaged
        V, E, H, L = sizes
        fractions = [settings[key] for key in ("dropout", "weight_dropout") if key in settings]
        if type(settings["residual"]) is not bool or not all(type(f) in (int, float) and 0 <= f < 1 for f in fractions):
            raise damaged
        if not isinstance(notes, dict) or not all(isinstance(notes.get(key, kind()), kind) for key, kind in _NOTES):
            raise damaged
        first_id = notes.get("first_id")
        if type(first_id) is not int or not 0 <= first_id < V:
            raise damaged
        gates_size = GATES[str(settings["cell"])] * H
        shapes = {"embedding.weight": (V, E), "head.weight": (V, H), "head.bias": (V,)}
        for layer in range(min(L, len(self.weights))):
            shapes |= {
                f"recurrence.weight_ih_l{layer}": (gates_size, H if layer else E),
                f"recurrence.weight_hh_l{layer}": (gates_size, H),
                f"recurrence.bias_ih_l{layer}": (gates_size,),
                f"recurrence.bias_hh_l{layer}": (gates_size,),
            }
        if {name: weight.shape for name, weight in self.weights.items()} != shapes:
            raise damaged
        if any(weight.dtype != np.float32 for weight in self.weights.values()):
            raise damaged
        if not all(np.isfinite(weight).all() for weight in self.weights.values()):
            raise ValueError(f"{path} has weights that are not finite: it cannot write; give another one")
        return self


def _digest(header: Mapping[str, str], weights: Mapping[str, np.ndarray]) -> str:
    """Of all that a file holds: what each part is called, how it is shaped, and its bytes."""
    digest = hashlib.sha256()
    parts = [(key, value.encode()) for key, value in header.items()]
    parts += [(f"{name} {array.dtype} {array.shape}", array.tobytes()) for name, array in weights.items()]
    for name, content in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
