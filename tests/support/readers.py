"""What chargen does with each kind of file, and a small sound one of each kind, to be damaged."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chargen.training.callbacks import CheckpointFiles

from chargen import portable, runs
from chargen.cli.overrides import spell
from chargen.config import CorpusConfig, ModelConfig, TrainConfig, read
from chargen.corpus.encoded import load_corpus, load_encoded
from chargen.corpus.tokenizer import Tokenizer
from chargen.nn.model import CharRNN
from chargen.sampling.generator import TextGenerator
from chargen.sampling.params import SamplingParams
from chargen.storage.model_file import ModelFile
from chargen.training.metrics import MetricsFile
from chargen.training.module import CharLanguageModel
from chargen.training.windows import Batch

TEXT = "abc \n白日"
TOKENIZER = Tokenizer(TEXT)
SHAPE = {"cell": "lstm", "hidden_size": 3, "num_layers": 1, "embedding_size": 2,
         "dropout": 0.0, "residual": False, "weight_dropout": 0.0}  # fmt: skip
SETTINGS = {"corpus": {"name": "text", "path": "t.txt"}, "model": SHAPE, "run_dir": "r", "trainer": {"max_steps": 3}}
NOTES = {"config": SETTINGS, "corpus": {"sha256": "0" * 64}, "start_id": 2}


def a_model() -> bytes:
    """A small model.safetensors."""
    torch.manual_seed(0)
    model = CharRNN(ModelConfig(TOKENIZER.vocab_size, **SHAPE))
    with tempfile.TemporaryDirectory() as folder:
        model.to_model_file(TOKENIZER.to_json(), NOTES).save(Path(folder, "m"))
        return Path(folder, "m").read_bytes()


def a_module() -> CharLanguageModel:
    """What a checkpoint is loaded into."""
    torch.manual_seed(0)
    optimizer = {"learning_rate": 0.1, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.9}
    shape = {"vocab_size": TOKENIZER.vocab_size, **SHAPE}
    return CharLanguageModel(shape, optimizer, TOKENIZER.to_json(), NOTES)


def the_optimizer(module: CharLanguageModel) -> torch.optim.Optimizer:
    """As the module makes it, fused: that one takes shapes on trust."""
    matrices, vectors = module._by_decay()
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.1, fused=True)


def the_checkpoint(module: CharLanguageModel) -> dict[str, Any]:
    """The content of one, with the parts that Lightning adds."""
    moments = {}
    matrices, vectors = module._by_decay()
    for number, parameter in enumerate([*matrices, *vectors]):
        mean = torch.zeros_like(parameter.detach())
        moments[number] = {"step": torch.tensor(3.0), "exp_avg": mean, "exp_avg_sq": mean.clone()}
    module.carry = ((torch.zeros(2, 3), torch.zeros(2, 3)),)
    ids = torch.ones(2, 4, dtype=torch.int64)
    return {
        "state_dict": dict(module.state_dict()), "global_step": 3, "hyper_parameters": dict(module.hparams),
        "optimizer_states": [{"state": moments, "param_groups": the_optimizer(module).state_dict()["param_groups"]}],
        "callbacks": {"Timer": {"time_elapsed": {"train": 1.0}}},
        "chargen": {
            "format_version": portable.FORMAT_VERSION, "plan": {"total": 3, "update": 0, "progress": 0.0},
            "carry": module.carry, "guard": {"kept": (ids, ids.clone(), True, 8, None), "known": 0}, "generators": {},
        },
    }  # fmt: skip


def a_checkpoint() -> bytes:
    """A small last.ckpt."""
    with tempfile.TemporaryDirectory() as folder:
        CheckpointFiles().save_checkpoint(the_checkpoint(a_module()), Path(folder, "c"))
        return Path(folder, "c").read_bytes()


def reads_a_model(file: Path) -> None:
    """`chargen sample` and `chargen evaluate`."""
    found = ModelFile.load(file)
    TextGenerator(found).generate("ab白", max_length=40, params=SamplingParams(top_p=0.9, min_p=0.01), seed=1)
    ids = torch.zeros(1, 5, dtype=torch.int64)
    CharRNN.from_model_file(found).cross_entropy(ids, ids)


def reads_a_checkpoint(file: Path) -> None:
    """`chargen train resume=…`, without Lightning: what is taken can be gone on with, for two updates."""
    checkpoint = runs.load_checkpoint(file)
    found = runs.portable_of(checkpoint, file)
    read(checkpoint["hyper_parameters"]["run"]["config"])
    module = a_module()
    if found.settings.items() >= SHAPE.items():
        try:
            module.on_load_checkpoint(checkpoint)
            optimizer = the_optimizer(module)
            optimizer.load_state_dict(checkpoint["optimizer_states"][0])
            ids, states = torch.ones(2, 4, dtype=torch.int64), module.carry
            for _ in range(2):
                nats, states = module._nats(Batch(ids, ids, False, 8), states)
                nats.backward()
                optimizer.step()
        except Exception as error:  # of which `fitting` says that the file is damaged or forged
            raise ValueError("damaged or forged") from error


MEMBERS: dict[str, bytes] = {}


def reads_a_pickle(file: Path) -> None:
    """The same, where the archive is sound, and what is pickled in it is not."""
    if not MEMBERS:
        with zipfile.ZipFile(io.BytesIO(a_checkpoint())) as archive:
            MEMBERS.update({name: archive.read(name) for name in archive.namelist()})
    forged = file.read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, forged if name.endswith("/data.pkl") else content)
    reads_a_checkpoint(file)


def the_pickle() -> bytes:
    """Of a checkpoint."""
    with zipfile.ZipFile(io.BytesIO(a_checkpoint())) as archive:
        return next(archive.read(name) for name in archive.namelist() if name.endswith("/data.pkl"))


def reads_a_tokenizer(file: Path) -> None:
    """One that is read is what it says: it goes there and back."""
    tokenizer = Tokenizer.from_json(file.read_bytes().decode("utf-8"))
    assert Tokenizer.from_json(tokenizer.to_json()).symbols == tokenizer.symbols
    tokenizer.decode(tokenizer.encode(TEXT))


ENCODINGS = ("utf-8", "utf-16", "gb18030", "latin-1", "utf-7", "shift_jis", "utf-32", "cp1252")


def reads_a_text(file: Path) -> None:
    """Its first byte says how: the kind of file, the encoding, the unit, the cleaning."""
    how, content = file.read_bytes()[:1] or b"\0", file.read_bytes()[1:]
    kind = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")[how[0] & 3]
    unit, newlines, unicode = ("character", "byte")[how[0] >> 5 & 1], bool(how[0] >> 6 & 1), bool(how[0] >> 7)
    text = file.with_name("t" + kind)
    text.write_bytes(content)
    config = CorpusConfig(name="t", path=str(text), encoding=ENCODINGS[how[0] >> 2 & 7], unit=unit,
                          normalize_newlines=newlines, normalize_unicode=unicode)  # fmt: skip
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        found = load_corpus(config, Path(folder))
    assert int(found.ids.max()) < found.tokenizer.vocab_size
    assert 0 < found.num_train < len(found.ids)


def reads_encoded(file: Path) -> None:
    """The manifest of an encoded corpus, in front of its ids."""
    manifest, _, ids = file.read_bytes().partition(b"\0")
    home = file.parent / "encoded"
    home.mkdir(exist_ok=True)
    (home / "manifest.json").write_bytes(manifest)
    (home / "ids.bin").write_bytes(ids)
    (home / "tokenizer.json").write_text(TOKENIZER.to_json(), encoding="utf-8")
    found = load_encoded(home, "key")
    if found is not None:
        np.asarray(found.ids).sum()


def reads_settings(file: Path) -> None:
    """Of a checkpoint or a model: plain data."""
    config = read(json.loads(file.read_bytes()))
    assert isinstance(config, TrainConfig)


def reads_words(file: Path) -> None:
    """A command line, a word a line."""
    spell(file.read_bytes().decode("utf-8", "replace").replace("\0", "").splitlines())


def reads_metrics(file: Path) -> None:
    """The log of a run that goes on."""
    MetricsFile(file, clock=None, chars_per_update=1).cut_behind(3)  # type: ignore[arg-type]


READERS: dict[str, tuple[Callable[[Path], None], Callable[[], list[bytes]]]] = {
    "model": (reads_a_model, lambda: [a_model()]),
    "checkpoint": (reads_a_checkpoint, lambda: [a_checkpoint()]),
    "pickle": (reads_a_pickle, lambda: [the_pickle()]),
    "tokenizer": (reads_a_tokenizer, lambda: [t.to_json().encode() for t in (TOKENIZER, Tokenizer("abc", "byte"))]),
    "text": (reads_a_text, lambda: [bytes([how]) + how_it_is(how) for how in range(0, 256, 5)]),
    "encoded": (
        reads_encoded,
        lambda: [b'{"key":"key","num_ids":3,"dtype":"uint8","num_articles":1}\0\1\2\3', b'{"num_ids":-1}\0'],
    ),
    "settings": (reads_settings, lambda: [json.dumps(SETTINGS).encode(), json.dumps(NOTES).encode()]),
    "words": (reads_words, lambda: [b"t.txt\nmodel=small\ntrainer.max_steps=3", b"-m\nseed=1,2\n'a,b'\nrun_dir=\"x"]),
    "metrics": (reads_metrics, lambda: [b"update,seconds,skipped\n1,2.0,\n9,3.0,1\n"]),
}


def how_it_is(how: int) -> bytes:
    """A text that is as that byte says."""
    text = (TEXT * 3 + "\r\n\u0301e") * 2
    content = json.dumps({"text": text}) + "\n" if how & 1 else text
    packed = content.encode(ENCODINGS[how >> 2 & 7], "replace")
    return gzip.compress(packed, mtime=0) if how & 2 else packed
