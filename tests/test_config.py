"""Every file in conf/ composes and builds; what a person types arrives; mistakes are named."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from omegaconf import OmegaConf

from chargen.cli.overrides import spell
from chargen.config import OURS, TRAINER, ModelConfig, OptimizerConfig, TrainConfig, known_keys, parse_duration, read
from chargen.nn.model import CharRNN
from chargen.training.run import _length, _trainer

CONF = ROOT / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """What Hydra makes of overrides, as plain data."""
    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        container = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def files(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


CHOICES = [[]] + [[f"{group}={name}"] for group in ("corpus", "model", "trainer") for name in files(group)]
CHOICES += [[f"+experiment={name}"] for name in files("experiment")]


@pytest.mark.parametrize("overrides", CHOICES, ids=lambda overrides: " ".join(overrides) or "defaults")
def test_every_file_composes_and_builds(overrides: list[str], tmp_path: Path) -> None:
    container = composed(*overrides)
    config = read(container)
    model = CharRNN(ModelConfig(vocab_size=20, **container["model"]))
    assert sum(p.numel() for p in model.parameters()) > 0
    settings = {**config.trainer, "accelerator": "cpu"}
    max_seconds, total_updates = _length(settings, windows=100)
    trainer = _trainer(settings, max_seconds, total_updates, [], [], tmp_path)
    assert trainer.gradient_clip_algorithm == container["trainer"]["gradient_clip_algorithm"]
    assert trainer.gradient_clip_val == config.trainer["gradient_clip_val"]


def test_help_shows_what_a_run_without_settings_uses() -> None:
    """The schema's defaults, which `chargen train --help` prints, are those of the composed default run."""
    container = composed()
    assert container["model"] == asdict(ModelConfig())
    assert container["optimizer"] == asdict(OptimizerConfig())
    default = TrainConfig()
    for key in ("sequence_length", "batch_size", "seed", "data_dir", "sample_length"):
        assert container[key] == getattr(default, key)


def test_there_is_a_file_for_every_choice() -> None:
    assert files("model") == ["large", "medium", "small", "tiny"]
    assert set(files("corpus")) >= {"python_reference", "text", "tinyshakespeare", "text8", "enwik8"}


@pytest.mark.parametrize("name", files("experiment"))
def test_an_experiments_own_values_survive(name: str) -> None:
    """And what is typed behind it wins over it."""
    text = (CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    own = yaml.safe_load(text)
    own.pop("defaults", None)
    flat = leaves(composed(f"+experiment={name}"))
    assert leaves(own)
    for key, value in leaves(own).items():
        assert flat[key] == value, key
    assert composed(f"+experiment={name}", "batch_size=3")["batch_size"] == 3


@pytest.mark.parametrize("name", files("corpus"))
def test_downloads_are_described_whole(name: str) -> None:
    corpus = composed(f"corpus={name}")["corpus"]
    described = [corpus[key] is not None for key in ("url", "file", "size", "sha256")]
    assert all(described) or not any(described)
    assert corpus["url"] is None or (corpus["url"].startswith("https://") and len(corpus["sha256"]) == 64)
    assert corpus["name"] == name


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model.cell=gruu", r"model.cell=gruu: must be rnn, lstm, gru; did you mean gru\?"),
        ("model.hidden_size=0", "model.hidden_size=0: must be a whole number from 1 up"),
        ("model.num_layers=-1", "model.num_layers=-1"),
        ("model.weight_dropout=-0.1", "model.weight_dropout=-0.1: must be from 0 up and below 1"),
        ("model.dropout=1.0", "model.dropout=1.0: must be from 0 up and below 1"),
        ("+model.extra=3", "model.extra: there is no such setting"),
        ("+corpus.encodin=3", r"corpus.encodin: there is no such setting; did you mean corpus.encoding\?"),
        ("sequence_length=0", "sequence_length=0"),
        ("batch_size=0", "batch_size=0"),
        ("seed=-1", "seed=-1"),
        ("seed=4294967296", "seed=4294967296: must be below"),
        ("early_stopping=0", "early_stopping=0"),
        ("sample_length=-1", "sample_length=-1"),
        ("logger=excel", "logger=excel: must be tensorboard, wandb, mlflow"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate=0"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan"),
        ("optimizer.weight_decay=-1", "optimizer.weight_decay=-1"),
        ("optimizer.beta2=1", "optimizer.beta2=1"),
        ("corpus.unit=word", "corpus.unit=word: must be character, byte"),
        ("corpus.split=random", "corpus.split=random: must be contiguous, article"),
        ("corpus.min_count=0", "corpus.min_count=0"),
        ("corpus.validation_fraction=1", "corpus.validation_fraction=1.0: must lie between 0 and 1"),
        ("corpus.path=5", r"corpus.path=5: must be a file, a folder, a glob"),
        ("corpus.path=[]", r"corpus.path=\[\]: must be a file"),
        ("run_dir=???", "run_dir: a value is needed"),
        ("trainer.max_time=180", "trainer.max_time=180: write DD:HH:MM:SS"),
        ("trainer.max_time=00:03:00", "trainer.max_time=00:03:00: write DD:HH:MM:SS"),
        ("trainer.max_time=00:00:00:00", "trainer.max_time=00:00:00:00"),
        ("trainer.max_steps=0", "trainer.max_steps=0"),
        ("trainer.max_steps=many", "trainer.max_steps=many"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val=-1"),
        ("trainer.gradient_clip_algorithm=l2", "trainer.gradient_clip_algorithm=l2: must be norm or value"),
        ("+trainer.callbacks=x", "trainer.callbacks=x: chargen sets this itself"),
        ("+trainer.max_stepz=3", r"trainer.max_stepz: there is no such setting; did you mean trainer.max_steps\?"),
        ("trainer.log_every_n_steps=abc", "trainer.log_every_n_steps=abc: must be a whole number"),
        ("trainer.devices=2", "trainer.devices=2: chargen train runs on one device"),
        ("run_dir=''", "run_dir=: must be the path of a folder"),
        ("resume=''", "resume=: must be the path of a folder"),
    ],
)
def test_impossible_values_are_named(overrides: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        read(composed(overrides))


@pytest.mark.parametrize(("max_time", "seconds"), [("00:00:03:00", 180), ("01:02:03:04", 93784), ({"minutes": 2}, 120)])
def test_times_are_lightnings(max_time: Any, seconds: int) -> None:
    assert parse_duration(max_time) == seconds


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({}, (180.0, None)),
        ({"max_time": None, "max_steps": -1, "max_epochs": -1}, (180.0, None)),
        ({"max_steps": 50}, (None, 50)),
        ({"max_epochs": 3}, (None, 300)),
        ({"max_epochs": 3, "accumulate_grad_batches": 8}, (None, 39)),
        ({"max_epochs": 3, "max_steps": 50}, (None, 50)),
        ({"max_time": "00:00:01:00", "max_steps": 50}, (60.0, 50)),
    ],
)
def test_a_run_is_as_long_as_it_was_told(settings: dict[str, Any], length: tuple[float | None, int | None]) -> None:
    assert _length(settings, windows=100) == length


def test_lightnings_settings_are_all_known() -> None:
    theirs = set(inspect.signature(Trainer).parameters)
    assert theirs == {*TRAINER, *OURS}
    assert set(TRAINER).isdisjoint(OURS)


def test_bytes_have_no_normal_form() -> None:
    with pytest.raises(ValueError, match=r"^corpus\.normalize_unicode=True: needs corpus\.unit=character"):
        read(composed("corpus.unit=byte", "corpus.normalize_unicode=true"))


def test_known_keys_are_full() -> None:
    assert {"seed", "corpus.path", "model.cell", "optimizer.learning_rate", "trainer"} <= set(known_keys())


# ------------------------------------------------------------------------------- what a person types


def arrives(word: str) -> tuple[str, Any]:
    """A spelled override as Hydra's own parser understands it."""
    (spelled,) = spell([word])
    parsed = OverridesParser.create().parse_override(spelled)
    return parsed.key_or_group, parsed.value()


@pytest.mark.parametrize(
    "path",
    [
        "文章.txt",
        "a b.txt",
        "it's.txt",
        'say "hi".txt',
        "a,b.txt",
        "(x) [1] {2}.txt",
        "back\\slash\\",
        '\\"',
        "50%=half.txt",
        "ключ=значение.txt",
        "'quoted.txt",
    ],
)
def test_paths_arrive_as_typed(path: str, away: Path) -> None:
    if path.startswith("'"):
        (away / path).touch()
    key, value = arrives(f"corpus.path={path}")
    assert key == "corpus.path"
    assert OmegaConf.create({"path": value}).path == path


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1).filter(
    lambda text: text[0] not in "['\"" and text != "null"
))  # fmt: skip
def test_any_path_arrives(path: str) -> None:
    assert OmegaConf.create({"path": arrives(f"run_dir={path}")[1]}).path == path


def test_bare_paths_are_a_corpus(away: Path) -> None:
    (away / "a=b.txt").touch()
    assert spell(["我的 文章.txt"]) == ["corpus=text", 'corpus.path="我的 文章.txt"']
    assert spell(["x/", "a=b.txt", "seed=2"]) == ["seed=2", "corpus=text", 'corpus.path=["x/","a=b.txt"]']


def test_other_words_pass_through() -> None:
    words = ["-m", "--cfg", "job", "~logger", "model=small,medium", "+experiment=smoke"]
    words += ["resume=null", "corpus.path='a.txt'"]
    assert spell(words) == words
    assert spell(["trainer.detect_anomaly=true"]) == ["++trainer.detect_anomaly=true"]
    for word, message in (
        ("smal", "smal: no such file; write KEY=VALUE"),
        ("--epochs", "--epochs: settings have no dashes; write epochs=…"),
        ("--batch-size=3", "--batch-size=3: settings have no dashes; write batch_size=3"),
    ):
        with pytest.raises(ValueError, match=message):
            spell([word])


def test_lists_of_paths_arrive(away: Path) -> None:
    long = ["文" * 40 + f"{number}.txt" for number in range(10)]
    for typed, paths in (
        ("[文章.txt,b c.txt]", ["文章.txt", "b c.txt"]),
        (f"[{','.join(long)}]", long),
    ):
        assert OmegaConf.create({"path": arrives(f"corpus.path={typed}")[1]}).path == paths
    (away / "[odd].txt").touch()
    assert arrives("corpus.path=[odd].txt")[1] == "[odd].txt"
