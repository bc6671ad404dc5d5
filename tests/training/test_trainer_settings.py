"""Every setting of Lightning's Trainer does what Lightning says, or is refused by name. docs/TRAINER.md lists them."""

from __future__ import annotations

import csv
import inspect
import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import RichModelSummary
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from support.environment import ROOT
from support.runs import WINDOWS, corpus, plan

from chargen.config import TrainConfig
from chargen.errors import ConfigError
from chargen.trainer_settings import TRAINER_SETTINGS, check_trainer
from chargen.training.attempt import Attempt, RunContext, Start
from chargen.training.hardware import accelerator_of
from chargen.training.module import CharLanguageModel
from chargen.training.windows import Batch, TextDataModule


class Seen(Callback):
    """Records the windows that a run trains on, and how many windows each of its validations reads."""

    def __init__(self) -> None:
        self.windows: list[Batch] = []
        self.validations: list[tuple[int, int]] = []  # update, and windows
        self.sanity_windows = 0
        self.anomaly: set[bool] = set()

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Batch, batch_idx: int) -> None:
        self.windows.append(batch)
        self.anomaly.add(torch.is_anomaly_enabled())

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        if not trainer.sanity_checking:
            self.validations.append((trainer.global_step, 0))

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.sanity_checking:
            self.sanity_windows += 1
        else:
            update, windows = self.validations[-1]
            self.validations[-1] = update, windows + 1

    @property
    def updates(self) -> list[int]:
        """The updates after which the run validated."""
        return [update for update, _ in self.validations]


def config_of(run_dir: Path, **trainer: Any) -> TrainConfig:
    config = replace(plan(**trainer).config, run_dir=str(run_dir), sample_length=0)
    check_trainer(config.trainer)
    return config


def attempt_at(run_dir: Path, **trainer: Any) -> Attempt:
    """A run over the small text of `support.runs`, which has six windows of three lanes."""
    run_dir.mkdir(exist_ok=True)
    console = Console(file=io.StringIO())
    context = RunContext(config_of(run_dir, **trainer), corpus(), {"start_id": 2}, console, "chargen")
    return Attempt(context, Start(None, context.plan.length.max_seconds))


def fit(attempt: Attempt) -> Seen:
    seen, config = Seen(), attempt.context.config
    attempt.trainer.callbacks.insert(0, seen)
    plan = attempt.context.plan
    plan.require_validations()
    attempt.fit(
        TextDataModule(
            corpus(), config.batch_size, config.sequence_length,
            windows_per_pass=plan.windows_per_pass, validation_limit=config.validation_limit,
        )
    )  # fmt: skip
    return seen


def fitted(run_dir: Path, **trainer: Any) -> Seen:
    return fit(attempt_at(run_dir, **trainer))


def weights_of(module: CharLanguageModel) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


# ----------------------------------------------------------------------------- where and how to compute


@pytest.mark.parametrize("devices", [1, "1", [0]])
def test_accelerator_and_devices(devices: Any, tmp_path: Path) -> None:
    trainer = attempt_at(tmp_path, max_steps=1, accelerator="cpu", devices=devices if devices != [0] else 1).trainer
    assert isinstance(trainer.accelerator, CPUAccelerator)
    assert (trainer.num_devices, trainer.world_size) == (1, 1)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"^trainer\.accelerator=gpu: this machine has none"):
            attempt_at(tmp_path, max_steps=1, accelerator="gpu")


def test_precision(tmp_path: Path) -> None:
    """64-true changes the type of the weights; bf16-mixed rounds the factors of products, and leaves the type."""
    attempts = {name: attempt_at(tmp_path, max_steps=3, accelerator="cpu", precision=name)
                for name in ("32-true", "64-true", "bf16-mixed")}  # fmt: skip
    for attempt in attempts.values():
        fit(attempt)
    single, double, mixed = (weights_of(attempt.module) for attempt in attempts.values())
    assert (single.dtype, double.dtype, mixed.dtype) == (torch.float32, torch.float64, torch.float32)
    assert 0 < (single - double).abs().max() < 1e-3
    assert 0 < (single - mixed).abs().max() < 0.02  # three updates with a learning rate of 0.01 move no weight further


def test_the_accelerator_is_the_cpu_or_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's `auto` would choose Apple's GPU on a Mac."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert isinstance(attempt_at(tmp_path, max_steps=1).trainer.accelerator, CPUAccelerator)
    cases = [("auto", False, "cpu"), ("auto", True, "cuda"), ("gpu", True, "cuda"), ("cpu", True, "cpu")]
    for wanted, cuda, expected in [*cases, (None, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert accelerator_of(config_of(tmp_path, accelerator=wanted)) == expected
    with pytest.raises(ConfigError, match=r"^trainer\.accelerator=mps: .* write trainer\.accelerator=cpu$"):
        config_of(tmp_path, accelerator="mps")


def test_deterministic_and_benchmark(tmp_path: Path) -> None:
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    try:
        fitted(tmp_path, max_steps=1, deterministic=True, benchmark=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])


# ----------------------------------------------------------------------------- the length of a run


def test_max_steps_and_max_epochs(tmp_path: Path) -> None:
    assert len(fitted(tmp_path / "a", max_steps=8).windows) == 8
    assert len(fitted(tmp_path / "b", max_epochs=2).windows) == 2 * WINDOWS
    assert len(fitted(tmp_path / "c", max_epochs=2, max_steps=8).windows) == 8


def test_max_time(tmp_path: Path) -> None:
    attempt = attempt_at(tmp_path, max_time="2s")
    fit(attempt)
    assert attempt.trainer.global_step > 10
    assert attempt.module.schedule.total_updates is not None
    assert attempt.clock.time_elapsed() < 3.0


@pytest.mark.parametrize("limit", [2, 0.4])
def test_limit_train_batches(limit: float, tmp_path: Path) -> None:
    """Two passes over two windows: the same windows twice, and the state begins at zero with each pass."""
    seen = fitted(tmp_path, max_epochs=2, limit_train_batches=limit)
    assert [batch.starts for batch in seen.windows] == [True, False, True, False]
    assert torch.equal(seen.windows[0].inputs, seen.windows[2].inputs)
    assert torch.equal(seen.windows[1].inputs, seen.windows[3].inputs)


def test_overfit_batches(tmp_path: Path) -> None:
    """Random letters cannot be learned, except by heart."""
    attempt = attempt_at(tmp_path, max_steps=300, overfit_batches=1)
    seen = fit(attempt)
    assert all(batch.starts and torch.equal(batch.inputs, seen.windows[0].inputs) for batch in seen.windows)
    assert {windows for _, windows in seen.validations} == {1}
    assert attempt.report.means["train_nats_per_char"] < 0.5 * math.log(7)


# ----------------------------------------------------------------------------- the gradient


@pytest.mark.parametrize("accumulate", [1, 4, 9])
def test_accumulate_grad_batches(accumulate: int, tmp_path: Path) -> None:
    """The last update of a pass takes the windows that are left, and every character is counted once."""
    attempt = attempt_at(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate)
    seen = fit(attempt)
    assert attempt.trainer.global_step == 2 * math.ceil(WINDOWS / accumulate)
    assert len(seen.windows) == 2 * WINDOWS
    with open(tmp_path / "metrics.csv", encoding="utf-8", newline="") as stream:
        characters = [int(row["characters"]) for row in csv.DictReader(stream)]
    assert characters[-1] == 2 * (len(corpus().train) - 1) == sum(batch.num_targets for batch in seen.windows)


def test_gradient_clip_val_and_gradient_clip_algorithm(tmp_path: Path) -> None:
    """Clipped to almost nothing, by norm or by value, AdamW's first steps differ from those without clipping."""
    rates = {"max_steps": 2}
    free, tiny, value = (
        weights_of(attempt.module)
        for attempt in (
            attempt_at(tmp_path, **rates),
            attempt_at(tmp_path, **rates, gradient_clip_val=1e-9),
            attempt_at(tmp_path, **rates, gradient_clip_val=1e-9, gradient_clip_algorithm="value"),
        )
        if fit(attempt)
    )
    assert not torch.equal(free, tiny)
    assert not torch.equal(tiny, value)


def test_detect_anomaly(tmp_path: Path) -> None:
    assert fitted(tmp_path / "a", max_steps=1, detect_anomaly=True).anomaly == {True}
    assert fitted(tmp_path / "b", max_steps=1).anomaly == {False}


# ----------------------------------------------------------------------------- validation


def test_validations_follow_the_progress_of_a_run(tmp_path: Path) -> None:
    """Ten validations, evenly, the last one at the end: also where ten does not divide the updates."""
    assert fitted(tmp_path / "a", max_steps=20).updates == list(range(2, 21, 2))
    updates = fitted(tmp_path / "b", max_steps=37).updates
    assert updates == [math.ceil(37 * tenth / 10) for tenth in range(1, 11)]
    assert fitted(tmp_path / "c", max_steps=5, accumulate_grad_batches=2).updates == [1, 2, 3, 4, 5]


def test_val_check_interval(tmp_path: Path) -> None:
    """A number of windows counts across passes, a fraction within a pass, and a time by the clock."""
    assert fitted(tmp_path / "a", max_steps=20, val_check_interval=7).updates == [7, 14, 20]
    assert fitted(tmp_path / "b", max_epochs=2, val_check_interval=0.5).updates == [3, 6, 9, 12]
    assert fitted(tmp_path / "c", max_steps=8, val_check_interval=4, accumulate_grad_batches=2).updates == [2, 4, 6, 8]
    assert fitted(tmp_path / "d", max_steps=3, val_check_interval="10h").updates == [3]


def test_check_val_every_n_epoch(tmp_path: Path) -> None:
    assert fitted(tmp_path / "a", max_epochs=3, check_val_every_n_epoch=1).updates == [6, 12, 18]
    assert fitted(tmp_path / "b", max_epochs=4, check_val_every_n_epoch=2).updates == [12, 24]


def test_limit_val_batches(tmp_path: Path) -> None:
    """Without validation, the weights of the last update stay, and early stopping is refused."""
    assert fitted(tmp_path / "a", max_steps=4, limit_val_batches=0).validations == []
    for setting, value in (("limit_val_batches", 1), ("limit_val_batches", 0.001), ("overfit_batches", 0.2)):
        seen = fitted(tmp_path / f"{setting}{value}", max_steps=4, **{setting: value})
        assert {windows for _, windows in seen.validations} == {1}, setting


@pytest.mark.parametrize(("steps", "windows"), [(0, 0), (1, 1), (-1, 1)])
def test_num_sanity_val_steps(steps: int, windows: int, tmp_path: Path) -> None:
    """Its score is not used: training is the same with and without."""
    seen = fitted(tmp_path, max_steps=2, num_sanity_val_steps=steps)
    assert seen.sanity_windows == windows
    assert seen.updates == [1, 2]


# ----------------------------------------------------------------------------- what is shown and written


def test_log_every_n_steps(tmp_path: Path) -> None:
    fitted(tmp_path, max_steps=7, log_every_n_steps=2)
    with open(tmp_path / "metrics.csv", encoding="utf-8", newline="") as stream:
        rows = [int(row["update"]) for row in csv.DictReader(stream) if row["train_nats_per_char"]]
    assert rows == [2, 4, 6, 7]


def test_enable_model_summary(tmp_path: Path) -> None:
    for shows in (True, False):
        callbacks = attempt_at(tmp_path, max_steps=1, enable_model_summary=shows).trainer.callbacks
        assert any(isinstance(one, RichModelSummary) for one in callbacks) == shows


@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_profiler(profiler: str, tmp_path: Path) -> None:
    attempt = attempt_at(tmp_path, max_steps=8, profiler=profiler)
    fit(attempt)
    stream = attempt.context.console.file
    assert isinstance(stream, io.StringIO)
    report = (tmp_path / "fit-profile.txt").read_text(encoding="utf-8")
    assert report.startswith("FIT Profiler Report")
    assert "FIT Profiler Report" in stream.getvalue()
    assert "fit-profile.txt" in stream.getvalue()


# ----------------------------------------------------------------------------- what is refused, and what does not count


@pytest.mark.parametrize("key", [key for key, setting in TRAINER_SETTINGS.items() if setting.is_refused])
def test_refused_settings_say_what_to_write(key: str) -> None:
    """Lightning's default is accepted where it changes nothing."""
    for value in ("x", 7, [2]):
        with pytest.raises(ConfigError, match=re.escape(f"trainer.{key}={value}: {TRAINER_SETTINGS[key].meaning}")):
            check_trainer({key: value})
    default = inspect.signature(Trainer).parameters[key].default
    if default is None or TRAINER_SETTINGS[key].bound.holds(default):
        check_trainer({key: default})


@pytest.mark.parametrize("key", [key for key, setting in TRAINER_SETTINGS.items() if not setting.is_refused])
@pytest.mark.parametrize("value", ["nonsense", -7, 1.7, float("nan"), [], ["x"], {"x": 1}])
def test_impossible_values_are_refused_by_name(key: str, value: Any) -> None:
    if key == "gradient_clip_val" and value == 1.7:
        return
    with pytest.raises(ConfigError, match=rf"^trainer\.{key}="):
        check_trainer({key: value})


LAUNCHERS = [
    {"SLURM_PROCID": "1"},
    {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"},
    {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "x", "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "1",
     "SLURM_NODEID": "0"},
    {"PL_TRAINER_MAX_STEPS": "1", "PL_TRAINER_FAST_DEV_RUN": "1", "PL_TRAINER_LIMIT_TRAIN_BATCHES": "1"},
]  # fmt: skip


@pytest.mark.parametrize("variables", LAUNCHERS, ids=lambda variables: next(iter(variables)))
def test_variables_of_a_launcher_do_not_count_for_one_device(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", int(variables.get("SLURM_PROCID", variables.get("RANK", 0))))
    seen = fitted(tmp_path, max_steps=20)
    assert len(seen.windows) == 20
    assert len(seen.validations) == 10
    assert (tmp_path / "metrics.csv").exists()
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("trainer", "named"),
    [
        ({"devices": [1], "accelerator": "cpu"}, r"devices=\[1\]"),
        ({"val_check_interval": 100, "check_val_every_n_epoch": 1}, "val_check_interval=100"),
    ],
)
def test_lightnings_messages_name_the_setting(trainer: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^trainer\.{named}: "):
        fitted(tmp_path, max_steps=1, **trainer)


# ----------------------------------------------------------------------------- the table for people


def test_the_table_in_the_documents_is_complete() -> None:
    """docs/TRAINER.md says for each setting what the program says, and names a test that exists."""
    page = (ROOT / "docs" / "TRAINER.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (works|refused) \| (.+?) \| (?:`([\w/.]+)::(\w+)` )?\|$", page, re.MULTILINE)
    assert {row[0] for row in rows} == set(TRAINER_SETTINGS)
    assert len(rows) == len(TRAINER_SETTINGS)
    for key, answer, meaning, file, test in rows:
        setting = TRAINER_SETTINGS[key]
        assert (answer == "refused") == setting.is_refused, key
        assert meaning == setting.meaning, key
        if not setting.is_refused:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), key
