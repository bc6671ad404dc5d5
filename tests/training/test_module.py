"""Training under Lightning equals plain truncated backpropagation through time."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from support.environment import CELLS as NAMES
from support.environment import ROOT
from support.runs import OPTIMIZER, B, T, V, Watch, corpus, everything, module_for, run
from support.torch_twins import torch_twin
from torch import nn
from torch.nn import functional as F

from chargen.training.checkpoints import CheckpointWriter
from chargen.training.module import CharLanguageModel
from chargen.training.windows import TextDataModule

# ------------------------------------------------------------------------------- what is learned


def plain_loop(
    module: CharLanguageModel, total: int, clip: float, windows_per_update: int = 1
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Train the same model without chargen: torch.nn, slices of the text, AdamW, clip_grad_norm_."""
    config = module.model.config
    sizes = (config.embedding_size, config.hidden_size, config.num_layers)
    net = torch_twin(config.cell, *sizes, batch_first=True).double()
    net.load_state_dict(module.model.recurrence.state_dict())
    embedding = nn.Embedding(V, config.embedding_size).double()
    embedding.load_state_dict(module.model.embedding.state_dict())
    head = nn.Linear(config.hidden_size, V).double()
    head.load_state_dict(module.model.head.state_dict())
    parts = {"embedding": embedding, "recurrence": net, "head": head}
    parameters = [p for part in parts.values() for p in part.parameters()]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]))
    text = torch.from_numpy(corpus().train.astype(np.int64))
    lane = (len(text) - 1) // B
    norms, state, place = [], None, 0
    for window in range(total * windows_per_update):
        update, behind = divmod(window, windows_per_update)
        end = min(place + T, lane)
        starts = [b * lane for b in range(B)]
        inputs = torch.stack([text[s + place : s + end] for s in starts])
        targets = torch.stack([text[s + place + 1 : s + end + 1] for s in starts])
        outputs, state = net(embedding(inputs), state)
        state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        (F.cross_entropy(head(outputs).flatten(0, 1), targets.flatten()) / windows_per_update).backward()
        place = end
        if place == lane:
            place, state = 0, None
        if behind < windows_per_update - 1:
            continue
        norms.append(nn.utils.clip_grad_norm_(parameters, clip).item())
        warm = min(1.0, (update + 1) / (min(OPTIMIZER["warmup_updates"], total // 10) + 1))
        cosine = 0.5 * (1 + math.cos(math.pi * update / total))
        for group in optimizer.param_groups:
            group["lr"] = OPTIMIZER["learning_rate"] * warm * (0.1 + 0.9 * cosine)
        optimizer.step()
        optimizer.zero_grad()
    return {f"{n}.{k}": v for n, part in parts.items() for k, v in part.state_dict().items()}, norms


@pytest.mark.parametrize("cell", NAMES)
def test_training_equals_a_plain_loop(cell: str, tmp_path: Path) -> None:
    """Two passes and two windows, in float64: weights, norms before clipping and the fraction clipped."""
    _, unclipped = plain_loop(module_for(cell, 14, dropout=0.0).double(), 14, math.inf)
    clip = sum(sorted(unclipped)[6:8]) / 2  # between two norms: about half of the updates are clipped
    module, watch = module_for(cell, 14, dropout=0.0).double(), Watch()
    expected, norms = plain_loop(module, 14, clip)
    run(module, tmp_path, watch, precision="64-true", gradient_clip_val=clip)
    for name, value in module.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)
    assert [seen["gradient_norm"] for seen in watch.seen] == pytest.approx(norms, rel=1e-8)
    assert [seen["clip_fraction"] for seen in watch.seen] == [float(norm > clip) for norm in norms]
    assert 0 < sum(norm > clip for norm in norms) < len(norms)  # both cases occur


def test_sgd_follows_its_equation(tmp_path: Path) -> None:
    """v <- momentum v + g + decay w and w <- w - rate v, with decay on matrices only (Polyak 1964)."""
    sgd = {"name": "sgd", "momentum": 0.8, "learning_rate": 0.3, "weight_decay": 0.02}
    module = module_for("gru", 5, sgd, dropout=0.0).double()
    weights = {name: value.clone() for name, value in module.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in weights.items()}

    class Follow(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, module: Any, optimizer: Any) -> None:
            for name, parameter in module.named_parameters():
                decay = 0.02 if parameter.dim() > 1 else 0.0
                velocity[name] = 0.8 * velocity[name] + parameter.grad + decay * weights[name]
                weights[name] = weights[name] - module.learning_rate * velocity[name]

    run(module, tmp_path, Follow(), precision="64-true", gradient_clip_val=None)
    assert any(value.abs().max() > 0 for value in velocity.values())
    for name, value in module.named_parameters():
        torch.testing.assert_close(value.detach(), weights[name].detach(), rtol=1e-10, atol=1e-12)


def test_accumulated_gradients_equal_a_plain_loop(tmp_path: Path) -> None:
    """Within one pass: at its end Lightning makes an update of an incomplete group of windows."""
    module, watch = module_for("gru", 3, dropout=0.0).double(), Watch()
    expected, norms = plain_loop(module, 3, 0.35, windows_per_update=2)
    run(module, tmp_path, watch, precision="64-true", gradient_clip_val=0.35, accumulate_grad_batches=2)
    for name, value in module.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)
    assert [seen["gradient_norm"] for seen in watch.seen if "gradient_norm" in seen] == pytest.approx(norms, rel=1e-8)


@pytest.mark.parametrize(
    "settings", [{"gradient_clip_val": None}, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}]
)
def test_the_norm_is_reported_without_clipping_by_norm(settings: dict, tmp_path: Path) -> None:
    module, watch = module_for("gru", 4), Watch()
    run(module, tmp_path, watch, **settings)
    assert all(seen["gradient_norm"] > 0 and seen["clip_fraction"] == 0 for seen in watch.seen)
    largest = max(p.grad.abs().max().item() for p in module.parameters())
    assert (largest <= 0.01 + 1e-9) == ("gradient_clip_algorithm" in settings)


def test_validation_and_sanity_check_do_not_change_training(tmp_path: Path) -> None:
    """With dropout, so that one random number more would change the weights."""
    quiet = module_for("lstm", 13)
    run(quiet, tmp_path, limit_val_batches=0)
    watched = module_for("lstm", 13)
    trainer = run(watched, tmp_path, val_check_interval=2, check_val_every_n_epoch=None, num_sanity_val_steps=2)
    assert trainer.callback_metrics["validation_nats_per_char"] > 0
    for name, value in watched.state_dict().items():
        assert torch.equal(value, quiet.state_dict()[name]), name


class Losses(Callback):
    """Records the loss of every window."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            nats, _ = module.model.cross_entropy(batch.inputs, batch.targets, None if batch.starts else module.carry)
        self.seen.append(float(nats) / batch.num_targets)


def test_means_are_over_windows_and_updates(tmp_path: Path) -> None:
    """Three windows in an update: its loss is the mean of three, and there is one norm."""
    module, watch, losses = module_for("gru", 2, dropout=0.0), Watch(), Losses()
    run(module, tmp_path, losses, watch, accumulate_grad_batches=3)
    reported = [seen for seen in watch.seen if "gradient_norm" in seen]
    assert len(reported) == 2
    means = [sum(losses.seen[:3]) / 3, sum(losses.seen[3:6]) / 3]
    assert [seen["train_nats_per_char"] for seen in reported] == pytest.approx(means, rel=1e-5)  # float32
    assert module.take_means() == {}


def test_lightnings_own_loader_builds_the_module_from_a_checkpoint(tmp_path: Path) -> None:
    """With `weights_only`: a checkpoint holds nothing but plain data and tensors."""
    trained = module_for("lstm", 3)
    run(trained, tmp_path, CheckpointWriter(tmp_path / "last.ckpt"))
    module = CharLanguageModel.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True, map_location="cpu")
    assert module.model.config.cell == "lstm"
    for name, value in trained.state_dict().items():
        assert torch.equal(module.state_dict()[name], value)


TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from lightning.pytorch import Trainer
from support.runs import T, CheckpointFiles, CheckpointWriter, TextDataModule, corpus, module_for
class Even(TextDataModule):
    def __init__(self):
        super().__init__(corpus(), 4, T)
def train(folder, **settings):
    module = module_for("lstm", 14, dropout=0.0)
    trainer = Trainer(accelerator="cpu", max_steps=14, max_epochs=-1, gradient_clip_val=0.3, logger=False,
                      num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
                      use_distributed_sampler=False, plugins=[CheckpointFiles()],
                      callbacks=[CheckpointWriter(folder / "last.ckpt", every_updates=14)], **settings)
    trainer.fit(module, datamodule=Even())
if __name__ == "__main__":
    train(Path("two"), devices=2, strategy="ddp_fork")
    train(Path("one"), devices=1)
"""


@pytest.mark.slow
def test_two_processes_compute_the_same_step_as_one(away: Path) -> None:
    """Weights up to rounding, and the carry of all lanes in one checkpoint."""
    (away / "two_processes.py").write_text(TWO_PROCESSES)
    result = subprocess.run(
        [sys.executable, "two_processes.py", str(ROOT / "tests")], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    one, two = everything(away / "one" / "last.ckpt"), everything(away / "two" / "last.ckpt")
    for name, value in one.items():
        if "generators" not in name and "detector" not in name:  # float32, sums in another order, 14 updates of AdamW
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("cell", NAMES)
def test_the_gpu_learns_the_same_weights(cell: str, tmp_path: Path) -> None:
    """Float64 on both, so that only the order of sums differs."""
    on_cpu, on_gpu = module_for(cell, 12, dropout=0.0), module_for(cell, 12, dropout=0.0)
    run(on_cpu, tmp_path, precision="64-true")
    settings = {"max_steps": 12, "max_epochs": -1, "gradient_clip_val": 0.5, "precision": "64-true"}
    Trainer(accelerator="gpu", devices=1, logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
            use_distributed_sampler=False, enable_checkpointing=False, **settings).fit(
        on_gpu, datamodule=TextDataModule(corpus(), B, T))  # fmt: skip
    for name, value in on_gpu.state_dict().items():
        torch.testing.assert_close(value.cpu(), on_cpu.state_dict()[name], rtol=1e-8, atol=1e-10)
