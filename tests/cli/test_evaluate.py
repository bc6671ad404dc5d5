"""`chargen evaluate`: scores equal those of the functions."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import TEXT

from chargen.cli import evaluate
from chargen.config import ModelConfig
from chargen.corpus.tokenizer import Tokenizer
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ModelFile

Chargen = Callable[..., tuple[int, str, str]]


@pytest.fixture
def learned(trained: Callable[..., Path]) -> str:
    """A run over `TEXT` in text.txt, which is still there."""
    return str(trained("a", text="text.txt").relative_to(Path.cwd()))


def test_a_uniform_model_scores_log_v_on_another_text(chargen: Chargen, away: Path) -> None:
    """A model whose every character is equally likely scores log2 V on anything, unknown ones included."""
    uniform_model(away / "r")
    (away / "other.txt").write_text("abc中" * 100, encoding="utf-8")
    code, out, err = chargen("evaluate", "r", "--text", "other.txt")
    assert code == 0
    assert "other.txt: 400 characters" in out
    assert "100 of them (25.0%) are unknown" in out
    assert err.startswith("chargen: 25.0% of the characters of other.txt are unknown to the model")
    assert err.count("\n") == 1
    assert out.count(f"{np.log2(7):.4f}") == 2


def test_dynamic_evaluation_and_baselines_equal_the_functions(learned: str, chargen: Chargen, away: Path) -> None:
    """Beside A and B: the same scores as the functions give, on the same split."""
    from chargen.evaluation.dynamic import SGD, score_dynamic

    code, out, _ = chargen("evaluate", learned, "--dynamic", "--baselines", "--json", "all.json")
    assert code == 0
    scores = json.loads((away / "all.json").read_text(encoding="utf-8"))
    model_file = ModelFile.load(away / learned / "model.safetensors")
    ids = Tokenizer.from_json(model_file.tokenizer).encode(TEXT)
    cut = len(TEXT) - len(TEXT) // 10
    expected = score_dynamic(CharRNN.from_model_file(model_file), ids[cut - 1 :], SGD).nats_per_char
    assert scores["dynamic_sgd"]["nats_per_char"] == pytest.approx(expected, rel=1e-6)
    assert scores["dynamic_rms"]["nats_per_char"] < scores["streaming"]["nats_per_char"]  # the text repeats itself
    counts = np.bincount(ids[:cut], minlength=model_file.config.vocab_size) + 1
    frequencies = -np.log(counts / counts.sum())[ids[cut:]].mean()
    assert scores["baselines"]["letter frequencies, static"] == pytest.approx(frequencies)
    assert sum("static" in name for name in scores["baselines"]) == sum("adaptive" in n for n in scores["baselines"])
    for nats in scores["baselines"].values():
        assert f"{nats:.4f}" in out


def test_flags_that_need_the_training_text_say_so_if_it_is_missing(learned: str, chargen: Chargen, away: Path) -> None:
    (away / "text.txt").unlink()
    shutil.rmtree(away / "data")  # its ids
    for words in (["evaluate", learned, "--baselines"], ["sample", learned, "--novelty"]):
        code, out, err = chargen(*words)
        assert (code, out) == (2, "")
        assert "text.txt" in err
        assert f"leave out {words[2]}" in err


def uniform_model(folder: Path) -> None:
    """A run whose model finds every character equally likely: log2 7 bits each."""
    tokenizer = Tokenizer("abc \n")
    model = CharRNN(ModelConfig(tokenizer.vocab_size, "gru", 8, 1, 4))
    torch.nn.init.zeros_(model.head.weight)
    folder.mkdir()
    model.to_model_file(tokenizer.to_json(), {"start_id": 2}).save(folder / "model.safetensors")


@pytest.mark.parametrize(("text", "is_told"), [("abc" * 30, False), ("abcabcabc中" * 9, False), ("abc中" * 9, True)])
def test_a_score_of_unknown_characters_is_loud(text: str, is_told: bool, chargen: Chargen, away: Path) -> None:
    """More than a tenth of unknown characters is told on standard error, with their share."""
    uniform_model(away / "r")
    (away / "t.txt").write_text(text, encoding="utf-8")
    code, out, err = chargen("evaluate", "r", "--text", "t.txt")
    share = text.count("中") / len(text)
    assert (code, f"{share:.1%}" in err) == (0, is_told)
    assert (f"({share:.1%}) are unknown" in out) == ("中" in text)


def test_text_and_scores_go_through_pipes(chargen: Chargen, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input and standard output; the table makes way for the JSON."""
    uniform_model(away / "r")
    (away / "t.txt").write_bytes("a b\u00e9".encode("latin-1"))
    words = ("--encoding", "latin-1", "--json", "-")
    expected = json.loads(chargen("evaluate", "r", "--text", "t.txt", *words)[1])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((away / "t.txt").read_bytes())))
    code, out, err = chargen("evaluate", "r", "--text", "-", *words)
    assert (code, json.loads(out)) == (0, {**expected, "text": "standard input"})
    assert expected["streaming"]["bits_per_char"] == pytest.approx(np.log2(7))
    assert (expected["streaming"]["characters"], expected["unknown_characters"]) == (4, 1)
    assert "standard input: 4 characters" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    code, out, err = chargen("evaluate", "r", "--text", "-", "--encoding", "utf-8")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "standard input is not utf-8 at byte 2" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    code, _, err = chargen("evaluate", "r", "--text", "-")
    assert code == 0
    assert "too short to be sure of the encoding: standard input" in err
    assert not (away / "-").exists()


def test_a_named_pipe_is_a_text(chargen: Chargen, away: Path) -> None:
    """As of `evaluate --text <(zcat a.gz)`."""
    uniform_model(away / "r")
    os.mkfifo(away / "pipe")
    writer = threading.Thread(target=(away / "pipe").write_text, args=("abc" * 9,), daemon=True)
    writer.start()
    code, out, _ = chargen("evaluate", "r", "--text", "pipe")
    assert (code, "pipe: 27 characters" in out) == (0, True)
    writer.join()


def test_scores_replace_a_file_only_if_told_to(chargen: Chargen, away: Path) -> None:
    uniform_model(away / "r")
    (away / "t.txt").write_text("abc")
    words = ("evaluate", "r", "--text", "t.txt", "--json", "t.json")
    assert chargen(*words)[0] == 0
    first = (away / "t.json").read_bytes()
    (away / "t.json").write_text("notes")
    assert chargen(*words) == (
        2, "", "chargen: t.json exists: write --force to replace it, or the name of another file\n"
    )  # fmt: skip
    assert (away / "t.json").read_text() == "notes"
    assert chargen(*words, "--force")[0] == 0
    assert (away / "t.json").read_bytes() == first
    assert chargen(*words[:-1], "/dev/null")[0] == 0


def test_dynamic_evaluation_is_announced_where_it_takes_long(
    learned: str, chargen: Chargen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate is the time of the measured windows, times what all windows are of them."""
    from chargen.evaluation import dynamic

    seconds = iter(range(0, 10**9, 50))  # the clock that the measurement reads
    with monkeypatch.context() as patched:
        patched.setattr(evaluate.time, "perf_counter", lambda: float(next(seconds)))
        code, _, err = chargen("evaluate", learned, "--dynamic")
    scored, training = len(TEXT) // 10, len(TEXT) - len(TEXT) // 10
    measured = min(scored, evaluate.MEASURED_WINDOWS * dynamic.SGD.window_size)
    expected = 50 / measured * (2 * scored + min(training, dynamic.MAX_TRAINING_WINDOWS * dynamic.SGD.window_size))
    assert (code, err) == (
        0,
        f"chargen: --dynamic takes about {expected / 60:.0f} minutes for these {scored} characters on this machine; "
        "without it, or with a shorter --text, it is faster\n",
    )
    assert chargen("evaluate", learned, "--dynamic")[2] == ""
