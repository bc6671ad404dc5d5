"""Small training runs that several tests use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

from chargen.config import ModelConfig, TrainConfig
from chargen.corpus.encoded import Corpus
from chargen.corpus.tokenizer import Tokenizer
from chargen.planning.length import RunPlan
from chargen.training.checkpoints import CheckpointFiles, CheckpointWriter
from chargen.training.module import CharLanguageModel
from chargen.training.windows import TextDataModule

B, T, V = 3, 5, 9
WINDOWS = 6  # of one pass: the last one is shorter
OPTIMIZER = dict(learning_rate=0.01, weight_decay=0.1, beta1=0.9, beta2=0.99, warmup_updates=3, final_fraction=0.1)


def corpus() -> Corpus:
    """Random ids: the last window of a pass is shorter than the others, and two lanes are one character shorter."""
    ids = np.random.default_rng(0).integers(2, V, size=1 + B * (WINDOWS * T - 2) + 40).astype(np.uint8)
    return Corpus("random", ids, Tokenizer("abcdefg"), "0" * 64, 1, 1 + B * (WINDOWS * T - 2))


def plan(**trainer: Any) -> RunPlan:
    """The plan of a run over `corpus()` with these settings of the Trainer."""
    model = ModelConfig(None, "gru", 7, 2, 4, dropout=0.0)
    config = TrainConfig(run_dir="r", sequence_length=T, batch_size=B, model=model, trainer=trainer)
    return RunPlan(config, len(corpus().train), V)


def module_for(
    cell: str, total: int | None, optimizer: dict[str, Any] | None = None, **shape: Any
) -> CharLanguageModel:
    """A small module for `corpus()`, which trains for `total` updates."""
    torch.manual_seed(1)
    shape = {"num_layers": 2, "dropout": 0.3, **shape}
    model = dict(vocab_size=V, cell=cell, hidden_size=7, embedding_size=4, **shape)
    module = CharLanguageModel(
        model, {**OPTIMIZER, **(optimizer or {})}, Tokenizer("abcdefg").to_json(), {"start_id": 2}
    )
    module.start_run(total)
    return module


class Crash(Callback):
    """Breaks off at update `at`, after the checkpoint of that update."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.at:
            raise ZeroDivisionError("the power is gone")


class Watch(Callback):
    """Records what every update reports."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        self.seen.append({**module.take_means(), "rate": module.learning_rate})


def run(
    module: CharLanguageModel, folder: Path, *callbacks: Callback, resume: Path | None = None, **settings: Any
) -> Trainer:
    """Trains to the module's last update."""
    defaults = dict(
        max_steps=module.schedule.total_updates,
        max_epochs=-1,
        gradient_clip_val=0.3,
        num_sanity_val_steps=0,
        logger=False,
    )
    settings = {**defaults, **settings}
    trainer = Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        plugins=[CheckpointFiles()],
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, CheckpointWriter) for callback in callbacks),
        use_distributed_sampler=False,
        **settings,
    )
    trainer.fit(module, datamodule=TextDataModule(corpus(), B, T), ckpt_path=resume, weights_only=True)
    return trainer


def everything(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor in a checkpoint, by its path."""
    found: dict[str, torch.Tensor] = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[path] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{path}.{key}", inner)
        elif isinstance(value, (list, tuple)):
            for place, inner in enumerate(value):
                walk(f"{path}.{place}", inner)

    content = torch.load(checkpoint, weights_only=True)
    for part in ("state_dict", "optimizer_states", "chargen"):
        walk(part, content[part])
    return found
