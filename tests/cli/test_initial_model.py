"""`init=RUN` begins a run with the weights of another one, and `corpus.vocabulary=RUN` keeps its characters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.models import TEXT, write_model

from chargen.corpus.tokenizer import Tokenizer
from chargen.storage.checkpoint import Checkpoint
from chargen.storage.model_file import ModelFile

Chargen = Callable[..., tuple[int, str, str]]
OTHER = TEXT.replace("o", "ö") + "Ω"
FEW = ("trainer.max_steps=2", "sample_length=0", "optimizer.learning_rate=1e-12")


@pytest.fixture
def first(trained: Callable[..., Path], away: Path) -> Path:
    """A run in the folder `a`, and another text beside it."""
    (away / "other.txt").write_text(OTHER, encoding="utf-8")
    return trained("a")


def test_a_run_begins_with_the_weights_of_another_one(chargen: Chargen, first: Path, away: Path) -> None:
    """With a learning rate of nearly nothing, the weights are still those of the first run at the end."""
    code, out, err = chargen("train", "other.txt", "init=a", "run_dir=b", *FEW)
    assert (code, err) == (0, "")
    before, after = (ModelFile.load(away / name / "model.safetensors") for name in ("a", "b"))
    new = len(set(OTHER) - set(TEXT))
    assert f"{len(set(OTHER) & set(TEXT))} are known and {new} are new" in out
    assert before.config.hidden_size == after.config.hidden_size  # not the default
    for name, weight in after.weights.items():
        if name.startswith("recurrence"):
            torch.testing.assert_close(torch.from_numpy(weight), torch.from_numpy(before.weights[name]))
    old, tokenizer = Tokenizer.from_json(before.tokenizer), Tokenizer.from_json(after.tokenizer)
    shared = "".join(set(TEXT) & set(OTHER))
    torch.testing.assert_close(
        torch.from_numpy(after.weights["embedding.weight"][tokenizer.encode(shared)]),
        torch.from_numpy(before.weights["embedding.weight"][old.encode(shared)]),
    )
    assert after.metadata["init"]["new"] == new
    checkpoint = Checkpoint.read(away / "b" / "last.ckpt")
    assert float(checkpoint.content["optimizer_states"][0]["state"][0]["step"]) == 2  # a new optimizer


def test_the_learning_rate_is_a_quarter_of_that_of_random_weights(chargen: Chargen, first: Path, away: Path) -> None:
    rates = []
    for words in ((), ("optimizer.learning_rate=0.003",), ("init=a",), ("init=a", "optimizer.learning_rate=0.003")):
        shape = () if "init=a" in words else ("model=tiny",)
        run = f"r{len(rates)}"
        assert chargen("train", "other.txt", *words, *shape, *FEW[:2], f"run_dir={run}")[0] == 0
        rates.append(Checkpoint.read(away / run / "last.ckpt").config.optimizer.learning_rate)
    assert rates == [0.004, 0.003, 0.001, 0.003]


def test_such_a_run_continues_without_the_other_one(chargen: Chargen, first: Path, away: Path) -> None:
    assert chargen("train", "other.txt", "init=a/last.ckpt", "run_dir=b", *FEW[:2], "trainer.max_steps=6")[0] == 0
    assert chargen("train", "other.txt", "init=a/last.ckpt", "run_dir=c", *FEW[:2])[0] == 0
    shutil.rmtree(first)
    assert chargen("train", "resume=c", "trainer.max_steps=6")[0] == 0
    whole, resumed = (Checkpoint.read(away / name / "last.ckpt") for name in ("b", "c"))
    assert whole.state_dict.keys() == resumed.state_dict.keys()
    assert resumed.update == 6
    summary = json.loads((away / "c" / "summary.json").read_text(encoding="utf-8"))
    assert summary["updates"] == 6
    assert resumed.metadata["init"] == whole.metadata["init"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init=a", "model.hidden_size=64"], r"model.hidden_size=64: a has model.hidden_size="),
        (["init=a", "model=large"], "leave out model"),
        (["init=a", "model.cell=lstm"], "model.cell=lstm: a has model.cell=gru; leave out model.cell"),
        (["init=a", "corpus.unit=byte"], "a is a model of characters; write corpus.unit=character"),
        (["init=nothing"], "no such run: nothing"),
        (["init=other.txt"], "other.txt"),
        (["init=a", "resume=a"], "init begins a new run, and resume continues one: write one of them"),
        (["corpus.vocabulary=a", "corpus.min_count=3"], "corpus.min_count=3: leave it out"),
        (["corpus.vocabulary=a", "corpus.unit=byte"], "it is one of characters; write corpus.unit=character"),
        (["resume=a"], "write chargen train TEXT init=a"),
    ],
)
def test_mistakes(words: list[str], message: str, chargen: Chargen, first: Path) -> None:
    code, _, err = chargen("train", "other.txt", *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err


def test_a_model_of_another_shape_may_be_named_in_full(chargen: Chargen, first: Path, away: Path) -> None:
    """A setting that says what the model is anyway is no contradiction."""
    model = ModelFile.load(away / "a" / "model.safetensors").config
    words = (f"model.cell={model.cell}", f"model.hidden_size={model.hidden_size}", "model.dropout=0")
    assert chargen("train", "other.txt", "init=a/model.safetensors", "run_dir=b", *words, *FEW)[0] == 0
    assert ModelFile.load(away / "b" / "model.safetensors").config.dropout == 0


def test_a_vocabulary_is_kept(chargen: Chargen, first: Path, away: Path) -> None:
    """The ids are those of the first run; other characters are unknown. The run that lent them may go."""
    code, out, _ = chargen("train", "other.txt", "corpus.vocabulary=a", "init=a", "run_dir=b", *FEW)
    assert code == 0
    unknown = sum(character not in TEXT for character in OTHER)
    assert f"corpus.vocabulary does not have {unknown:,} of the {len(OTHER):,} characters" in out
    before, after = (ModelFile.load(away / name / "model.safetensors") for name in ("a", "b"))
    assert after.tokenizer == before.tokenizer
    shutil.rmtree(first)
    assert chargen("train", "resume=b", "trainer.max_steps=4")[0] == 0
    assert chargen("evaluate", "b")[0] == 0
    shutil.rmtree(away / "data")
    assert chargen("train", "resume=b", "trainer.max_steps=6")[0] == 0
    assert chargen("evaluate", "b")[0] == 0


def test_a_damaged_model_is_refused(chargen: Chargen, away: Path) -> None:
    (away / "other.txt").write_text(OTHER, encoding="utf-8")
    file = write_model(away / "r") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    for words in (["init=r"], ["corpus.vocabulary=r"]):
        code, _, err = chargen("train", "other.txt", *words)
        assert (code, err.count("\n")) == (2, 1), err
