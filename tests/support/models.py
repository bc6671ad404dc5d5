"""Small models and texts that several tests use."""

from __future__ import annotations

from pathlib import Path

import torch

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import Tokenizer
from chargen.nn.model import CharRNN

TINY = ["+experiment=smoke", "model.hidden_size=8", "model.embedding_size=4", "trainer.max_steps=6"]
TEXT = "It is a truth universally acknowledged.\n" * 60


def write_model(folder: Path, text: str = "abc \n", cell: str = "gru", **notes: object) -> Path:
    """A run's folder with an untrained model in it."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(text)
    model = CharRNN(ModelConfig(tokenizer.vocab_size, cell, 8, 1, 4))
    folder.mkdir(parents=True, exist_ok=True)
    model.to_model_file(tokenizer.to_json(), {"start_id": 2, **notes}).save(folder / "model.safetensors")
    return folder
