"""The command line: what works, works as typed; what does not, says in one line what to type."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import CELLS as NAMES
from conftest import Launch
from support.models import TEXT, TINY, write_model

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import Tokenizer
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ModelFile

Chargen = Callable[..., tuple[int, str, str]]
# ------------------------------------------------------------------------------- train


@pytest.mark.parametrize("cell", NAMES)
def test_train_sample_evaluate_resume(cell: str, chargen: Chargen, away: Path) -> None:
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
        code, out, _ = chargen("sample", place, "--length", "40", "--prompt", "It is", "--seed", "3", "--through")
        assert code == 0
        assert out.startswith("It is")
        assert len(out) == 5 + 40 + 1
    assert (
        chargen("sample", "--length", "40", "--prompt", "It is", "--seed", "3", "--through")[1] == out
    )  # the newest run

    assert "complete at 6 updates" in chargen("train", "resume=runs/a")[2]
    code, out, err = chargen("train", "resume=runs/a", "trainer.max_steps=9")
    assert (code, err) == (0, "")
    assert json.loads((away / "runs/a/summary.json").read_text(encoding="utf-8"))["updates"] == 9


def test_a_killed_run_ends_as_if_it_had_not_been(launch: Launch, away: Path) -> None:
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(number: int, code: int, launch: Launch, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    run = launch("train", "t.txt", "model=tiny", "run_dir=r", "sequence_length=16")
    while not (away / "r" / "metrics.csv").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == code, err
    assert re.search(r"stopped at update \d+ and saved; go on with\n  .* train resume=r", out.decode())
    assert b"Traceback" not in err
    assert (away / "r" / "last.ckpt").exists()


def test_a_run_killed_behind_its_last_update_is_finished(chargen: Chargen, away: Path) -> None:
    """As if it had died while the end was scored: no summary yet, and no model of the last validation."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "trainer.val_check_interval=100", "run_dir=r")[0] == 0
    done = json.loads((away / "r" / "summary.json").read_text(encoding="utf-8"))
    for name in ("summary.json", "model.safetensors"):
        (away / "r" / name).unlink()
    code, _, err = chargen("train", "resume=r")
    assert (code, err) == (0, "")
    again = json.loads((away / "r" / "summary.json").read_text(encoding="utf-8"))
    del done["train_seconds"], done["chars_per_second"], again["train_seconds"], again["chars_per_second"]
    assert again == done


def test_a_run_without_validation_keeps_its_last_weights(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "trainer.limit_val_batches=0", "run_dir=r")[0] == 0
    assert chargen("train", "resume=r", "trainer.max_steps=9")[0] == 0
    last = torch.load(away / "r" / "last.ckpt", weights_only=True)
    kept = ModelFile.load(away / "r" / "model.safetensors")
    assert last["global_step"] == 9
    np.testing.assert_array_equal(kept.weights["head.bias"], last["state_dict"]["model.head.bias"].numpy())


def test_other_precisions_train(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    for precision in ("bf16-true", "bf16-mixed"):
        code, _, err = chargen("train", "t.txt", *TINY, f"trainer.precision={precision}", f"run_dir={precision}")
        assert (code, err) == (0, "")
        assert chargen("sample", f"{precision}/last.ckpt", "--length", "5")[0] == 0


def test_a_fresh_run_in_a_dead_ones_folder_starts_its_files_anew(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    (away / "r").mkdir()
    (away / "r" / "metrics.csv").write_text("of another run")
    assert chargen("train", "t.txt", *TINY, "run_dir=r")[0] == 0
    assert "of another run" not in (away / "r" / "metrics.csv").read_text()


def test_the_weights_dropped_are_chosen_by_how_often_a_text_is_read(chargen: Chargen, away: Path) -> None:
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


def test_a_mistake_in_a_sweep_costs_one_run(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    code, out, err = chargen("train", "-m", "t.txt", *TINY, "batch_size=5000,4,8", "run_dir=sweep")
    assert code == 2
    assert "too little text" in err
    assert out.count("sweep/1  ") == out.count("sweep/2  ") == 1
    assert {file.name for file in away.iterdir()} == {"t.txt", "sweep", "data"}


def test_text_is_shown_as_it_is(chargen: Chargen, away: Path) -> None:
    """Nothing that looks like markup or an emoji's name is taken for one."""
    (away / "t.txt").write_text("[b]:x: :key:[/b]\n" * 200, encoding="utf-8")
    code, out, _ = chargen("train", "t.txt", "model=tiny", "trainer.max_steps=150", "run_dir=[r]:key:")
    assert code == 0
    assert ":key:[/b]" in out
    assert "into [r]:key:" in out


def test_a_sweep_runs_each_and_lists_them(chargen: Chargen, away: Path) -> None:
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


def test_the_loggers_of_others_are_asked_for_by_name(chargen: Chargen, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    for name in ("tensorboard", "wandb", "mlflow"):
        code, _, err = chargen("train", "t.txt", *TINY, f"logger={name}", f"run_dir={name}")
        assert code == 0 or f"pip install 'chargen[{name}]'" in err


def test_help_teaches(chargen: Chargen) -> None:
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


def test_a_run_is_not_overwritten(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    torch.save({}, away / "r" / "last.ckpt")
    code, _, err = chargen("train", "run_dir=r", *TINY)
    assert code == 2
    assert "run_dir=r holds a run already: write resume=r" in err


def test_resume_keeps_the_shape_of_a_run(chargen: Chargen, away: Path) -> None:
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


# ------------------------------------------------------------------------------- sample


def test_samples_come_by_seed_and_number(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    first = chargen("sample", "r", "--seed", "5", "--length", "50")
    assert first == chargen("sample", "r", "--seed", "5", "--length", "50")
    assert first != chargen("sample", "r", "--seed", "6", "--length", "50")
    two = chargen("sample", "r", "--seed", "5", "--length", "50", "--num-samples", "2")[1]
    assert two.startswith("--- sample 1\n" + first[1])  # not changed by what is drawn beside it
    assert "--- sample 2\n" in two
    chargen("sample", "r", "--seed", "5", "--length", "50", "--output", "out.txt")
    assert (away / "out.txt").read_text(encoding="utf-8") == first[1]


def test_the_likeliest_text_needs_no_seed(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    assert chargen("sample", "r", "--temperature", "0") == chargen("sample", "r", "--top-k", "1")


def test_prompts_come_from_anywhere(chargen: Chargen, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(away / "r", text="白日依山尽\n")
    (away / "prompt.txt").write_text("\ufeff白日", encoding="utf-8")
    typed = chargen("sample", "r", "--prompt", "白日", "--seed", "1", "--length", "9")[1]
    assert typed.startswith("白日")
    assert chargen("sample", "r", "--prompt-file", "prompt.txt", "--seed", "1", "--length", "9")[1] == typed
    piped = subprocess.run(
        [sys.executable, "-m", "chargen", "sample", "r", "--prompt-file", "-", "--seed", "1", "--length", "9"],
        input="白日".encode(),
        capture_output=True,
        check=True,
    )
    assert piped.stdout.decode() == typed


def test_unknown_characters_are_named(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    known = chargen("sample", "r", "--prompt", "ab", "--seed", "1", "--length", "5")
    code, out, err = chargen("sample", "r", "--prompt", "a中b😀中", "--seed", "1", "--length", "5")
    assert (code, out) == known[:2]
    assert err == "chargen: the model does not know '中' '😀': skipped\n"
    code, out, err = chargen("sample", "r", "--prompt", "a中", "--unknown", "error")
    assert (code, out) == (2, "")
    assert "'中'" in err


def test_an_interrupted_file_keeps_what_was_written(launch: Launch, away: Path) -> None:
    write_model(away / "r")
    run = launch("sample", "r", "--length", "100000000", "--output", "out.txt")
    while not any(file.stat().st_size for file in away.glob(".out.txt.*.tmp")):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert (run.communicate(timeout=20)[1], run.returncode) == (b"", 130)
    assert len((away / "out.txt").read_text(encoding="utf-8")) > 0


def test_no_run_yet(chargen: Chargen) -> None:
    code, _, err = chargen("sample")
    assert code == 2
    assert "there is no run in runs/ yet: train one with `chargen train`" in err


def test_a_closed_pipe_is_no_error(away: Path) -> None:
    write_model(away / "r")
    command = f"{sys.executable} -m chargen sample r --length 200000 --seed 1 --through | head -c 20"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout) == 20


def test_an_interrupt_ends_cleanly(launch: Launch, away: Path) -> None:
    write_model(away / "r")
    run = launch("sample", "r", "--length", "10000000", "--through")
    assert run.stdout is not None
    assert run.stdout.read(1)  # it writes: characters come before the end
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (130, b"")


# ------------------------------------------------------------------------------- evaluate, plot


def test_another_text_is_scored(chargen: Chargen, away: Path) -> None:
    """A model whose every character is equally likely scores log2 V on anything, unknown ones included."""
    tokenizer = Tokenizer("abc \n")
    model = CharRNN(ModelConfig(tokenizer.vocab_size, "gru", 8, 1, 4))
    torch.nn.init.zeros_(model.head.weight)
    (away / "r").mkdir()
    model.to_model_file(tokenizer.to_json(), {"start_id": 2}).save(away / "r" / "model.safetensors")
    (away / "other.txt").write_text("abc中" * 100, encoding="utf-8")
    code, out, _ = chargen("evaluate", "r", "--text", "other.txt")
    assert code == 0
    assert "other.txt: 400 characters" in out
    assert "100 of them are unknown" in out
    assert out.count(f"{np.log2(7):.4f}") == 2


@pytest.fixture
def learned(chargen: Chargen, away: Path) -> str:
    """A run over `TEXT`, which stands there still."""
    (away / "text.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "text.txt", *TINY, "run_dir=runs/a")[0] == 0
    return "runs/a"


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
    assert "going on from hurt/last.previous.ckpt" in err
    whole, hurt = (torch.load(away / run / "last.ckpt", weights_only=True) for run in ("whole", "hurt"))
    assert whole["global_step"] == hurt["global_step"] == 8
    for name, value in whole["state_dict"].items():
        assert torch.equal(hurt["state_dict"][name], value), name

    last.write_bytes(content)
    before.write_bytes(content[:-1])
    code, out, err = chargen("train", "resume=hurt", "trainer.max_steps=9")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "damaged" in err


def test_what_a_network_has_to_beat(learned: str, chargen: Chargen, away: Path) -> None:
    """Beside A and B: the same scores as the functions give, on the same split."""
    from chargen.evaluation.dynamic import SGD, score_dynamic

    code, out, _ = chargen("evaluate", learned, "--dynamic", "--baselines", "--json", "all.json")
    assert code == 0
    scores = json.loads((away / "all.json").read_text(encoding="utf-8"))
    portable = ModelFile.load(away / learned / "model.safetensors")
    ids = Tokenizer.from_json(portable.tokenizer).encode(TEXT)
    cut = len(TEXT) - len(TEXT) // 10
    expected = score_dynamic(CharRNN.from_model_file(portable), ids[cut - 1 :], SGD).nats_per_char
    assert scores["dynamic_sgd"]["nats_per_char"] == pytest.approx(expected, rel=1e-6)
    assert scores["dynamic_rms"]["nats_per_char"] < scores["streaming"]["nats_per_char"]  # the text repeats itself
    counts = np.bincount(ids[:cut], minlength=portable.settings["vocab_size"]) + 1
    frequencies = -np.log(counts / counts.sum())[ids[cut:]].mean()
    assert scores["baselines"]["letter frequencies, static"] == pytest.approx(frequencies)
    assert sum("static" in name for name in scores["baselines"]) == sum("adaptive" in n for n in scores["baselines"])
    for nats in scores["baselines"].values():
        assert f"{nats:.4f}" in out


def test_without_its_training_text_there_is_nothing_to_compare_with(learned: str, chargen: Chargen, away: Path) -> None:
    (away / "text.txt").unlink()
    for words in (["evaluate", learned, "--baselines"], ["sample", learned, "--novelty"]):
        code, out, err = chargen(*words)
        assert (code, out) == (2, "")
        assert "text.txt" in err
        assert f"leave out {words[2]}" in err


def test_novelty_is_told_beside_the_sample(learned: str, chargen: Chargen) -> None:
    code, out, err = chargen("sample", learned, "--novelty", "--seed", "1", "--length", "60", "--num-samples", "2")
    assert code == 0
    samples = [part[:-1] for part in re.split(r"\n?--- sample \d\n", out)[1:]]
    told = re.findall(r"training text: (\d+) characters, ('.*'); ([\d.]+)%", err)
    assert len(told) == len(samples) == 2
    for text, (length, run, share) in zip(samples, told, strict=True):
        found = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1) if text[i:j] in TEXT]
        assert max(map(len, found)) == int(length)
        assert eval(run) in text
        assert (float(share) > 0) == (int(length) >= 20)


def test_the_curve_is_drawn(chargen: Chargen, away: Path) -> None:
    (away / "r").mkdir()
    rows = (
        "update,seconds,train_nats_per_char,validation_nats_per_char,learning_rate\n1,1.0,3.0,,0.1\n2,2.0,2.0,2.5,0.2\n"
    )
    (away / "r" / "metrics.csv").write_text(rows)
    code, out, _ = chargen("plot", "r")
    assert (code, out.strip()) == (0, "r/curve.png")
    assert (away / "r" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_info_says_which_kernels_compute(
    chargen: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from chargen import native

    code, out, _ = chargen("info")
    assert code == 0
    for word in ("torch", "threads", native.in_use() if native.library() else "none ("):
        assert word in out
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setenv(native.VARIABLE, native.OFF)
    assert "none (CHARGEN_NATIVE=off)" in chargen("info")[1]
