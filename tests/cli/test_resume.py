"""A run that was stopped, killed or damaged continues."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.environment import Launch
from support.forgery import forge_checkpoint
from support.models import TEXT, TINY

from chargen.storage.model_file import ModelFile

Chargen = Callable[..., tuple[int, str, str]]


def test_a_killed_run_continues_to_the_same_weights(launch: Launch, away: Path) -> None:
    """SIGKILL in the middle of a pass, then the same command line with resume: equal to the bit."""
    (away / "t.txt").write_text("".join(chr(97 + (k * k) % 26) for k in range(40_000)), encoding="utf-8")
    settings = ["t.txt", "model=tiny", "model.dropout=0.2", "trainer.max_steps=700", "trainer.gradient_clip_val=0.1"]
    settings += [
        "trainer.val_check_interval=40",
        "trainer.limit_val_batches=1",
        "sample_length=0",
        "sequence_length=16",
    ]

    whole, victim = (launch("train", *settings, f"run_dir={name}") for name in ("whole", "killed"))
    while not (away / "killed" / "last.ckpt").exists():
        assert victim.poll() is None, victim.communicate()[1].decode()
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    done = torch.load(away / "killed" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < done < 700
    for run in (launch("train", "resume=killed"), whole):
        _, err = run.communicate()
        assert run.returncode == 0, err.decode()
    ends = [torch.load(away / run / "last.ckpt", weights_only=True) for run in ("whole", "killed")]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 700
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name
    models = [ModelFile.load(away / run / "model.safetensors") for run in ("whole", "killed")]
    for name, value in models[0].weights.items():
        np.testing.assert_array_equal(value, models[1].weights[name])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_the_run_and_prints_the_next_command(number: int, code: int, launch: Launch, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    run = launch("train", "t.txt", "model=tiny", "run_dir=r", "sequence_length=16")
    while not (away / "r" / "metrics.csv").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    assert re.search(r"stopped at update \d+ and saved; continue with\n  .* train resume=r", out.decode())
    assert b"Traceback" not in err
    assert (away / "r" / "last.ckpt").exists()


def test_a_run_killed_after_its_last_update_is_finished_by_resume(chargen: Chargen, away: Path) -> None:
    """As if it had died while the end was scored: no summary yet, and no model of the last validation."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "trainer.val_check_interval=100", "run_dir=r")[0] == 0
    done = json.loads((away / "r" / "summary.json").read_text(encoding="utf-8"))
    for name in ("summary.json", "model.safetensors"):
        (away / "r" / name).unlink()
    code, _, err = chargen("train", "resume=r")
    assert (code, err) == (0, "")
    again = json.loads((away / "r" / "summary.json").read_text(encoding="utf-8"))
    assert again["command"].splitlines() == [done["command"], "chargen train resume=r"]
    measured = {"train_seconds", "chars_per_second", "validation_seconds", "machine", "command"}
    assert all(again[key] == value for key, value in done.items() if key not in measured)
    assert again.keys() == done.keys()


def test_resume_refuses_other_shapes_and_other_texts(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "run_dir=r")[0] == 0
    for words, message in (
        (["model.cell=rnn"], "model.cell: a resumed run keeps this setting"),
        (["batch_size=2"], "batch_size: a resumed run keeps this setting"),
    ):
        code, _, err = chargen("train", "resume=r", *words)
        assert (code, message in err) == (2, True)
    (away / "t.txt").write_text(TEXT.upper(), encoding="utf-8")
    assert "has changed since" in chargen("train", "resume=r", "trainer.max_steps=9")[2]
    assert "has changed since" in chargen("evaluate", "r")[2]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(chargen: Chargen, away: Path) -> None:
    """And the run ends with the same bits as one that was never damaged."""
    (away / "text.txt").write_text(TEXT, encoding="utf-8")
    for folder in ("whole", "hurt"):
        words = ["trainer.val_check_interval=2", "trainer.max_steps=8", f"run_dir={folder}"]
        assert chargen("train", "text.txt", *TINY, *words)[0] == 0
    last = away / "hurt" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 16
    last.write_bytes(content)
    before = away / "hurt" / "last.previous.ckpt"
    assert torch.load(before, weights_only=True)["global_step"] < 8
    (away / "hurt" / "summary.json").unlink()

    code, _, err = chargen("train", "resume=hurt")
    assert (code, err.count("\n")) == (0, 1)
    assert "continuing from hurt/last.previous.ckpt" in err
    whole, hurt = (torch.load(away / run / "last.ckpt", weights_only=True) for run in ("whole", "hurt"))
    assert whole["global_step"] == hurt["global_step"] == 8
    for name, value in whole["state_dict"].items():
        assert torch.equal(hurt["state_dict"][name], value), name

    last.write_bytes(content)
    before.write_bytes(content[:-1])
    code, out, err = chargen("train", "resume=hurt", "trainer.max_steps=9")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "damaged" in err


def test_a_text_that_lies_elsewhere_is_known_by_its_digest(
    trained: Callable[..., Path], chargen: Chargen, away: Path
) -> None:
    """Where it is gone, its ids do; where they are gone too, its new place does, and another text does not."""
    trained("r", "corpus.validation_fraction=0.2")

    def resumed(updates: int, *words: str) -> tuple[int, str, str]:
        return chargen("train", "resume=r", f"trainer.max_steps={updates}", *words)

    os.rename("t.txt", "u.txt")
    gone = f"no such file, folder or pattern: {away}/t.txt"
    code, out, err = resumed(8)
    assert (code, err) == (0, "")
    assert f"{gone}; its ids are in {away}/data" in out
    assert chargen("evaluate", "r")[::2] == (0, f"chargen: {gone}; its ids are in {away}/data\n")

    wrong = resumed(9, "corpus.path=nowhere.txt")  # a name that is typed wrongly is not made up for
    assert wrong[::2] == (2, f"chargen: no such file, folder or pattern: {away}/nowhere.txt\n")
    shutil.rmtree("data")
    assert resumed(9)[::2] == (2, f"chargen: {gone}; if the text lies elsewhere now, write corpus.path=FILE\n")
    code, _, err = chargen("evaluate", "r")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{gone}; if the text lies elsewhere now, link it there (ln -s); or score a text with --text FILE" in err

    (away / "other.txt").write_text(TEXT.upper(), encoding="utf-8")
    for words, message in (
        (["corpus.path=nowhere.txt"], f"no such file, folder or pattern: {away}/nowhere.txt"),
        (
            ["corpus.path=other.txt"],
            f"has changed since the run, or is another one ({away}/other.txt): start a new run",
        ),
        (["corpus.unit=byte"], "corpus.unit: a resumed run keeps this setting"),
        (["corpus=tinyshakespeare", "corpus.url=https://127.0.0.1:9/x"], "cannot fetch tinyshakespeare.txt"),
        (["corpus.file=x", "corpus.sha256=null"], "no such file, folder or pattern"),
    ):
        code, out, err = resumed(9, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err

    for updates, words in ((10, ["corpus.path=u.txt"]), (11, []), (12, ["u.txt"])):
        code, _, err = resumed(updates, *words)
        assert (code, err) == (0, "")
        assert json.loads((away / "r" / "summary.json").read_text(encoding="utf-8"))["updates"] == updates
    corpus = yaml.safe_load((away / "r" / "config.yaml").read_text())["corpus"]
    assert (corpus["path"], corpus["name"], corpus["validation_fraction"]) == (str(away / "u.txt"), "text", 0.2)
    assert chargen("evaluate", "r")[0] == 0


def test_an_address_in_a_file_is_not_fetched_because_its_name_is_typed(
    trained: Callable[..., Path], chargen: Chargen, away: Path
) -> None:
    """Whoever types where to keep a download has not typed where it comes from."""

    def forge(content: dict[str, Any]) -> None:
        corpus = content["hyper_parameters"]["metadata"]["config"]["corpus"]
        corpus.update(path=None, url="https://example.org/x", file="x", size=3, sha256="0" * 64)

    forge_checkpoint(trained("r") / "last.ckpt", forge)
    code, _, err = chargen("train", "resume=r", "trainer.max_steps=9", "corpus.file=y")
    assert code == 2
    assert "https://example.org/x, which chargen does not fetch because a file names it" in err
