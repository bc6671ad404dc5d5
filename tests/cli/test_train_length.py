"""How long a run trains and validates, and what it says about that."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.environment import Command
from support.models import TEXT, TINY

from chargen import native
from chargen.durations import parse_duration
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.model_file import ModelFile

SMALL = ["model=tiny", "model.hidden_size=8", "model.embedding_size=4", "sequence_length=16", "sample_length=0"]


def summary_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "summary.json").read_text(encoding="utf-8")))


@pytest.fixture
def text(away: Path) -> Path:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    return away / "t.txt"


def test_a_checkpoint_alone_yields_a_model(trained: Callable[..., Path], chargen: Command, away: Path) -> None:
    """The best score in it cannot be beaten, but its weights are not there."""
    run = trained("r", "trainer.val_check_interval=1")
    (away / "alone").mkdir()
    shutil.copy(run / "last.ckpt", away / "alone" / "last.ckpt")
    code, out, err = chargen("train", "resume=alone/last.ckpt", "trainer.max_steps=12")
    assert (code, err) == (0, "")
    assert "model.safetensors is not there: the best weights from here on are kept" in out
    assert ModelFile.load(away / "alone" / "model.safetensors").metadata["updates"] > 6


def test_a_repeated_time_trains_that_long_again(chargen: Command, text: Path, away: Path) -> None:
    assert chargen("train", "t.txt", *SMALL, "run_dir=r", "trainer.max_time=2s")[0] == 0
    first, last = summary_of(away / "r"), away / "r" / "last.ckpt"
    seconds = Checkpoint.read(last).seconds
    code, out, _ = chargen("train", "resume=r", "trainer.max_time=2s")
    assert code == 0
    assert "; it trains 0:02 more" in out
    second = summary_of(away / "r")
    assert second["updates"] > first["updates"]
    total = parse_duration(Checkpoint.read(last).config.trainer["max_time"])
    assert total == pytest.approx(seconds + 2.0, abs=0.51)  # whole seconds
    code, _, err = chargen("train", "resume=r")
    assert code == 2
    assert "the run is complete" in err


def test_validations_are_labelled_announced_and_left_out_of_the_speed(chargen: Command, text: Path, away: Path) -> None:
    code, out, _ = chargen("train", "t.txt", *SMALL, "run_dir=r", "trainer.max_steps=40", "batch_size=2")
    assert code == 0
    summary = summary_of(away / "r")
    training_seconds = summary["train_seconds"] - summary["validation_seconds"]
    assert summary["chars_per_second"] == pytest.approx(summary["characters_seen"] / training_seconds, rel=0.05)
    quick = [float(score) for score in re.findall(r"quick validation ([\d.]+) nats", out)]
    assert len(quick) == 10
    assert summary["quick_validation_nats_per_char"] == pytest.approx(min(quick), abs=1e-4)
    (score,) = re.findall(r"^score +([\d.]+) nats", out, re.MULTILINE)
    assert float(score) == pytest.approx(summary["validation_nats_per_char"], abs=1e-4)
    assert "scoring the best weights on 240 held-out characters" in out
    (read,) = re.findall(r"validations during the run read (\d+) characters", out)
    assert int(read) == 3 * 64  # a fifth of 40 * 2 * 16 characters in ten validations are less than one window
    assert "a sample" not in out


@pytest.mark.parametrize(
    "settings",
    [
        ["trainer.limit_val_batches=0"],
        [
            "trainer.check_val_every_n_epoch=9",
            "trainer.max_steps=-1",
            "trainer.max_epochs=2",
            "trainer.val_check_interval=null",
        ],
    ],
)
def test_early_stopping_needs_validations(settings: list[str], chargen: Command, text: Path) -> None:
    code, _, err = chargen("train", "t.txt", *TINY, *settings, "early_stopping=2")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("chargen: early_stopping=2: the run has no validation; leave out trainer.limit_val_batches")


def test_early_stopping_waits_for_a_validation(chargen: Command, text: Path, away: Path) -> None:
    """Passes end before the first validation."""
    assert chargen("train", "t.txt", *TINY, "trainer.val_check_interval=500", "early_stopping=1", "run_dir=r")[0] == 0
    assert summary_of(away / "r")["updates"] == 6


NO_BF16 = "there is no instruction for products in bf16 here, so the run computes in float32"


@pytest.mark.parametrize(
    ("precision", "reason"),
    [("bf16", NO_BF16), ("16", "a CPU has no fast float16, so the run computes in float32")],
)
def test_a_new_run_says_that_it_computes_in_float32(
    precision: str, reason: str, chargen: Command, text: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its settings say so too, and a resumed run keeps them and says nothing more."""
    monkeypatch.setattr(native, "has_bf16", lambda: False)
    given = [f"trainer.precision={precision}", "trainer.accelerator=cpu", "run_dir=r"]
    code, out, _ = chargen("train", "t.txt", *TINY, *given)
    assert code == 0
    assert out.count(f"trainer.precision={precision}-mixed: {reason}\n") == 1
    assert yaml.safe_load((away / "r" / "config.yaml").read_text())["trainer"]["precision"] == "32-true"
    code, _, err = chargen("train", "resume=r", "trainer.precision=64", "trainer.max_steps=9")
    assert code == 2
    assert err == (
        "chargen: trainer.precision=64-true: a resumed run keeps this setting, trainer.precision=32-true; "
        "leave it out\n"
    )
    code, out, _ = chargen("train", "resume=r", "trainer.max_steps=9")
    assert code == 0
    assert "trainer.precision" not in out
    assert summary_of(away / "r")["updates"] == 9


def test_a_run_in_bf16_continues_in_bf16_on_every_processor(
    chargen: Command, text: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "has_bf16", lambda: True)
    given = ["trainer.precision=bf16-mixed", "trainer.accelerator=cpu", "run_dir=r"]
    code, out, _ = chargen("train", "t.txt", *TINY, *given)
    assert code == 0
    assert "trainer.precision" not in out
    monkeypatch.setattr(native, "has_bf16", lambda: False)
    code, out, _ = chargen("train", "resume=r", "trainer.precision=bf16", "trainer.max_steps=9")
    assert code == 0
    assert out.count("trainer.precision=bf16-mixed: this processor has no instruction for products in bf16") == 1
    assert Checkpoint.read(away / "r" / "last.ckpt").config.trainer["precision"] == "bf16-mixed"


@pytest.mark.parametrize(
    "setting", ["trainer.limit_train_batches=2", "trainer.overfit_batches=1", "trainer.accumulate_grad_batches=3"]
)
def test_a_resumed_run_keeps_the_windows_of_an_update(
    setting: str, trained: Callable[..., Path], chargen: Command
) -> None:
    trained()
    code, _, err = chargen("train", "resume=r", setting, "trainer.max_steps=9")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"chargen: {setting}: a resumed run keeps this setting, {setting.partition('=')[0]}=")


def test_a_part_of_the_text_is_read_and_said(chargen: Command, text: Path, away: Path) -> None:
    settings = ["trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.limit_train_batches=3", "batch_size=4"]
    code, out, _ = chargen("train", "t.txt", *TINY, *settings, "run_dir=r")
    assert code == 0
    assert re.search(r"each pass reads \d+ of 2,159 characters \(trainer\.limit_train_batches=3\)", out)
    assert "6 updates are 2.0 passes" in out
    assert summary_of(away / "r")["updates"] == 6


def test_a_score_worse_than_guessing_is_said(chargen: Command, text: Path, away: Path) -> None:
    """A run whose numbers stay finite is not noticed as diverging, but nobody wants its model."""
    settings = ["optimizer.learning_rate=1000000", "trainer.gradient_clip_val=null", "model.cell=rnn"]
    code, out, _ = chargen("train", "t.txt", *TINY, *settings, "run_dir=r")
    assert code == 0
    assert "is predicted worse than by guessing uniformly" in out
    assert chargen("train", "t.txt", *TINY, "run_dir=q")[1].count("worse than by guessing") == 0


def test_validations_that_were_asked_for_may_take_longer_but_say_so(chargen: Command, text: Path, away: Path) -> None:
    settings = ["trainer.max_time=2s", "trainer.val_check_interval=1", "batch_size=2"]
    code, out, _ = chargen("train", "t.txt", *SMALL, *settings, "run_dir=r")
    assert code == 0
    assert out.count("of the time: a larger trainer.val_check_interval") == 1


def test_early_stopping_that_did_nothing_is_said(chargen: Command, text: Path, away: Path) -> None:
    settings = ["trainer.max_time=1s", "trainer.check_val_every_n_epoch=9999", "early_stopping=1"]
    code, out, _ = chargen("train", "t.txt", *SMALL, *settings, "run_dir=r")
    assert code == 0
    assert "early_stopping=1 did nothing: the run had no validation" in out


@pytest.mark.parametrize("place", ["t.txt", "t.txt/below", "link"])
def test_a_run_needs_a_folder(place: str, chargen: Command, text: Path, away: Path) -> None:
    (away / "link").symlink_to("nowhere")
    code, _, err = chargen("train", "t.txt", *TINY, f"run_dir={place}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"chargen: run_dir={place}: ")
    assert ("is a file; name a folder" in err) == (place != "link")


def test_a_text_that_is_named_twice_is_read_once(chargen: Command, text: Path) -> None:
    """Otherwise the held-out part would be a copy of what the model learns."""
    out = chargen("train", "t.txt", "./t.txt", *TINY, "run_dir=r")[1]
    assert "corpus text: 2,400 characters" in out
