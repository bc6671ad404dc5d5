"""What happens beside training: the length of a run, its metrics, its best weights."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Figure
from lightning.pytorch.callbacks import Callback, Timer
from rich.console import Console
from support.runs import Crash, Watch, corpus, module_for, run

from chargen.evaluation.score import score_streaming
from chargen.nn.model import CharRNN
from chargen.storage.atomic import checksum_matches, previous_path
from chargen.storage.model_file import ModelFile
from chargen.training.callbacks import (
    BestModelWriter,
    CheckpointFiles,
    CheckpointWriter,
    ProgressReport,
    RunLengthCallback,
    duration,
    leave_out_empty_hooks,
    updates_that_fit,
)
from chargen.training.divergence import Diverged
from chargen.training.metrics import COLUMNS, MetricsFile


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("seconds", [(0, "0:00"), (61.4, "1:01"), (3599.9, "1:00:00"), (7325, "2:02:05")])
def test_durations_are_for_people(seconds: tuple[float, str]) -> None:
    assert duration(seconds[0]) == seconds[1]


def test_updates_fit_into_what_is_left() -> None:
    """100 s, a tenth of them validation: 90 s of learning, of which 98 % are planned."""
    fit = updates_that_fit(100.0, 0.01, 0.1)
    assert fit == pytest.approx(0.98 * 9000, abs=1)
    assert fit * 0.01 <= 90
    assert updates_that_fit(0.001, 10.0, 0.0) == 1


class FiftyPerSecond(Timer):
    """A clock by which every update takes as long, however busy the machine is."""

    updates = 0

    def on_train_batch_end(self, trainer: Any, *args: Any, **named: Any) -> None:
        self.updates = trainer.global_step
        super().on_train_batch_end(trainer, *args, **named)

    def time_elapsed(self, stage: Any = None) -> float:
        return self.updates / 50


def test_a_run_given_a_time_learns_its_length(tmp_path: Path) -> None:
    """The length is measured, kept in the checkpoint, and the cosine comes to its end."""
    module, clock = module_for("gru", None), FiftyPerSecond(duration={"seconds": 2}, verbose=False)
    said, watch = [], Watch()
    schedule, save = RunLengthCallback(clock, 2.0, None, said.append, str), CheckpointWriter(tmp_path / "last.ckpt")
    settings = {"max_steps": -1, "val_check_interval": 30, "check_val_every_n_epoch": None}
    trainer = run(module, tmp_path, clock, schedule, watch, save, **settings)
    assert module.plan.total is not None
    assert 30 < trainer.global_step <= module.plan.total
    assert "updates fit into 0:02" in said[0]
    assert len(said) == 1
    rates = [seen["rate"] for seen in watch.seen]
    assert max(rates) == 0.01
    assert rates[-1] < 0.002
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again = module_for("gru", None)
    again.on_load_checkpoint(saved)
    assert again.plan == module.plan


def test_the_metrics_are_the_runs(tmp_path: Path) -> None:
    clock, out = Timer(verbose=False), io.StringIO()
    metrics = MetricsFile(tmp_path / "metrics.csv", clock, chars_per_update=15)
    report = ProgressReport(Console(file=out), clock, None, 15, log_every=4, line_seconds=0.0)
    settings = {"log_every_n_steps": 4, "val_check_interval": 6, "check_val_every_n_epoch": None, "logger": [metrics]}
    run(module_for("gru", 12), tmp_path, clock, RunLengthCallback(clock, None, 12, print, str), report, **settings)
    rows = rows_of(tmp_path / "metrics.csv")
    assert [int(row["update"]) for row in rows if row["train_nats_per_char"]] == [4, 8, 12]
    assert [int(row["update"]) for row in rows if row["validation_nats_per_char"]] == [6, 12]
    assert all(int(row["characters"]) == 15 * int(row["update"]) for row in rows)
    assert all(float(row["gradient_norm"]) > 0 for row in rows if row["gradient_norm"])
    lines = out.getvalue().splitlines()
    assert lines[-1].startswith("100%  update 12  loss ")
    assert all(word in lines[-1] for word in ("nats", "bpc", "k chars/s", "clipped"))


def test_the_metrics_of_lost_updates_are_dropped(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.csv", Timer(verbose=False), 10)
    for update in (5, 10, 15):
        metrics.log_metrics({"train_nats_per_char": 1.0, "unheard_of": 3.0}, step=update)
    metrics.log_metrics({"skipped": 1.0}, step=14)
    metrics.cut_behind(10, keep_events=True)
    assert [row["update"] for row in rows_of(tmp_path / "metrics.csv")] == ["5", "10", "14"]
    metrics.cut_behind(10)
    metrics.log_metrics({"train_nats_per_char": 2.0}, step=15)
    rows = rows_of(tmp_path / "metrics.csv")
    assert [(row["update"], row["train_nats_per_char"]) for row in rows] == [("5", "1"), ("10", "1"), ("15", "2")]
    assert tuple(rows[0]) == COLUMNS


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    """The file holds the weights of its best validation: scored again, they give that score."""
    module, said = module_for("gru", 24, dropout=0.0), []
    module.run = {"start_id": 2}
    clock = Timer(verbose=False)
    keep = BestModelWriter(tmp_path, clock, 20, said.append)
    run(module, tmp_path, clock, keep, val_check_interval=4, check_val_every_n_epoch=None)
    portable = ModelFile.load(tmp_path / "model.safetensors")
    assert portable.notes["validation_estimate_nats_per_char"] == keep.best
    # 42 held-out characters are fewer than one validation window, so the estimate is one carried lane
    assert score_streaming(CharRNN.from_model_file(portable), corpus().validation).nats_per_char == pytest.approx(
        keep.best, rel=1e-5
    )
    scores = [float(line.split("validation ")[1].split()[0]) for line in said if "validation" in line]
    assert len(scores) == 6
    assert keep.best == pytest.approx(min(scores), abs=1e-4)
    assert (tmp_path / "samples.txt").read_text(encoding="utf-8").count("=== update ") == 6


def test_a_score_counts_when_its_weights_are_on_the_disk(tmp_path: Path) -> None:
    """Or a resumed run would hold on to weights that nobody has."""
    module, clock, said = module_for("gru", 8), Timer(verbose=False), []
    module.run = {"start_id": 2}
    (tmp_path / "blocked").touch()
    keep = BestModelWriter(tmp_path / "blocked" / "r", clock, 0, said.append)
    run(module, tmp_path, clock, keep, val_check_interval=4, check_val_every_n_epoch=None)
    assert math.isfinite(keep.best)
    assert keep.state_dict() == {"best": math.inf}
    assert "going on, and trying again later" in " ".join(said)
    (tmp_path / "blocked").unlink()
    keep.on_train_end(None, module)  # type: ignore[arg-type]
    assert keep.state_dict() == {"best": keep.best}
    assert ModelFile.load(keep.run_dir / "model.safetensors").notes["validation_estimate_nats_per_char"] == keep.best
    assert keep.error == ""


def test_a_better_model_on_disk_survives_a_crash(tmp_path: Path) -> None:
    """Written behind the last checkpoint, it is what a resumed run has to beat."""
    module = module_for("gru", 24)
    module.run = {"start_id": 2}
    last, clock = tmp_path / "last.ckpt", Timer(verbose=False)
    with pytest.raises(ZeroDivisionError):
        run(
            module,
            tmp_path,
            clock,
            BestModelWriter(tmp_path, clock, 0, print),
            CheckpointWriter(last, every_updates=4),
            Crash(6),
        )
    notes = {"start_id": 2, "validation_estimate_nats_per_char": 0.5}
    module.model.to_model_file(module.tokenizer, notes).save(tmp_path / "model.safetensors")
    keep = BestModelWriter(tmp_path, clock, 0, print)
    resumed = module_for("gru", 24)
    resumed.run = {"start_id": 2}
    run(resumed, tmp_path, clock, keep, resume=last, val_check_interval=4, check_val_every_n_epoch=None)
    assert keep.best == 0.5
    assert ModelFile.load(tmp_path / "model.safetensors").notes["validation_estimate_nats_per_char"] == 0.5


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """The checkpoint before stays, and the run has to go back to it."""
    save, module = CheckpointWriter(tmp_path / "last.ckpt", every_updates=2), module_for("gru", 12)

    class Poison(Crash):
        def on_train_batch_end(self, trainer, *_) -> None:
            if trainer.global_step == self.at:  # by the update itself: neither its loss nor its gradient has shown it
                module.model.head.bias.data[0] = torch.nan

    with pytest.raises(Diverged, match=r"at update 6 the weights are not finite"):
        run(module, tmp_path, Poison(6), save)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_means_are_over_what_was_counted(tmp_path: Path) -> None:
    """Four windows to an update: the loss is a mean of four, the norm of one."""
    module, watch = module_for("gru", 3, dropout=0.0), Watch()
    run(module, tmp_path, watch, accumulate_grad_batches=3)
    norms = [seen["gradient_norm"] for seen in watch.seen if "gradient_norm" in seen]
    assert len(norms) == 3
    module.take_means()
    module._add(gradient_norm=torch.tensor(3.0))
    for loss in (1.0, 2.0, 6.0):
        module._add(train_nats_per_char=torch.tensor(loss))
    means = module.take_means()
    assert means == {"gradient_norm": 3.0, "train_nats_per_char": 3.0}


def test_a_run_told_to_stop_saves_first(tmp_path: Path) -> None:
    save = CheckpointWriter(tmp_path / "last.ckpt")
    save.stop_signal = 15
    trainer = run(module_for("gru", 24), tmp_path, save)
    assert trainer.global_step == 1
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1


def test_a_failed_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    CheckpointFiles().save_checkpoint({"a": 1}, file)
    with pytest.raises(Exception, match="pickle"):
        CheckpointFiles().save_checkpoint({"a": lambda: 1}, file)
    assert CheckpointFiles().load_checkpoint(file) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path, figure: Figure) -> None:
    """Any of them; and the checkpoint before stays beside the new one."""
    file = tmp_path / "last.ckpt"
    for number in (1, 2):
        CheckpointFiles().save_checkpoint({"a": torch.arange(3), "number": number}, file)
    assert checksum_matches(file)
    assert CheckpointFiles().load_checkpoint(previous_path(file))["number"] == 1
    content = file.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert not checksum_matches(file), bit
    figure("bit flips noticed", 8 * len(content))
    file.write_bytes(b"short")
    assert not checksum_matches(file)


def test_only_hooks_that_do_something_are_called(tmp_path: Path) -> None:
    """And those that are left are called as before: a step makes each of its calls once."""
    called = []

    class Own(Callback):
        def on_after_backward(self, *_: Any) -> None:
            called.append("after backward")

        def on_train_end(self, *_: Any) -> None:
            called.append("end")

    own, module = Own(), module_for("gru", 3)
    leave_out_empty_hooks([own], module)
    assert own.on_train_batch_start is own.on_before_zero_grad is module.on_after_backward is None
    assert callable(module.on_train_batch_start)
    run(module, tmp_path, own)
    assert called == ["after backward"] * 3 + ["end"]
