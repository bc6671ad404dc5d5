"""`chargen evaluate`: scores equal those of the functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import TEXT

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
    for words in (["evaluate", learned, "--baselines"], ["sample", learned, "--novelty"]):
        code, out, err = chargen(*words)
        assert (code, out) == (2, "")
        assert "text.txt" in err
        assert f"leave out {words[2]}" in err
