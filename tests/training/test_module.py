"""Training under Lightning is plain truncated BPTT, and stopping it changes nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CELLS as NAMES
from lightning.pytorch import Callback, Trainer
from support.runs import OPTIMIZER, B, Crash, T, V, Watch, corpus, everything, module_for, run
from torch import nn
from torch.nn import functional as F

from chargen.training.callbacks import CheckpointWriter
from chargen.training.module import CharLanguageModel, Plan, learning_rate
from chargen.training.windows import TextDataModule

# ------------------------------------------------------------------------------- what is learned


def plain_loop(
    module: CharLanguageModel, total: int, clip: float, windows_per_update: int = 1
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same training without chargen: torch.nn, slices of the text, AdamW, clip_grad_norm_."""
    settings = module.model.settings
    kind = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[settings.cell]
    net = kind(settings.embedding_size, settings.hidden_size, settings.num_layers, batch_first=True).double()
    net.load_state_dict(module.model.recurrence.state_dict())
    embedding = nn.Embedding(V, settings.embedding_size).double()
    embedding.load_state_dict(module.model.embedding.state_dict())
    head = nn.Linear(settings.hidden_size, V).double()
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


@pytest.mark.parametrize(("cell", "clip"), [("rnn", 0.57), ("lstm", 0.33), ("gru", 0.35)])
def test_equals_a_plain_loop(cell: str, clip: float, tmp_path: Path) -> None:
    """Two passes and a bit, in float64: weights, pre-clip norms and the fraction clipped."""
    module, watch = module_for(cell, 14, dropout=0.0).double(), Watch()
    expected, norms = plain_loop(module, 14, clip)
    run(module, tmp_path, watch, precision="64-true", gradient_clip_val=clip)
    for name, value in module.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)
    assert [seen["gradient_norm"] for seen in watch.seen] == pytest.approx(norms, rel=1e-8)
    assert [seen["clip_fraction"] for seen in watch.seen] == [float(norm > clip) for norm in norms]
    assert 0 < sum(norm > clip for norm in norms) < len(norms)  # both cases were met


def test_gradients_of_several_windows_add_up(tmp_path: Path) -> None:
    """Within a pass: at its end Lightning makes an update of what there is."""
    module, watch = module_for("gru", 3, dropout=0.0).double(), Watch()
    expected, norms = plain_loop(module, 3, 0.35, windows_per_update=2)
    run(module, tmp_path, watch, precision="64-true", gradient_clip_val=0.35, accumulate_grad_batches=2)
    for name, value in module.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)
    assert [seen["gradient_norm"] for seen in watch.seen if "gradient_norm" in seen] == pytest.approx(norms, rel=1e-8)


@pytest.mark.parametrize(
    "settings", [{"gradient_clip_val": None}, {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}]
)
def test_the_norm_is_known_without_clipping_by_it(settings: dict, tmp_path: Path) -> None:
    module, watch = module_for("gru", 4), Watch()
    run(module, tmp_path, watch, **settings)
    assert all(seen["gradient_norm"] > 0 and seen["clip_fraction"] == 0 for seen in watch.seen)
    largest = max(p.grad.abs().max().item() for p in module.parameters())
    assert (largest <= 0.01 + 1e-9) == ("gradient_clip_algorithm" in settings)


def test_validation_and_the_sanity_check_leave_no_trace(tmp_path: Path) -> None:
    """With dropout, so that a draw too many would show."""
    quiet = module_for("lstm", 13)
    run(quiet, tmp_path, limit_val_batches=0)
    watched = module_for("lstm", 13)
    trainer = run(watched, tmp_path, val_check_interval=2, check_val_every_n_epoch=None, num_sanity_val_steps=2)
    assert trainer.callback_metrics["validation_nats_per_char"] > 0
    for name, value in watched.state_dict().items():
        assert torch.equal(value, quiet.state_dict()[name]), name


@pytest.mark.parametrize("total", [None, 20, 1000])
def test_the_learning_rate_rises_and_falls(total: int | None) -> None:
    rates = [learning_rate(update, Plan(total), 1.0, 50, 0.1) for update in range((total or 1000) + 1)]
    peak = min(50, total // 10) if total else 50
    assert rates[0] == pytest.approx(1 / (peak + 1), rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(peak, abs=1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 if total else 1.0)


def test_a_corrected_plan_goes_on_from_where_it_stands() -> None:
    """No jump where the end is moved, nearer or further, and the new end is the end."""
    plan = Plan(1000)
    for update, total in ((300, 2000), (900, 1000)):
        moved = Plan(total, update, plan.progress_at(update))
        assert moved.progress_at(update) == plan.progress_at(update)
        assert moved.progress_at(total) == pytest.approx(1.0)
        halfway = (moved.progress_at(update) + 1) / 2
        assert moved.progress_at((update + total) // 2) == pytest.approx(halfway)
        plan = moved
    assert Plan(1000).progress_at(250) == 0.25
    assert Plan().progress_at(250) == 0.0


# ------------------------------------------------------------------------------- stopping and going on


TOTAL = 20  # three passes and two windows
VALIDATE = dict(val_check_interval=4, check_val_every_n_epoch=None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The last checkpoint of a run of each cell that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    for cell in NAMES:
        run(module_for(cell, TOTAL), folder, CheckpointWriter(folder / f"{cell}.ckpt", every_updates=TOTAL), **VALIDATE)
    return {cell: folder / f"{cell}.ckpt" for cell in NAMES}


@pytest.mark.parametrize(
    ("crash", "every"),
    [(1, 1), (4, 1), (5, 1), (6, 1), (7, 1), (12, 1), (16, 1), (11, 4), (19, 6)],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("cell", NAMES)
def test_a_crashed_run_ends_with_the_same_bits(
    cell: str, crash: int, every: int, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    """Weights, optimizer, carry and generators, with dropout and clipping on.

    Cuts at 6 and 12 fall on the end of a pass, at 4, 12 and 16 on a validation; with `every` above 1
    updates are lost and done again.
    """
    last = tmp_path / "last.ckpt"
    with pytest.raises(ZeroDivisionError):
        run(module_for(cell, TOTAL), tmp_path, CheckpointWriter(last, every_updates=every), Crash(crash), **VALIDATE)
    torch.manual_seed(99)  # whatever the new process draws before it goes on
    run(module_for(cell, TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
    got, want = everything(last), everything(uninterrupted[cell])
    assert got.keys() == want.keys()
    assert len([name for name in want if "carry" in name]) == 2 * (2 if cell == "lstm" else 1)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def test_crashing_again_and_again(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    for crash in range(2, TOTAL, 3):
        with pytest.raises(ZeroDivisionError):
            resume = last if last.exists() else None
            run(
                module_for("gru", TOTAL),
                tmp_path,
                CheckpointWriter(last, every_updates=2),
                Crash(crash),
                resume=resume,
                **VALIDATE,
            )
    run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
    got, want = everything(last), everything(uninterrupted["gru"])
    assert all(torch.equal(got[name], value) for name, value in want.items())


def test_half_an_update_is_not_saved(tmp_path: Path) -> None:
    """Two windows to an update, a checkpoint whenever it may be written, a crash between the two windows."""
    settings = {**VALIDATE, "accumulate_grad_batches": 2}
    run(module_for("gru", 10), tmp_path, CheckpointWriter(tmp_path / "whole.ckpt", every_updates=10), **settings)

    class CrashBetween(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == 4 and batch_idx % 2 == 1:
                raise ZeroDivisionError

    last = tmp_path / "last.ckpt"
    with pytest.raises(ZeroDivisionError):
        run(module_for("gru", 10), tmp_path, CheckpointWriter(last, every_seconds=0.0), CrashBetween(), **settings)
    run(module_for("gru", 10), tmp_path, CheckpointWriter(last, every_updates=10), resume=last, **settings)
    got, want = everything(last), everything(tmp_path / "whole.ckpt")
    assert all(torch.equal(got[name], value) for name, value in want.items())


class StopAtValidation(Callback):
    """Ends the run as early stopping does."""

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= 8


def test_a_run_that_a_validation_ended_goes_on(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    stopped = run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last), StopAtValidation(), **VALIDATE)
    assert stopped.global_step == torch.load(last, weights_only=True)["global_step"] == 8
    run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
    got, want = everything(last), everything(uninterrupted["gru"])
    assert all(torch.equal(got[name], value) for name, value in want.items())


def test_the_comparison_can_fail(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    """Without the carry, or without the generators, a resumed run ends elsewhere."""
    for missing in ("carry", "generators"):
        last = tmp_path / f"{missing}.ckpt"
        with pytest.raises(ZeroDivisionError):
            run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=1), Crash(9), **VALIDATE)
        content = torch.load(last, weights_only=True)
        if missing == "carry":
            content["chargen"]["carry"] = None
        else:
            content["chargen"]["generators"]["torch"] = torch.Generator().manual_seed(5).get_state()
        torch.save(content, last)
        torch.manual_seed(99)
        run(module_for("gru", TOTAL), tmp_path, CheckpointWriter(last, every_updates=TOTAL), resume=last, **VALIDATE)
        got, want = everything(last), everything(uninterrupted["gru"])
        assert not torch.equal(got["state_dict.model.head.weight"], want["state_dict.model.head.weight"]), missing


def test_checkpoints_hold_only_data(uninterrupted: dict[str, Path]) -> None:
    """Lightning's own loader builds the module from one, with weights_only."""
    module = CharLanguageModel.load_from_checkpoint(uninterrupted["lstm"], weights_only=True, map_location="cpu")
    assert module.model.settings.cell == "lstm"


TWO_PROCESSES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training import *
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
def test_two_processes_compute_the_step_of_one(away: Path) -> None:
    """Weights up to rounding, and the carry of all lanes in one checkpoint."""
    (away / "two_processes.py").write_text(TWO_PROCESSES)
    result = subprocess.run(
        [sys.executable, "two_processes.py", str(Path(__file__).parent)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    one, two = everything(away / "one" / "last.ckpt"), everything(away / "two" / "last.ckpt")
    for name, value in one.items():
        if "generators" not in name and "guard" not in name:  # float32, sums in another order, 14 updates of AdamW
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("cell", NAMES)
def test_the_gpu_learns_the_same(cell: str, tmp_path: Path) -> None:
    """Float64 on both, so that only the order of sums differs."""
    on_cpu, on_gpu = module_for(cell, 12, dropout=0.0), module_for(cell, 12, dropout=0.0)
    run(on_cpu, tmp_path, precision="64-true")
    settings = {"max_steps": 12, "max_epochs": -1, "gradient_clip_val": 0.5, "precision": "64-true"}
    Trainer(accelerator="gpu", devices=1, logger=False, enable_progress_bar=False, num_sanity_val_steps=0,
            use_distributed_sampler=False, enable_checkpointing=False, **settings).fit(
        on_gpu, datamodule=TextDataModule(corpus(), B, T))  # fmt: skip
    for name, value in on_gpu.state_dict().items():
        torch.testing.assert_close(value.cpu(), on_cpu.state_dict()[name], rtol=1e-8, atol=1e-10)
