"""A trained model as one safe file, and back.

`model.safetensors` is complete: weights, settings, tokenizer and what is known of the run, the
last three as JSON in the header. Nothing in it can run; numpy alone reads it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from chargen.files import whole

FORMAT = "chargen"
FORMAT_VERSION = 1


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

    def save(self, path: Path) -> None:
        """Writes the file whole or not at all."""
        header = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "settings": json.dumps(self.settings),
            "tokenizer": self.tokenizer,
            "notes": json.dumps(self.notes, ensure_ascii=False),
        }
        with whole(path) as temporary:
            save_file(self.weights, temporary, header)

    @staticmethod
    def load(path: Path) -> Portable:
        """Reads a file that `save` wrote.

        Raises:
            ValueError: it is damaged, of another program, or of a later version.
        """
        try:
            with safe_open(path, framework="numpy") as opened:
                header = opened.metadata() or {}
                if header.get("format") != FORMAT:
                    raise ValueError(f"{path} was written by another program: give a model.safetensors of chargen")
                if int(header["format_version"]) > FORMAT_VERSION:
                    raise ValueError(f"{path} was written by a later chargen: update with pip install -U chargen")
                weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
        except SafetensorError as error:
            raise ValueError(f"{path} is truncated or not a safetensors file ({error}): give another one") from None
        return Portable(weights, json.loads(header["settings"]), header["tokenizer"], json.loads(header["notes"]))
