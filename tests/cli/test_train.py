"""`chargen train`: what works, works as typed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.environment import CELLS as NAMES
from support.models import TEXT, TINY, write_model

from chargen.storage.model_file import ModelFile

Chargen = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("cell", NAMES)
def test_train_sample_evaluate_and_resume(cell: str, chargen: Chargen, away: Path) -> None:
    """The whole life of a run, with a path as people name their files."""
    (away / "我的 it's 文章.txt").write_text(TEXT, encoding="utf-8")
    code, out, err = chargen("train", "我的 it's 文章.txt", *TINY, f"model.cell={cell}", "run_dir=runs/a")
    assert (code, err) == (0, "")
    assert re.search(r"validation +\d\.\d{4} nats/char +\d\.\d{4} bits/char", out)
    assert re.search(r"sample runs/a.*\n.*train resume=runs/a", out)
    kept = {
        "last.ckpt",
        "model.safetensors",
        "metrics.csv",
        "samples.txt",
        "summary.json",
        "config.yaml",
        "tokenizer.json",
    }
    assert {file.name for file in (away / "runs" / "a").iterdir() if file.name != ".lock"} == kept

    summary = json.loads((away / "runs/a/summary.json").read_text(encoding="utf-8"))
    assert summary["updates"] == 6
    assert summary["characters_seen"] == 6 * 8 * 32
    assert summary["validation_bits_per_char"] == pytest.approx(summary["validation_nats_per_char"] / np.log(2))
    assert summary["corpus"]["characters"] == len(TEXT)
    assert summary["validation_characters"] == len(TEXT) // 10

    code, out, _ = chargen("evaluate", "runs/a", "--json", "scores.json")
    assert code == 0
    scores = json.loads((away / "scores.json").read_text(encoding="utf-8"))
    assert scores["streaming"]["nats_per_char"] == pytest.approx(summary["validation_nats_per_char"], rel=1e-6)
    assert scores["streaming"]["characters"] == scores["windowed"]["characters"] == len(TEXT) // 10
    assert f"{scores['windowed']['nats_per_char']:.4f}" in out

    for place in ("runs/a", "runs/a/model.safetensors", "runs/a/last.ckpt"):
        code, out, _ = chargen("sample", place, "--length", "40", "--prompt", "It is", "--seed", "3", "--ignore-eos")
        assert code == 0
        assert out.startswith("It is")
        assert len(out) == 5 + 40 + 1
    assert (
        chargen("sample", "--length", "40", "--prompt", "It is", "--seed", "3", "--ignore-eos")[1] == out
    )  # the newest run

    assert "complete at 6 updates" in chargen("train", "resume=runs/a")[2]
    code, out, err = chargen("train", "resume=runs/a", "trainer.max_steps=9")
    assert (code, err) == (0, "")
    assert json.loads((away / "runs/a/summary.json").read_text(encoding="utf-8"))["updates"] == 9


def test_a_run_without_validation_keeps_its_last_weights(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "trainer.limit_val_batches=0", "run_dir=r")[0] == 0
    assert chargen("train", "resume=r", "trainer.max_steps=9")[0] == 0
    last = torch.load(away / "r" / "last.ckpt", weights_only=True)
    kept = ModelFile.load(away / "r" / "model.safetensors")
    assert last["global_step"] == 9
    np.testing.assert_array_equal(kept.weights["head.bias"], last["state_dict"]["model.head.bias"].numpy())


def test_bf16_precisions_train(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    for precision in ("bf16-true", "bf16-mixed"):
        code, _, err = chargen("train", "t.txt", *TINY, f"trainer.precision={precision}", f"run_dir={precision}")
        assert (code, err) == (0, "")
        assert chargen("sample", f"{precision}/last.ckpt", "--length", "5")[0] == 0


def test_a_new_run_replaces_the_log_of_a_run_that_died_at_once(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    (away / "r").mkdir()
    (away / "r" / "metrics.csv").write_text("of another run")
    assert chargen("train", "t.txt", *TINY, "run_dir=r")[0] == 0
    assert "of another run" not in (away / "r" / "metrics.csv").read_text()


def test_weight_dropout_is_chosen_from_the_number_of_passes(chargen: Chargen, away: Path) -> None:
    """Said, written into the run's files, and kept by a run that goes on; whoever names a fraction is asked nothing."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    words = ["t.txt", "model=tiny", "sample_length=0"]
    chosen = {}
    for name, more in {
        "seldom": ["trainer.max_steps=2", "model.hidden_size=8"],
        "often": ["trainer.max_epochs=9"],
        "named": ["trainer.max_epochs=9", "model.weight_dropout=0.1"],
    }.items():
        code, out, err = chargen("train", *words, *more, f"run_dir={name}")
        assert (code, err) == (0, "")
        assert ("model.weight_dropout" in out) == (name == "often")
        chosen[name] = yaml.safe_load((away / name / "config.yaml").read_text())["model"]["weight_dropout"]
    assert chosen == {"seldom": 0.0, "often": 0.4, "named": 0.1}
    code, out, _ = chargen("train", "resume=often", "trainer.max_epochs=10")
    assert code == 0
    assert "model.weight_dropout" not in out
    saved = torch.load(away / "often" / "last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["model"]["weight_dropout"] == 0.4


def test_a_mistake_in_a_sweep_ends_only_its_run(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    code, out, err = chargen("train", "-m", "t.txt", *TINY, "batch_size=5000,4,8", "run_dir=sweep")
    assert code == 2
    assert "too little text" in err
    assert out.count("sweep/1  ") == out.count("sweep/2  ") == 1
    assert {file.name for file in away.iterdir()} == {"t.txt", "sweep", "data"}


def test_text_is_printed_without_markup_or_emoji(chargen: Chargen, away: Path) -> None:
    """Nothing that looks like markup or an emoji's name is taken for one."""
    (away / "t.txt").write_text("[b]:x: :key:[/b]\n" * 200, encoding="utf-8")
    code, out, _ = chargen("train", "t.txt", "model=tiny", "trainer.max_steps=150", "run_dir=[r]:key:")
    assert code == 0
    assert ":key:[/b]" in out
    assert "into [r]:key:" in out


def test_a_sweep_runs_every_combination_and_lists_the_scores(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    code, out, err = chargen("train", "-m", "t.txt", *TINY, "model.cell=rnn,gru", "run_dir=sweep")
    assert (code, err) == (0, "")
    for number in (0, 1):
        assert (away / "sweep" / str(number) / "model.safetensors").exists()
    assert re.search(r"nats/char +run, best first\n +\d\.\d+ +sweep/[01] .*model.cell=", out)


def test_early_stopping_ends_a_run_that_gets_worse(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    worse = ["optimizer.learning_rate=30", "early_stopping=2", "trainer.val_check_interval=1", "run_dir=r"]
    assert chargen("train", "t.txt", *TINY, "trainer.max_steps=40", *worse)[0] == 0
    summary = json.loads((away / "r" / "summary.json").read_text(encoding="utf-8"))
    assert summary["updates"] == summary["best_update"] + 2 < 40
    assert torch.load(away / "r" / "last.ckpt", weights_only=True)["global_step"] == summary["updates"]


def test_other_loggers_log_or_name_their_missing_package(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    for name in ("tensorboard", "wandb", "mlflow"):
        code, _, err = chargen("train", "t.txt", *TINY, f"logger={name}", f"run_dir={name}")
        assert code == 0 or f"pip install 'chargen[{name}]'" in err


def test_help_lists_settings_and_choices(chargen: Chargen) -> None:
    code, out, _ = chargen("train", "--help")
    assert code == 0
    for word in (
        "model.cell=gru",
        "corpus.path=null",
        "trainer.max_time",
        "resume=",
        "+experiment=fifteen_seconds",
        "batch_size=16",
    ):
        assert word in out
    assert chargen("--help") == chargen()
    assert "--temperature" in chargen("sample", "--help")[1]


def test_a_run_is_never_overwritten(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    torch.save({}, away / "r" / "last.ckpt")
    code, _, err = chargen("train", "run_dir=r", *TINY)
    assert code == 2
    assert "run_dir=r holds a run already: write resume=r" in err
