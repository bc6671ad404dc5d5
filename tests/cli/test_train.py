"""`chargen train`: what works, works as typed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.environment import CELLS as NAMES
from support.models import TEXT, TINY, write_model

from chargen.cli.app import main
from chargen.storage.model_file import ModelFile

Chargen = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("cell", NAMES)
def test_train_sample_evaluate_and_resume(cell: str, chargen: Chargen, away: Path) -> None:
    """The whole life of a run, with a path as people name their files."""
    (away / "我的 it's 文章.txt").write_text(TEXT, encoding="utf-8")
    code, out, err = chargen("train", "我的 it's 文章.txt", *TINY, f"model.cell={cell}", "run_dir=runs/a")
    assert (code, err) == (0, "")
    assert re.search(r"score +\d\.\d{4} nats/char +\d\.\d{4} bits/char", out)
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


def test_scores_of_a_model_of_bytes_are_per_byte_and_per_character(chargen: Chargen, away: Path) -> None:
    """Each character of the text has three bytes, and a line end one."""
    line = "春眠不覺曉，處處聞啼鳥。\n"
    (away / "t.txt").write_text(line * 100, encoding="utf-8")
    code, out, err = chargen("train", "t.txt", *TINY, "corpus.unit=byte", "run_dir=r")
    assert (code, err) == (0, "")
    assert "nats/char" not in out
    found = re.search(r"score +(\S+) nats/byte +(\S+) bits/byte .* bytes.*; (\S+) nats per character of UTF-8", out)
    assert found is not None
    per_byte, _, per_character = map(float, found.groups())
    summary = json.loads((away / "r" / "summary.json").read_text(encoding="utf-8"))
    assert summary["unit"] == "byte"
    ids = (line * 100).encode()[-summary["validation_characters"] :]
    number = sum(byte & 0xC0 != 0x80 for byte in ids)
    number -= ids[0] & 0xC0 == 0x80  # the first character is cut
    assert per_character == pytest.approx(per_byte * len(ids) / number, rel=0.02)
    code, out, _ = chargen("evaluate", "r", "--json", "s.json")
    assert code == 0
    assert ("nats/byte" in out, "nats/char" in out) == (True, False)
    assert re.search(r"\d characters in UTF-8: nats per character are \d\.\d+ times as many", out)
    assert json.loads((away / "s.json").read_text(encoding="utf-8"))["unit"] == "byte"
    assert "/byte" in chargen("runs", ".")[1]
    samples = (away / "r" / "samples.txt").read_bytes()
    assert b"nats/byte\n" in samples


def test_bytes_that_are_no_text_have_no_score_per_character(chargen: Chargen, away: Path) -> None:
    (away / "t.bin").write_bytes(bytes([0, 200, 255, 10, 13]) * 400)
    code, out, _ = chargen("train", "t.bin", *TINY, "corpus.unit=byte", "run_dir=r")
    assert code == 0
    assert "nats/byte" in out
    assert "character of UTF-8" not in out
    text, *_ = (away / "r" / "samples.txt").read_bytes().split(b"nats/byte\n")[1:]
    assert set(text) <= {0, 200, 255, 10, 13, *b"=== update ,quick validation.0123456789"}


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


def test_runs_of_one_second_get_folders_of_their_own(chargen: Chargen, away: Path) -> None:
    """As if others had begun in each of the next seconds. Whoever names a folder gets that folder."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    now = time.time()
    taken = {time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now + second)) for second in range(300)}
    for name in (*taken, "named"):
        (away / "runs" / name).mkdir(parents=True)
    code, out, err = chargen("train", "t.txt", *TINY)
    assert (code, err) == (0, "")
    code, _, err = chargen("train", "-m", "t.txt", *TINY, "seed=1,2")
    assert (code, err) == (0, "")
    new = {name for name in os.listdir("runs") if name not in taken} - {"named"}
    runs = [str(file.parent.relative_to("runs")) for file in Path("runs").rglob("model.safetensors")]
    assert {re.sub("_[23](/[01])?$", "", run) for run in runs} <= taken
    assert {run.partition("/")[0] for run in runs} == new
    assert sorted(run.partition("/")[2] for run in runs) == ["", "0", "1"]
    assert any(f"into runs/{run}" in out for run in runs)
    for words in (["nonsense=1,2"], ["nowhere.txt", "seed=1,2"], ["--cfg", "job"]):
        chargen("train", "-m", *words, *TINY)
    assert {name for name in os.listdir("runs") if name not in taken} == {*new, "named"}
    assert chargen("train", "t.txt", *TINY, "run_dir=runs/named")[0] == 0
    assert (away / "runs" / "named" / "model.safetensors").exists()


def test_a_run_does_not_learn_what_runs_wrote(chargen: Chargen, away: Path) -> None:
    """`cd poems; chargen train .` twice: the same text, and the first run can be scored and continued."""
    (away / "a.txt").write_text(TEXT, encoding="utf-8")
    scores = []
    for name, note in (("runs/one", ""), ("two", "left out: 1 that chargen wrote (runs/one/samples.txt)")):
        code, out, err = chargen("train", ".", *TINY, f"run_dir={name}")
        assert (code, err) == (0, "")
        assert note in out
        assert ("left out" in out) == bool(note)
        summary = json.loads((away / name / "summary.json").read_text(encoding="utf-8"))
        assert summary["corpus"]["characters"] == len(TEXT)
        scores.append(summary["validation_nats_per_char"])
    assert scores[0] == scores[1]
    os.rename("runs/one", "moved")
    assert chargen("evaluate", "moved")[::2] == (0, "")
    assert chargen("train", "resume=moved", "trainer.max_steps=8")[::2] == (0, "")
    assert chargen("train", "moved/samples.txt", *TINY, "batch_size=1", "run_dir=three")[0] == 0  # named by the user


def test_names_that_are_not_utf8_go_through_every_command(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand in every file of the run, and no line that is printed fails."""

    def chargen(*words: str) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
        monkeypatch.setattr(sys, "argv", ["chargen", *words])
        redirected = contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1])
        with redirected[0], redirected[1], pytest.raises(SystemExit) as stopped:
            main()
        out, err = (os.fsdecode(stream.buffer.getvalue()) for stream in streams)
        return int(stopped.value.code or 0), out, err

    folder, run = os.fsdecode(b"caf\xe9"), os.fsdecode(b"run \xff")
    try:
        (away / folder).mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    monkeypatch.chdir(folder)
    text = os.fsdecode(b"po\xe9mes")
    Path(text).mkdir()
    file = Path(text, os.fsdecode(b"\xfe.txt"))
    file.write_text(TEXT, encoding="utf-8")
    settings = ["trainer.val_check_interval=3", f"run_dir={run}", "data_dir=" + os.fsdecode(b"d\xed")]
    assert chargen("train", text, *TINY, *settings)[::2] == (0, "")
    for words in (
        ["train", f"resume={run}", "trainer.max_steps=8"],
        ["evaluate", run, "--json", os.fsdecode(b"\xfd.json")],
        ["evaluate", f"{run}/model.safetensors", "--text", str(file)],
        ["sample", run, "--length", "5", "--seed", "1"],
        ["sample", f"{run}/last.ckpt", "--length", "5", "--seed", "1", "--output", os.fsdecode(b"\xfc.txt")],
        ["plot", run],
        ["doctor", text],
    ):
        code, _, err = chargen(*words)
        assert (code, err) == (0, ""), words
    assert "complete" in chargen("runs", ".")[1]
    for name in ("config.yaml", "summary.json", "samples.txt", "metrics.csv", "curve.png"):
        assert Path(run, name).is_file()
    path = os.path.abspath(text)
    assert yaml.safe_load(Path(run, "config.yaml").read_text(encoding="utf-8"))["corpus"]["path"] == path
    os.rename(text, "moved")
    assert "its ids are in" in chargen("evaluate", run)[2]
    assert chargen("train", f"resume={run}", "corpus.path=moved", "trainer.max_steps=9")[::2] == (0, "")
