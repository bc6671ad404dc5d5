"""Small models and texts that several tests use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import Tokenizer
from chargen.nn.model import CharRNN
from chargen.storage.checkpoint import CHECKPOINT
from chargen.storage.checksum import add_checksum
from chargen.storage.model_file import ModelFile
from chargen.storage.plain_data import load_plain
from chargen.storage.run_folder import CONFIG, MODEL

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


def relocate(run: Path, before: Path, after: Path) -> None:
    """Replace one folder by another in the paths that the files of a run hold."""

    def moved(config: dict[str, Any]) -> dict[str, Any]:
        def path_of(path: str) -> str:
            return path.replace(str(before), str(after), 1)

        corpus = {**config["corpus"], "path": path_of(config["corpus"]["path"])}
        return {**config, "corpus": corpus, "data_dir": path_of(config["data_dir"]), "run_dir": run.name}

    for name in (CHECKPOINT, "last.previous.ckpt"):
        if (run / name).is_file():
            content = load_plain(run / name)
            metadata = content["hyper_parameters"]["metadata"]
            metadata["config"] = moved(metadata["config"])
            torch.save(content, run / name)
            add_checksum(run / name)
    model = ModelFile.load(run / MODEL)
    metadata = {**model.metadata, "config": moved(model.metadata["config"])}
    replace(model, metadata=metadata).save(run / MODEL)
    config = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    (run / CONFIG).write_text(yaml.safe_dump(moved(config), sort_keys=False, allow_unicode=True), encoding="utf-8")
