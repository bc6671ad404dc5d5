"""Mistakes of users get exit code 2 and one line that says what to write, and nothing is lost."""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from support.conf import composed
from support.environment import Command, Figure, Launch
from support.models import TEXT, TINY, write_model

from chargen.cell_types import CELL_TYPES
from chargen.cli.overrides import hydra_arguments, one_line_of
from chargen.config import parse_config
from chargen.corpus.reader import read_articles
from chargen.errors import UserError

Chargen = Callable[..., tuple[int, str, str]]

SETTINGS = [
    (["model.hidden_size=abc"], "model.hidden_size=abc: must be a whole number"),
    (["model.dropout=much"], "model.dropout=much: must be a number"),
    (["model.residual=perhaps"], "model.residual=perhaps: must be true or false"),
    (["model=huge"], "model=huge: there is no such model; write one of large, medium, small, tiny"),
    (["corpus=tex"], "corpus=tex: there is no such corpus; write one of enwik8, python_reference, text"),
    (["+experiment=nope"], "experiment=nope: there is no such experiment; write one of fifteen_seconds, "),
    (["batchsize=3"], "batchsize=3: write batch_size=3"),
    (["batchsizze=3"], "batchsizze: there is no such setting; did you mean batch_size?"),
    (["model.cell=transformer"], f"model.cell=transformer: must be {', '.join(CELL_TYPES)}"),
    (["trainer.max_stepz=3"], "trainer.max_stepz: there is no such setting; did you mean trainer.max_steps?"),
    (["sequence_length=0"], "sequence_length=0: must be a whole number from 1 up"),
    (["sequence_length=1e3"], "sequence_length=1"),
    (["batch_size=-2"], "batch_size=-2: must be a whole number from 1 up"),
    (["model.hidden_size=0"], "model.hidden_size=0: must be a whole number from 1 up"),
    (["model.hidden_size=99999999999999999999"], "model.hidden_size=99999999999999999999"),
    (
        ["model.hidden_size=1000000"],
        "model.hidden_size=1000000: must be a whole number from 1 up to 65536",
    ),
    ([f"batch_size=1{'0' * 400}"], "batch_size=1000000"),
    (["sequence_length=3000000000"], "sequence_length=3000000000: must be a whole number from 1 up"),
    (["sample_length=1000000000"], "sample_length=1000000000: must be a whole number from 0 up to 1000000"),
    (
        ["trainer.max_time=9999999999999:00:00:00"],
        "trainer.max_time=9999999999999:00:00:00: write a time such as 90s, 10m or 1h30m",
    ),
    (["trainer.profiler={a:1}"], "trainer.profiler={'a': 1}: must be simple, advanced, pytorch"),
    (["trainer.num_nodes=2"], "trainer.num_nodes=2: chargen train runs on one machine"),
    (["trainer.strategy=ddp"], "trainer.strategy=ddp: chargen train runs on one device"),
    (["corpus.name=a\x1b[2Jb"], "must be a label of visible characters"),
    (["model.num_layers=5000"], "model.num_layers=5000: must be a whole number from 1 up to 1000"),
    (["model.num_layers=two"], "model.num_layers=two: must be a whole number"),
    (["model.dropout=1"], "model.dropout=1.0: must be from 0 up and below 1"),
    (["model.weight_dropout=2"], "model.weight_dropout=2.0: must be from 0 up and below 1"),
    (["model.cell=LSTM"], f"model.cell=LSTM: must be {', '.join(CELL_TYPES)}; did you mean lstm?"),
    (["optimizer.learning_rate=-1"], "optimizer.learning_rate=-1"),
    (["optimizer.learning_rate=fast"], "optimizer.learning_rate=fast: must be a number"),
    (["optimizer.lr=0.1"], "optimizer.lr=0.1: write optimizer.learning_rate=0.1"),
    (["optimizer=sgd"], "optimizer=sgd: write optimizer.name=adamw or optimizer.name=sgd; the settings are "),
    (["optimizer.name=adam"], "optimizer.name=adam: must be adamw, sgd; did you mean adamw?"),
    (["optimizer.momentum=1"], "optimizer.momentum=1.0: must be from 0 up and below 1"),
    (["model.recurrent_gain=0"], "model.recurrent_gain=0.0: must be above 0 and at most 100"),
    (["model.recurrent_init=xavier"], "model.recurrent_init=xavier: must be orthogonal, identity, normal"),
    (["guard=maybe"], "guard=maybe: must be true or false"),
    (["seed=-1"], "seed=-1: must be a whole number from 0 up"),
    (["seed=lucky"], "seed=lucky: must be a whole number"),
    (["trainer.max_time=3x"], "trainer.max_time=3x: write a time such as 90s, 10m or 1h30m, or DD:HH:MM:SS"),
    (["trainer.max_time=600"], "trainer.max_time=600: write a time such as 90s"),
    (["max_time=10m"], "max_time=10m: write trainer.max_time=10m"),
    (["trainer.max_steps=0"], "trainer.max_steps=0: must be a whole number from 1 up"),
    (["trainer.max_epochs=-5"], "trainer.max_epochs=-5: must be a whole number from 1 up"),
    (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1: must be a number from 0 up"),
    (["trainer.devices=4"], "trainer.devices=4: must be 1, or [1] for the second: chargen train runs on one device"),
    (["trainer.callbacks=[x]"], "trainer.callbacks"),
    (["early_stopping=0"], "early_stopping=0: must be a whole number from 1 up"),
    (["save_every_minutes=0"], "save_every_minutes=0.0: must be above 0"),
    (["save_every_updates=0"], "save_every_updates=0: must be a whole number from 1 up"),
    (["sample_length=-1"], "sample_length=-1: must be a whole number from 0 up"),
    (["logger=excel"], "logger=excel: must be tensorboard, wandb, mlflow"),
    (["corpus.unit=word"], "corpus.unit=word: must be character, byte"),
    (["corpus.validation_fraction=1.5"], "corpus.validation_fraction=1.5: must be above 0 and below 1"),
    (["corpus.file=../x"], "corpus.file=../x: must be the name of a file"),
    (["run_dir="], "run_dir"),
    (["model.dropout="], "model.dropout"),
    (["=3"], "=3: a setting has a name; write KEY=3"),
]
"""Settings whose mistakes are found before anything but the settings is looked at."""

RUNS = [
    (["train", "model.hiden_size=3"], "model.hiden_size: there is no such setting; did you mean model.hidden_size?"),
    (["train", "trainer.limit_train_batches=0.00001", "t.txt", *TINY], "trainer.limit_train_batches=1e-05: "),
    (["train", "model.cell=rnn,gru"], "model.cell=rnn,gru: several values are a sweep; write -m before them"),
    (["train", "--seed", "3"], "settings have no dashes; --seed 3: write seed=3"),
    (["train", "t.txt", "--epochs", "3"], "settings have no dashes; --epochs 3: write trainer.max_epochs=3"),
    (["train", "-"], "-: a text is read more than once, so write it into a file"),
    (["train", "corpus=text", "corpus.path=t.txt,one.txt"], "write 'corpus.path=[t.txt,one.txt]' to learn from all of"),
    (["train", "t.txt,one.txt"], "or -m before it for a run of each"),
    (["train", "trainer.precision=7"], "trainer.precision=7: must be "),
    (["train", "corpus=text"], "corpus=text needs a text: corpus.path=FILE"),
    (
        ["train", "t.txt", "model.hidden_size=65536", "model.num_layers=100"],
        "model.hidden_size=65536 with batch_size=16 and sequence_length=64 needs about ",
    ),
    (["train", "t.txt", "trainer.accelerator=quantum"], "trainer.accelerator=quantum: must be "),
    (["train", "t.txt", "corpus.encoding=klingon"], "corpus.encoding=klingon: no such encoding"),
    (["train", "t.txt", "corpus.min_count=100000"], "corpus.min_count=100000: no character occurs that often"),
    (["train", "t.txt", "corpus.split=article"], "corpus.split=article needs several articles"),
    (["train", "t.txt", "run_dir=t.txt"], "t.txt"),
    (["train", "t.txt", "run_dir=taken"], "run_dir=taken holds a run already: write resume=taken"),
    (["train", "t.txt", "model.dropout=0.1", "-m", "model.hidden_size=0,0.5"], "model.hidden_size="),
    (["train", "resume=taken", "-m"], "resume"),
    (["train", "run_dir=a b", "t.txt"], "run_dir=a b holds a run already: write 'resume=a b' to continue it"),
    (["train", "seed=${x}", "t.txt"], "seed: there is no setting x, which ${x} names"),
    (["train", "seed=${oc.env:NOT_SET}", "t.txt"], "seed: Environment variable 'NOT_SET' not found"),
    (["train", "t.txt", "corpus=tinyshakespeare"], "t.txt and corpus=tinyshakespeare: give the text or corpus=…, not"),
    (["train", "corpus=nonsense", "t.txt"], "t.txt and corpus=nonsense: give the text or corpus=…, not both"),
    (["train", "t.txt", "corpus.path=one.txt"], "t.txt and corpus.path=one.txt: give the text or corpus.path=…, not"),
    (
        ["train", "corpus=enwik8", "corpus.path=t.txt"],
        "corpus=enwik8 and corpus.path=t.txt: give one of them, not both",
    ),
    (["train", "a b=3"], "a b=3: there is no such file, and a b is no name of a setting; write KEY=VALUE"),
    (["train", "a,b=3"], "a,b=3: there is no such file, and a,b is no name of a setting; write KEY=VALUE"),
    (["train", "t.txt", "seed", "=", "3"], "seed = 3: a setting has no blanks; write seed=3"),
    (
        ["train", "t.txt", "~optimizer.beta1"],
        "optimizer.beta1: a setting cannot be removed; leave it out, or give it a",
    ),
    (["train", "t.txt", "run_dir=[a]"], "run_dir=['a']: must be one text, not several"),
    (["train", "t.txt", "+seed=3"], "+seed: write seed=VALUE, without the plus"),
    (["train", "t.txt", "model=[a]"], "model=a: there is no such model; write one name"),
    (["train", "t.txt", "model=3"], "corpus, model and trainer need the name of a file in conf/, such as model=small"),
    (["train", "t.txt", "trainer={a:1}"], "corpus, model and trainer need the name of a file in conf/, such as model"),
    (["train", "t.txt", "++model=tiny"], "++model: write model=NAME, without the plus"),
    (["train", "t.txt", "~model=tiny"], "~model=tiny: there is nothing of this name to remove; leave it out"),
    (["train", "t.txt", "trainer.max_steps=range(1,3)"], "trainer.max_steps=range(1,3): several values are a sweep; "),
    (["train", "t.txt", "~a b"], "~a b: "),
    (["train", "t.txt", "--cfg", "foo"], "--cfg foo: must be job, hydra, all"),
    (["train", "t.txt", "--cfg"], "--cfg: needs a value, such as --cfg job"),
    (["train", "--cfg", "seed=3", "t.txt"], "--cfg: needs a value, such as --cfg job"),
    (["train", "t.txt", "--info=foo"], "--info foo: must be all, config, defaults, defaults-tree, plugins, searchpath"),
    (["train", "t.txt", "--package", "x"], "--package: works with --cfg job alone, which shows the settings"),
    (["train", "t.txt", "-m=3"], "-m=3: -m takes no value: leave it out"),
    (["train", "t.txt", "--config-name", "foo"], "--config-name foo: there is no such file in conf/; leave it out"),
    (["train", "t.txt", "--config-dir", "nowhere"], "nowhere: no such folder"),
    (["train", f"seed={'1' * 5000}", "t.txt"], "seed=1111"),
    (["train", f"trainer.max_time={'1' * 5000}:00:00:00"], "trainer.max_time=1111"),
    (["train", "trainer.max_time={1:2}"], "trainer.max_time={1: 2}: write a time such as 90s"),
    (
        ["train", "t.txt", *TINY, "trainer.val_check_interval=1000", "trainer.check_val_every_n_epoch=1"],
        "trainer.val_check_interval=1000: a pass has 9 windows; write a smaller number, or leave out trainer.check_",
    ),
    (["train", "--resolve"], "--resolve: works with --cfg job alone, which shows the settings"),
    (["train", "model=null"], "corpus, model and trainer need the name of a file in conf/, such as model=small"),
]
"""Mistakes in settings that are found through the command line, some of them only after the text was read."""

FILES = [
    (["train", "nowhere.txt"], "no such file, folder or pattern:"),
    (["train", "nothing"], "nothing: no such file; write KEY=VALUE"),
    (["train", "empty.txt"], "is empty"),
    (["train", "short.txt"], "too little text: 36 characters"),
    (["train", "t.txt", "batch_size=500"], "write batch_size=33 or less"),
    (["train", "binary.bin"], "is not utf-8 at byte 1"),
    (["train", "zeros.txt"], "looks binary"),
    (
        ["train", "latin.txt", "corpus.encoding=utf-8"],
        "at byte 3: it reads as cp1252; leave corpus.encoding out",
    ),
    (["train", "images/"], "no text in the folder"),
    (["train", "resume=nowhere"], "no such checkpoint: nowhere"),
    (["train", "resume=foreign.ckpt"], "foreign.ckpt is a checkpoint of another program"),
    (["train", "resume=torn.ckpt"], "torn.ckpt is truncated, damaged or not a checkpoint"),
    (["train", "resume=t.txt"], "t.txt is truncated, damaged or not a checkpoint"),
    (["train", "one.txt"], "too few to train on"),
    (["train", "latin.txt", "corpus.encoding=ascii"], "is not ascii at byte 3"),
    (
        ["train", "utf16.txt", "corpus.encoding=utf-8"],
        "UTF-16 byte order mark: write corpus.encoding=utf-16",
    ),
    (["train", "surrogate.txt"], "is not utf-8 at byte 4"),
    (["train", "broken.jsonl"], "line 2: there is no field text, but txt; write corpus.field=txt"),
    (["train", "surrogate.jsonl"], "line 1: it contains half of a surrogate pair"),
    (["train", "torn.txt.gz"], "cannot read"),
    (["train", "nothere/*.txt"], "no such file, folder or pattern"),
    (["train", "t.txt", "images"], "no text in the folder"),
    (["train", "pipe"], "pipe"),
    (["train", f"{'x' * 300}.txt"], "File name too long"),
    (["train", "t.txt", f"run_dir={'x' * 300}"], "File name too long"),
    (["doctor", "binary.bin"], "is not utf-8 at byte 1"),
    (
        ["doctor", "latin.txt", "--encoding", "utf-8"],
        "leave --encoding out, or write --encoding cp1252",
    ),
]

ELSEWHERE = [
    (["sample", "r", "--temperature", "-1"], "--temperature -1.0: must be 0 or more"),
    (["sample", "r", "--top-p", "1.5"], "--top-p 1.5: must be above 0 and at most 1"),
    (["sample", "r", "--length", "0"], "--length 0: must be a whole number from 1 up"),
    (["sample", "r", "--num-samples", "0"], "--num-samples 0"),
    (["sample", "r", "--num-samples", "1000000000"], "--num-samples 1000000000: must be at most 10000"),
    (["sample", "r", "--seed", "-4"], "--seed -4"),
    (["sample", "r", "--length", "many"], "--length many: must be a whole number"),
    (["sample", "r", "--temprature", "1"], "--temprature"),
    (["sample", "r", "--unknown", "maybe"], "maybe"),
    (["sample", "r", "--prompt", "a", "--prompt-file", "b"], "give one of them"),
    (["sample", "r", "--prompt-file", "nowhere"], "cannot read nowhere: No such file"),
    (["sample", "r", "--prompt-file", "latin.txt"], "latin.txt is not UTF-8 at byte 3"),
    (["sample", "nowhere"], "no such run: nowhere; there are r"),
    (["sample", "empty"], "empty holds no model.safetensors and no last.ckpt"),
    (["sample", "torn.safetensors"], "torn.safetensors is truncated"),
    (["sample", "latin.txt"], "latin.txt is truncated or not a safetensors file"),
    (["sample", "foreign.ckpt"], "foreign.ckpt is a checkpoint of another program"),
    (["evaluate", "r", "--text", "nowhere"], "no such file, folder or pattern: nowhere"),
    (["evaluate", "r", "--text", "latin.txt", "--encoding", "utf-8"], "latin.txt is not utf-8 at byte 3"),
    (["evaluate", "r", "--text", "void.txt"], "no text to score"),
    (["plot", "empty"], "empty holds no metrics.csv"),
    (["simple"], "simple"),
    (["sample", "r", "--temperature", "warm"], "--temperature warm: must be a number"),
    (["sample", "r", "--temperature", "0,5"], "--temperature 0,5: must be a number"),
    (["sample", "r", "--length=1e3"], "--length 1e3: must be a whole number"),
    (["sample", "r", "--seed="], "--seed '': must be a whole number"),
    (["sample", "r", "--seed"], "--seed: needs a value: write --seed VALUE"),
    (["sample", "r", "--novelty=3"], "--novelty: takes no value: write --novelty alone"),
    (["doctor"], "TEXT is missing: name a file"),
    (["doctor", "t.txt", "--encoding", "klingon"], "--encoding klingon: no such encoding"),
    (["doctor", "latin.txt", "--encoding", "gb18030"], "or write --encoding cp1252"),
    (["evaluate", "r", "--text", "t.txt", "--encoding", "klingon"], "--encoding klingon: no such encoding"),
    (["evaluate", "r", "--text", "utf16.txt", "--encoding", "utf-8"], "write --encoding utf-16"),
    (
        ["evaluate", "r", "--text", "odd.txt", "--encoding", "utf-8"],
        "set --encoding NAME if you know it, or --errors",
    ),
    (["evaluate", "r", "t.txt"], "t.txt: write --text t.txt"),
    (["evaluate", "t.txt"], "t.txt: write --text t.txt"),
    (["sample", "r", "Once upon a time"], "Once upon a time: write --prompt 'Once upon a time'"),
    (["sample", "r", "Once", "upon", "a time"], "upon a time: write --prompt 'Once upon a time'"),
    (["sample", "Once upon", "a time"], "Once upon: write --prompt 'Once upon a time'"),
    (["plot", "r", "x y.png"], "x y.png: write --output 'x y.png'"),
    (["--epochs", "3"], "--epochs 3: write chargen train TEXT trainer.max_epochs=3"),
    (["--epochs", "3", "--lr", "0.1"], "--epochs 3 --lr 0.1: write chargen train TEXT trainer.max_epochs=3 optimizer."),
    (["--prompt", "a b"], "--prompt 'a b': write chargen sample --prompt 'a b'"),
    (["--temperature=1"], "--temperature=1: write chargen sample --temperature=1"),
    (["--temp", "1"], "--temp 1: write chargen sample --temperature 1"),
    (["--text", "t.txt"], "--text t.txt: write chargen evaluate --text t.txt"),
    (["--verbose", "train", "t.txt"], "--verbose: chargen writes its own log in the run's folder: leave it out"),
    (["--epochs", "3", "train", "t.txt"], "--epochs 3: write trainer.max_epochs=3"),
    (["--seed", "3", "sample", "r"], "--seed 3: write options behind the command: chargen sample r --seed 3"),
    (["--xyzzy"], "--xyzzy: there is no such option; `chargen --help` lists the commands"),
    (["sample", "r", "--temperature", "nan"], "--temperature nan"),
    (["sample", "r", "--top-k", "-1"], "--top-k -1"),
    (["sample", "r", "--min-p", "2"], "--min-p 2.0"),
    (["sample", "r", "--top-p", "0"], "--top-p 0.0: must be above 0 and at most 1"),
    (["sample", "r", "--length", "-5"], "--length -5"),
    (["sample", "r", "--precision", "int4"], "--precision int4: must be float32, int8"),
    (["sample", "r", "--output", "images"], "images is a folder: name a file in it"),
    (["sample", "r", "extra"], "extra: write --prompt extra"),
    (["sample", "r", "--prompt", "\u4e2d", "--unknown", "error"], "the model does not know '\u4e2d'"),
    (["sample", "r", "--prompt-file", "images"], "images"),
    (["sample", "t.txt"], "t.txt is truncated or not a safetensors file"),
    (["evaluate", "nowhere"], "no such run: nowhere"),
    (["evaluate", "r", "--text", "images"], "no text in the folder"),
    (["evaluate", "r", "--text", "t.txt", "--json", "images"], "images is a folder"),
    (["plot", "nowhere"], "nowhere"),
    (["doctor", "nowhere.txt"], "nowhere.txt"),
    (["doctor", "empty.txt"], "empty"),
    (["trian"], "trian"),
    (["train", "--sequence-length", "3"], "settings have no dashes; --sequence-length 3: write sequence_length=3"),
    (["sample", "r", "--temp", "0.5", "--len", "9"], "--temp 0.5 --len 9: write --temperature 0.5 --length 9"),
    (["sample", "r", "temperature=0.5"], "temperature=0.5: write --temperature 0.5"),
    (["sample", "r", "--output", "t.txt"], "t.txt exists: write --force to replace it, or the name of another file"),
    (["evaluate", "r", "--text", "t.txt", "--json", "t.txt"], "t.txt exists: write --force to replace it"),
    (["plot", "r", "--output", "t.txt"], "t.txt exists: write --force to replace it"),
    (["plot", "r", "--output", "images"], "images is a folder: name a file in it"),
    (["sample", "~/nothing"], "no such run: /"),
    (["sample", "~nobody-of-that-name/x"], "no such run: ~nobody-of-that-name/x"),
    (["t.txt"], "t.txt: write chargen train t.txt"),
]


def prepare(folder: Path) -> None:
    """Fill a folder with texts, runs and files that are none."""
    for name, content in {
        "t.txt": TEXT.encode(),
        "empty.txt": b"",
        "void.txt": b"",
        "one.txt": b"x",
        "short.txt": b"x" * 41,
        "binary.bin": b"\x00\x89PNG\xff",
        "zeros.txt": b"abc\0\0def" * 200,
        "latin.txt": "caf\u00e9 ".encode("latin-1") * 500,
        "utf16.txt": TEXT.encode("utf-16"),
        "odd.txt": b"plain then \xff",
        "surrogate.txt": b"abcd\xed\xa0\x80" * 300,
        "broken.jsonl": b'{"text": "a"}\n{"txt": "b"}\n',
        "surrogate.jsonl": b'{"text": "\\ud800"}\n',
        "torn.txt.gz": b"\x1f\x8b\x08\x00torn",
    }.items():
        (folder / name).write_bytes(content)
    (folder / "images").mkdir()
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    write_model(folder / "r")
    write_model(folder / "runs" / "r")
    torch.save({"state_dict": {}}, folder / "foreign.ckpt")
    for name in ("taken", "a b"):
        (folder / name).mkdir()
        torch.save({}, folder / name / "last.ckpt")
    (folder / "torn.ckpt").write_bytes((folder / "foreign.ckpt").read_bytes()[:100])
    (folder / "torn.safetensors").write_bytes((folder / "r" / "model.safetensors").read_bytes()[:-1])


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Mode and content of every file in a folder, without the cache of encoded corpora."""
    files = (file for file in folder.rglob("*") if file.relative_to(folder).parts[0] != "data")
    return {file: (file.stat().st_mode, file.read_bytes() if file.is_file() else b"") for file in files}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all mistakes: none of them may change a file in it."""
    folder = tmp_path_factory.mktemp("mistakes")
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def untouched(prepared: Path) -> dict[Path, tuple[int, bytes]]:
    """The files in the folder before the first mistake."""
    return contents(prepared)


def words_of(part: Any) -> str:
    return part if isinstance(part, str) else " ".join(part)


@pytest.mark.parametrize(("words", "message"), SETTINGS, ids=words_of)
def test_mistakes_in_settings(words: list[str], message: str, figure: Figure, tmp_path: Path) -> None:
    """What Hydra and the schema refuse becomes one line, without a command being run."""
    try:
        with pytest.raises(UserError) as caught:
            parse_config(composed(*(word for word in hydra_arguments(words) if word != "-m")))
        told = str(caught.value)
    except (HydraException, OmegaConfBaseException) as error:
        told = one_line_of(error)
    assert message in told
    assert len(told.splitlines()) == 1
    figure("mistakes answered", 1)


@pytest.mark.parametrize(("words", "message"), [*RUNS, *FILES, *ELSEWHERE], ids=words_of)
def test_mistakes_on_the_command_line(
    words: list[str],
    message: str,
    command: Command,
    prepared: Path,
    untouched: dict[Path, tuple[int, bytes]],
    figure: Figure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 2, one line that says what to write, and every file as it was."""
    monkeypatch.chdir(prepared)
    code, out, err = command(*words)
    assert code == 2, out
    assert err.startswith("chargen: ")
    assert err.count("\n") == 1
    assert not re.search("Traceback|hydra(?!, all)|antlr|omegaconf|Exception|Config[A-Z]|usage:", err)
    assert message in err
    after = contents(prepared)
    if "-m" in words:  # Hydra stores the settings of a sweep before it checks them
        new = {file for file in after if file not in untouched}
        assert all(file.parent == prepared / "runs" or file.name in ("multirun.yaml", "0") for file in new)
        after = {file: content for file, content in after.items() if file not in new}
        for file in sorted(new, reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    assert after == untouched
    figure("mistakes answered", 1)


def drop_permissions() -> None:
    """Let permissions apply to a child of a process of root, which they do not stop otherwise."""
    if sys.platform == "linux":
        for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "t.txt"], "t.txt"),
        (["train", "locked"], "locked"),
        (["doctor", "t.txt"], "t.txt"),
        (["sample", "r"], "r/model.safetensors"),
        (["sample", "r", "--prompt-file", "t.txt"], "t.txt"),
        (["evaluate", "r", "--text", "t.txt"], "t.txt"),
        (["train", "resume=taken"], "taken/last.ckpt"),
    ],
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_files_without_permission_are_named(words: list[str], name: str, launch: Launch, away: Path) -> None:
    prepare(away)
    (away / "locked").mkdir()
    for place in ("t.txt", "locked", "r/model.safetensors", "taken/last.ckpt"):
        if place != "r/model.safetensors" or ("--text" not in words and "--prompt-file" not in words):
            (away / place).chmod(0)
    run = launch(*words, prepare=drop_permissions)
    _, err = run.communicate()
    (away / "locked").chmod(0o700)
    told = err.decode()
    assert (run.returncode, told.count("\n")) == (2, 1), told
    assert told.startswith("chargen: ")
    assert name in told


@pytest.mark.parametrize("reading", [1, 2], ids=["while it is counted", "while it is encoded"])
def test_a_text_that_vanishes_while_it_is_read_leaves_nothing_behind(
    reading: int, chargen: Chargen, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a USB stick were pulled out: part of a text must not be kept as if it were all of it."""
    for name in ("a.txt", "b.txt"):
        (away / name).write_text(TEXT)
    opened = 0

    def read(file: Path, *rest: Any, **more: Any) -> Any:
        nonlocal opened
        opened += file.name == "a.txt"
        if opened == reading and file.name == "b.txt":
            file.unlink()
        return read_articles(file, *rest, **more)

    monkeypatch.setattr("chargen.corpus.text_files.read_articles", read)
    code, _, err = chargen("train", "a.txt", "b.txt", *TINY, "run_dir=r")
    assert (code, err) == (2, f"chargen: cannot read {away}/b.txt: No such file or directory\n")
    assert not list(away.rglob("manifest.json"))
    assert not (away / "r").exists()
    monkeypatch.undo()
    monkeypatch.chdir(away)
    (away / "b.txt").write_text(TEXT)
    assert chargen("train", "a.txt", "b.txt", *TINY, "run_dir=r")[0] == 0


@pytest.mark.parametrize("name", ["t.txt", "t.jsonl"])
def test_a_line_of_a_hundred_megabytes_is_a_text_like_any_other(name: str, chargen: Chargen, away: Path) -> None:
    text = "It is a truth universally acknowledged, " * 2_500_000
    (away / name).write_text(json.dumps({"text": text}) if name == "t.jsonl" else text, encoding="utf-8")
    code, out, err = chargen("train", name, *TINY, "run_dir=r")
    assert (code, err) == (0, "")
    assert "corpus text: 100,000,000 characters, 21 symbols" in out


@pytest.mark.parametrize(
    ("prompt", "read", "skipped"),
    [
        ("\U0001f600 a", " a", ["\U0001f600"]),
        ("\U0001f468\u200d\U0001f469 b", " b", ["\U0001f468", "\u200d", "\U0001f469"]),
        ("a\u0301b", "ab", ["\u0301"]),
        ("\u05e9\u05dc\u05d5\u05dd a", " a", ["\u05e9", "\u05dc", "\u05d5", "\u05dd"]),
        ("\u202ea", "a", ["\u202e"]),
        ("a\0b", "ab", ["\0"]),
        ("\x1b[2Ja", "a", ["\x1b", "[", "2", "J"]),
        ("\ufeffabc", "abc", []),
        ("abc \n" * 200_000, ("abc \n" * 200_000)[:-1], []),
        ("xyz" * 300_000, "", ["x", "y", "z"]),
        ("".join(map(chr, range(0x4E00, 0x9000))), "", ["\u4e00", "\u4e01"]),
    ],
    ids=lambda part: ascii(part[:12]) if isinstance(part, str) else "",
)
def test_prompts_in_any_script_are_read_or_named(
    prompt: str, read: str, skipped: list[str], chargen: Chargen, away: Path
) -> None:
    """Unknown characters are named on one line that cannot steer a terminal; the rest of the prompt is used."""
    write_model(away / "r")
    (away / "prompt").write_text(prompt, encoding="utf-8")
    code, out, err = chargen("sample", "r", "--prompt-file", "prompt", "--length", "7", "--seed", "1")
    assert code == 0
    shown = prompt.removeprefix("\ufeff").removesuffix("\n")
    assert out[: len(shown)] == shown  # as it was typed
    assert len(out) == len(shown) + 7 + 1
    assert chargen("sample", "r", "--prompt", read, "--length", "7", "--seed", "1")[1] == read + out[len(shown) :]
    assert len(err) < 300
    assert err.count("\n") == bool(skipped)
    assert all(repr(character) in err for character in skipped)
    assert not skipped or err.replace("\n", "").isprintable()
