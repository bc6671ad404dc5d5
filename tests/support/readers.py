"""The readers of chargen's files, and small sound files for each of them.

A reader does with a file what chargen does with it. It may refuse the file with a `UserError`; whatever else it raises
is a defect.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chargen.cli.overrides import hydra_arguments
from chargen.config import CorpusConfig, ModelConfig, OptimizerConfig, TrainConfig, parse_config
from chargen.corpus.encoded import load_corpus, load_encoded
from chargen.corpus.tokenizer import Tokenizer
from chargen.errors import FileError
from chargen.nn.model import CharRNN, detached
from chargen.sampling.generator import TextGenerator
from chargen.sampling.params import SamplingParams
from chargen.storage.checkpoint import FORMAT_VERSION, Checkpoint, write_checkpoint
from chargen.storage.checksum import add_checksum
from chargen.storage.model_file import ModelFile
from chargen.training.metrics import MetricsFile
from chargen.training.module import CharLanguageModel
from chargen.training.optimizer import parameter_groups
from support.forgery import forge_header

TEXT = "abc \n白日"
TOKENIZER = Tokenizer(TEXT)
SHAPE: dict[str, Any] = {
    **{"cell": "lstm", "hidden_size": 3, "num_layers": 1, "embedding_size": 2},
    **{"dropout": 0.0, "residual": False, "weight_dropout": 0.0},
}
CONFIG = {"corpus": {"name": "text", "path": "t.txt"}, "model": SHAPE, "run_dir": "r", "trainer": {"max_steps": 3}}
METADATA = {"config": CONFIG, "corpus": {"sha256": "0" * 64}, "start_id": 2}

LANES, TICKS = 2, 4


# ------------------------------------------------------------------------------- models


@functools.cache
def make_model_file(version: int = 3) -> bytes:
    """Return a small `model.safetensors` in format 2 or 3."""
    torch.manual_seed(0)
    model = CharRNN(ModelConfig(TOKENIZER.vocab_size, **SHAPE))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "m")
        model.to_model_file(TOKENIZER.to_json(), METADATA).save(file)
        if version == 2:
            forge_header(file, _header_to_format_2)
        return file.read_bytes()


def _header_to_format_2(header: dict[str, str]) -> None:
    header["settings"], metadata = header.pop("config"), json.loads(header.pop("metadata"))
    header["notes"] = json.dumps({"first_id": metadata.pop("start_id"), **metadata})
    header["format_version"] = "2"
    del header["parts"]


def read_model(file: Path) -> None:
    """Read a model as `chargen sample` and `chargen evaluate` do, and compute with it."""
    found = ModelFile.load(file)
    TextGenerator(found).generate("ab白", max_length=40, params=SamplingParams(top_p=0.9, min_p=0.01), seed=1)
    ids = torch.zeros(1, 5, dtype=torch.int64)
    CharRNN.from_model_file(found).cross_entropy(ids, ids)


# ------------------------------------------------------------------------------- checkpoints


def make_module(config: ModelConfig | None = None) -> CharLanguageModel:
    """Return a module of this shape, or of `SHAPE`, into which a checkpoint can be loaded."""
    torch.manual_seed(0)
    config = config or ModelConfig(TOKENIZER.vocab_size, **SHAPE)
    return CharLanguageModel(asdict(config), asdict(OptimizerConfig()), TOKENIZER.to_json(), METADATA)


def make_optimizer(module: CharLanguageModel) -> torch.optim.Optimizer:
    """Return the optimizer that the module makes: fused, which trusts the shapes of its state."""
    matrices, vectors = parameter_groups(module.parameters())
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.1, fused=True)


def make_checkpoint_content(version: int = FORMAT_VERSION) -> dict[str, Any]:
    """Return the content of a small checkpoint in format 2 or 3, with the parts that Lightning adds."""
    module = make_module()
    moments = {}
    for number, parameter in enumerate(part for group in parameter_groups(module.parameters()) for part in group):
        mean = torch.zeros_like(parameter.detach())
        moments[number] = {"step": torch.tensor(3.0), "exp_avg": mean, "exp_avg_sq": mean.clone()}
    ids = torch.ones(LANES, TICKS, dtype=torch.int64)
    states = ((torch.zeros(LANES, 3), torch.zeros(LANES, 3)),)
    window = (ids, ids.clone(), True, LANES * TICKS, tuple(tuple(part.clone() for part in state) for state in states))
    content = {
        "state_dict": dict(module.state_dict()),
        "global_step": 3,
        "hyper_parameters": dict(module.hparams),
        "optimizer_states": [{"state": moments, "param_groups": make_optimizer(module).state_dict()["param_groups"]}],
        "callbacks": {"Timer": {"time_elapsed": {"train": 1.0}}, "BestModelWriter": {"best": 1.0}},
        "chargen": {
            "format_version": FORMAT_VERSION,
            "schedule": {"total_updates": 3, "update": 0, "progress": 0.0},
            "carry": states,
            "detector": {"window": window, "num_losses": 3, "mean": 1.0, "window_loss": 1.0},
            "generators": {},
        },
    }
    return _content_in_format_2(content) if version == 2 else content


def _content_in_format_2(content: dict[str, Any]) -> dict[str, Any]:
    hyper, stored = dict(content["hyper_parameters"]), dict(content["chargen"])
    metadata = dict(hyper.pop("metadata"))
    hyper["run"] = {"first_id": metadata.pop("start_id"), **metadata}
    schedule, detector = dict(stored.pop("schedule")), dict(stored.pop("detector"))
    names = {"num_losses": "known", "rollbacks": "returns", "window": "kept", "window_loss": "kept_loss"}
    stored["plan"] = {"total": schedule.pop("total_updates"), **schedule}
    stored["guard"] = {names.get(name, name): value for name, value in detector.items()}
    stored["format_version"] = 2
    callbacks = {"Timer": content["callbacks"]["Timer"], "KeepBest": content["callbacks"]["BestModelWriter"]}
    return {**content, "hyper_parameters": hyper, "callbacks": callbacks, "chargen": stored}


@functools.cache
def make_checkpoint(version: int = FORMAT_VERSION) -> bytes:
    """Return a small `last.ckpt` in format 2 or 3."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(make_checkpoint_content(version), Path(folder, "c"))
        return Path(folder, "c").read_bytes()


def read_checkpoint(file: Path) -> None:
    """Read a checkpoint as `chargen train resume=...` does, without Lightning, and train two updates from it.

    What goes wrong up to the end of these updates is reported as a damaged file, as it is in a run. After them, the
    divergence detector may read its window at any time, which has to succeed.
    """
    checkpoint = Checkpoint.read(file)
    checkpoint.model_file()
    assert isinstance(checkpoint.config, TrainConfig)
    assert checkpoint.seconds >= 0
    assert isinstance(checkpoint.update, int)
    assert isinstance(checkpoint.corpus_sha256, str)
    assert checkpoint.total_updates is None or isinstance(checkpoint.total_updates, int)
    module = make_module(checkpoint.model)
    try:
        content = checkpoint.take()
        module.on_load_checkpoint(content)
        optimizer = make_optimizer(module)
        optimizer.load_state_dict(content["optimizer_states"][0])
        ids, states = torch.ones(LANES, TICKS, dtype=torch.int64), module.carry
        for _ in range(2):
            loss, states = module.model.cross_entropy(ids, ids, states)
            states = detached(states)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    except Exception as error:
        raise FileError("damaged or forged") from error
    if module.detector.num_losses:
        inputs, targets, _, _, states = module.detector.window
        module.model.cross_entropy(inputs, targets, states)


@functools.cache
def _members() -> dict[str, bytes]:
    """Return the members of the archive of a small checkpoint."""
    with zipfile.ZipFile(io.BytesIO(make_checkpoint())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def make_pickle() -> bytes:
    """Return the pickle inside a small checkpoint."""
    return next(content for name, content in _members().items() if name.endswith("/data.pkl"))


def read_pickle(file: Path) -> None:
    """Read a checkpoint whose archive is sound, and whose pickle is the content of the file."""
    forged = file.read_bytes()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in _members().items():
            archive.writestr(name, forged if name.endswith("/data.pkl") else content)
    add_checksum(file)
    read_checkpoint(file)


# ------------------------------------------------------------------------------- texts


def read_tokenizer(file: Path) -> None:
    """Read a `tokenizer.json`; one that is accepted is the same after it was written again."""
    tokenizer = Tokenizer.from_json(file.read_bytes().decode("utf-8", "replace"))
    assert Tokenizer.from_json(tokenizer.to_json()).symbols == tokenizer.symbols
    tokenizer.decode(tokenizer.encode(TEXT))


ENCODINGS = ("utf-8", "utf-16", "gb18030", "latin-1", "utf-7", "shift_jis", "utf-32", "cp1252")


def read_text(file: Path) -> None:
    """Encode a text. The first byte of the file chooses the kind of file, the encoding, the unit and the cleaning."""
    how, content = file.read_bytes()[:1] or b"\0", file.read_bytes()[1:]
    kind = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")[how[0] & 3]
    text = file.with_name("t" + kind)
    text.write_bytes(content)
    config = CorpusConfig(
        name="t",
        path=str(text),
        encoding=ENCODINGS[how[0] >> 2 & 7],
        unit=("character", "byte")[how[0] >> 5 & 1],
        normalize_newlines=bool(how[0] >> 6 & 1),
        normalize_unicode=bool(how[0] >> 7),
    )
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        found = load_corpus(config, Path(folder))
    assert int(found.ids.max()) < found.tokenizer.vocab_size
    assert 0 < found.num_train < len(found.ids)


def make_text(how: int) -> bytes:
    """Return a text of the kind and in the encoding that the byte `how` chooses."""
    text = (TEXT * 3 + "\r\n\u0301e") * 2
    content = json.dumps({"text": text}) + "\n" if how & 1 else text
    encoded = content.encode(ENCODINGS[how >> 2 & 7], "replace")
    return bytes([how]) + (gzip.compress(encoded, mtime=0) if how & 2 else encoded)


def read_encoded(file: Path) -> None:
    """Load an encoded corpus; the file holds its manifest, NUL, and its ids."""
    manifest, _, ids = file.read_bytes().partition(b"\0")
    home = file.parent / "encoded"
    home.mkdir(exist_ok=True)
    (home / "manifest.json").write_bytes(manifest)
    (home / "ids.bin").write_bytes(ids)
    (home / "tokenizer.json").write_text(TOKENIZER.to_json(), encoding="utf-8")
    found = load_encoded(home, "key")
    if found is not None:
        np.asarray(found.ids).sum()


# ------------------------------------------------------------------------------- settings and logs


def read_settings(file: Path) -> None:
    """Check settings in JSON, as a model file holds them."""
    try:
        plain = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return
    assert isinstance(parse_config(plain), TrainConfig)


def read_words(file: Path) -> None:
    """Translate a command line, one word in each line of the file."""
    hydra_arguments(file.read_bytes().decode("utf-8", "replace").replace("\0", "").splitlines())


def read_metrics(file: Path) -> None:
    """Cut the log of a run that continues."""
    MetricsFile(file, clock=None, characters_seen=int).drop_after(3)  # type: ignore[arg-type]


READERS: dict[str, tuple[Callable[[Path], None], Callable[[], list[bytes]]]] = {
    "model": (read_model, lambda: [make_model_file(), make_model_file(2)]),
    "checkpoint": (read_checkpoint, lambda: [make_checkpoint(), make_checkpoint(2)]),
    "pickle": (read_pickle, lambda: [make_pickle()]),
    "tokenizer": (read_tokenizer, lambda: [t.to_json().encode() for t in (TOKENIZER, Tokenizer("abc", "byte"))]),
    "text": (read_text, lambda: [make_text(how) for how in range(0, 256, 5)]),
    "encoded": (
        read_encoded,
        lambda: [b'{"key":"key","num_ids":3,"dtype":"uint8","num_articles":1}\0\1\2\3', b'{"num_ids":-1}\0'],
    ),
    "settings": (read_settings, lambda: [json.dumps(CONFIG).encode(), json.dumps(METADATA).encode()]),
    "words": (read_words, lambda: [b"t.txt\nmodel=small\ntrainer.max_steps=3", b"-m\nseed=1,2\n'a,b'\nrun_dir=\"x"]),
    "metrics": (read_metrics, lambda: [b"update,seconds,skipped\n1,2.0,\n9,3.0,1\n", b"update,left_out\n1,\n9,1\n"]),
}
"""For each kind of file: its reader, and small files of that kind, the first of which is sound."""
