"""The settings of a run: types, meanings, validation. Builds nothing.

Hydra composes `conf/` over `TrainConfig`; `read` turns the result into checked settings or says,
with the full key, what was given and what is allowed. `trainer` is a free dictionary in Lightning's
own names, checked here only where chargen itself reads it.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from typing import Any, Optional, get_args, get_origin, get_type_hints

from omegaconf import MISSING

DEFAULT_MAX_TIME = "00:00:03:00"
"""How long a run lasts that is given no length at all, DD:HH:MM:SS."""

# Optional[...] rather than X | None: the schema reader of omegaconf wants it on Python 3.10.


def setting(default: Any, meaning: str) -> Any:
    """A field with a default and the words that `chargen train --help` shows for it."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass
class CorpusConfig:
    """What to learn from."""

    name: str = setting(MISSING, "python_reference, or a label")
    path: Any = setting(None, "a file, a list of files, a glob or a folder")
    url: Optional[str] = setting(None, "where to fetch it instead")
    file: Optional[str] = setting(None, "the name the download is kept under")
    size: Optional[int] = setting(None, "of the download, bytes")
    sha256: Optional[str] = setting(None, "of the download")
    encoding: str = setting("utf-8", "of the files; a byte order mark is understood")
    unit: str = setting("character", "character or byte")
    min_count: int = setting(1, "rarer characters become unknown")
    normalize_newlines: bool = setting(False, "CRLF and CR become LF")
    normalize_unicode: bool = setting(False, "Unicode NFC")
    validation_fraction: float = setting(0.1, "the last part, held out")
    split: str = setting("contiguous", "or article: cut where an article ends")


@dataclass
class ModelConfig:
    """The shape of the network."""

    cell: str = setting("gru", "rnn, lstm or gru")
    hidden_size: int = setting(512, "H, width of a layer")
    num_layers: int = setting(1, "L, layers on top of each other")
    embedding_size: int = setting(64, "E, width of a character on its way in")
    dropout: float = setting(0.4, "fraction of a layer's outputs dropped on their way up, one mask per window")
    weight_dropout: Optional[float] = setting(None, "of recurrent weights; null: by how often the text will be read")
    residual: bool = setting(False, "add a layer's input to its output")


@dataclass
class OptimizerConfig:
    """AdamW, with warm-up and cosine decay over the run's own length."""

    learning_rate: float = setting(4e-3, "at its peak")
    weight_decay: float = setting(0.1, "on matrices only")
    beta1: float = setting(0.9, "of AdamW")
    beta2: float = setting(0.99, "of AdamW")
    warmup_updates: int = setting(100, "at most a tenth of the run")
    final_fraction: float = setting(0.02, "of the peak, where the decay ends")


@dataclass
class TrainConfig:
    """A run of `chargen train`."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: dict[str, Any] = field(default_factory=dict, metadata={"meaning": "Lightning's own names"})
    sequence_length: int = setting(64, "T, characters of one window")
    batch_size: int = setting(16, "B, lanes read side by side")
    seed: int = setting(1, "of weights and dropout")
    run_dir: str = setting(MISSING, "where the run is written")
    data_dir: str = setting("data", "where downloads and encoded corpora live")
    resume: Optional[str] = setting(None, "a last.ckpt, or the folder of a run")
    logger: Optional[str] = setting(None, "tensorboard, wandb or mlflow, beside metrics.csv")
    early_stopping: Optional[int] = setting(None, "stop after so many validations in a row without a better score")
    save_every_minutes: float = setting(1.0, "the most that can be lost when a run is killed")
    save_every_updates: Optional[int] = setting(None, "save after so many updates as well")
    sample_length: int = setting(240, "of the text shown now and then, characters; 0 shows none")


LOGGERS = ("tensorboard", "wandb", "mlflow")
OURS = (
    "callbacks",
    "default_root_dir",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_progress_bar",
    "logger",
    "model_registry",
    "plugins",
    "use_distributed_sampler",
)
"""What chargen passes to Lightning's Trainer itself, or has no use for."""

TRAINER = (
    "accelerator",
    "accumulate_grad_batches",
    "barebones",
    "benchmark",
    "check_val_every_n_epoch",
    "detect_anomaly",
    "deterministic",
    "devices",
    "enable_model_summary",
    "fast_dev_run",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "inference_mode",
    "limit_predict_batches",
    "limit_test_batches",
    "limit_train_batches",
    "limit_val_batches",
    "log_every_n_steps",
    "max_epochs",
    "max_steps",
    "max_time",
    "min_epochs",
    "min_steps",
    "num_nodes",
    "num_sanity_val_steps",
    "overfit_batches",
    "precision",
    "profiler",
    "reload_dataloaders_every_n_epochs",
    "strategy",
    "sync_batchnorm",
    "val_check_interval",
)
"""Lightning's own settings, spelled out here so that a misspelt one is noticed before it is imported."""


def read(container: Mapping[str, Any]) -> TrainConfig:
    """Settings from plain data.

    Args:
        container: nested dictionaries, as composed.

    Raises:
        ValueError: a key is unknown, a value missing or impossible. One line: the full key, what
            was given, what is allowed.
    """
    config: TrainConfig = _build(TrainConfig, container, "")
    config.trainer = dict(config.trainer)
    _check(config)
    return config


def run_seconds(max_time: Any) -> float:
    """Lightning's `max_time` in seconds.

    Raises:
        ValueError: it is neither `DD:HH:MM:SS` nor a dictionary of units.
    """
    match max_time:
        case str() if found := re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", max_time.strip()):
            days, hours, minutes, seconds = map(int, found.groups())
            total = _seconds(days=days, hours=hours, minutes=minutes, seconds=seconds)
        case Mapping():
            total = _seconds(**max_time)
        case _:
            total = 0.0
    _require("trainer.max_time", max_time, total > 0, f"write DD:HH:MM:SS; three minutes are {DEFAULT_MAX_TIME}")
    return total


def _seconds(**units: Any) -> float:
    """Of a duration; 0 for one that is none."""
    try:
        return timedelta(**units).total_seconds()
    except (TypeError, OverflowError, ValueError):
        return 0.0


def max_time(seconds: float) -> str:
    """Seconds, at least one, as `trainer.max_time` is typed: DD:HH:MM:SS."""
    minutes, rest = divmod(max(1, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:02}:{hours:02}:{minutes:02}:{rest:02}"


def known_keys() -> list[str]:
    """Every key that chargen knows by name, in full."""
    nested = get_type_hints(TrainConfig)
    keys = []
    for part in fields(TrainConfig):
        inner = nested[part.name]
        keys += [f"{part.name}.{f.name}" for f in fields(inner)] if is_dataclass(inner) else [part.name]
    return keys


def nearest(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean …?)`, or nothing if no known word is near."""
    spelled = {word.lower(): word for word in known}
    close = difflib.get_close_matches(wrong.lower(), spelled, n=1, cutoff=0.6)
    return f"; did you mean {spelled[close[0]]}?" if close else ""


def no_such_setting(key: str) -> ValueError:
    """The error for a key that does not exist."""
    hint = nearest(key, known_keys()) or "; `chargen train --help` lists the settings"
    return ValueError(f"{key}: there is no such setting{hint}")


def _build(kind: Any, container: Mapping[str, Any], prefix: str) -> Any:
    """A dataclass from a dictionary, nested ones included."""
    if not isinstance(container, Mapping):
        raise ValueError(f"{prefix.rstrip('.') or 'the settings'}={container}: must be settings of its own, {prefix}…")
    hints = get_type_hints(kind)
    values = {}
    for key, value in container.items():
        if key not in hints:
            raise no_such_setting(prefix + key)
        if value == MISSING and isinstance(value, str):
            raise ValueError(f"{prefix}{key}: a value is needed")
        inner = hints[key]
        values[key] = (
            _build(inner, value, f"{prefix}{key}.") if is_dataclass(inner) else _typed(inner, prefix + key, value)
        )
    return kind(**values)


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "settings of its own"}


def _typed(hint: Any, key: str, value: Any) -> Any:
    """A value as it is, if it is of its kind; those that are not typed at a command line may be anything."""
    kinds = [get_origin(kind) or kind for kind in get_args(hint) or (hint,)] if get_origin(hint) is not dict else [dict]
    if Any in kinds or (value is None and type(None) in kinds):
        return value
    (kind,) = (kind for kind in kinds if kind is not type(None))
    allowed = (int, float) if kind is float else (kind,)
    is_one = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
    _require(key, value, is_one, f"must be {_KINDS[kind]}")
    return value


def _require(key: str, value: Any, holds: bool, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{key}={value}: {allowed}")


def _check(config: TrainConfig) -> None:
    """Every value that is out of range, before anything is built."""

    def at_least(bound: int, **values: int | None) -> None:
        for key, value in values.items():
            key = key.replace("__", ".")
            _require(key, value, value is None or value >= bound, f"must be a whole number from {bound} up")

    def fraction(**values: float) -> None:
        for key, value in values.items():
            _require(key.replace("__", "."), value, 0 <= value < 1, "must be from 0 up and below 1")

    def one_of(allowed: tuple[str, ...], **values: str | None) -> None:
        for key, value in values.items():
            hint = nearest(str(value), allowed)
            _require(key.replace("__", "."), value, value in allowed, f"must be {', '.join(allowed)}{hint}")

    corpus, model, optimizer = config.corpus, config.model, config.optimizer
    _require("corpus.name", corpus.name, corpus.name.isprintable(), "must be a label of visible characters")
    one_of(("character", "byte"), corpus__unit=corpus.unit)
    one_of(("contiguous", "article"), corpus__split=corpus.split)
    at_least(1, corpus__min_count=corpus.min_count)
    _require("corpus.validation_fraction", corpus.validation_fraction, 0 < corpus.validation_fraction < 1,
             "must lie between 0 and 1")  # fmt: skip
    _require("corpus.normalize_unicode", corpus.normalize_unicode,
             not corpus.normalize_unicode or corpus.unit == "character", "needs corpus.unit=character")  # fmt: skip
    for key, path in (("run_dir", config.run_dir), ("data_dir", config.data_dir), ("resume", config.resume)):
        _require(key, path, path is None or bool(path.strip()), "must be the path of a folder")
    paths = corpus.path if isinstance(corpus.path, list) else [corpus.path]
    is_path = corpus.path is None or (bool(paths) and all(isinstance(p, str) and p for p in paths))
    _require("corpus.path", corpus.path, is_path, "must be a file, a folder, a glob, or a list [a.txt,b.txt]")

    named = corpus.file is None or not (corpus.file in ("", ".", "..") or set(corpus.file) & set("/\\\0"))
    _require("corpus.file", corpus.file, named, "must be the name of a file in data_dir, without a folder")

    one_of(("rnn", "lstm", "gru"), model__cell=model.cell)
    sizes = {"hidden_size": model.hidden_size, "embedding_size": model.embedding_size, "num_layers": model.num_layers}
    for key, size in sizes.items():
        most = 1000 if key == "num_layers" else 65536
        _require(f"model.{key}", size, 1 <= size <= most, f"must be a whole number from 1 up to {most}")
    fraction(model__dropout=model.dropout, model__weight_dropout=model.weight_dropout or 0.0)
    fraction(optimizer__beta1=optimizer.beta1, optimizer__beta2=optimizer.beta2)
    positive = math.isfinite(optimizer.learning_rate) and optimizer.learning_rate > 0
    _require("optimizer.learning_rate", optimizer.learning_rate, positive, "must be above 0, such as 0.004")
    decays = math.isfinite(optimizer.weight_decay) and optimizer.weight_decay >= 0
    _require("optimizer.weight_decay", optimizer.weight_decay, decays, "must be from 0 up")
    _require("optimizer.final_fraction", optimizer.final_fraction, 0 <= optimizer.final_fraction <= 1,
             "must be from 0 to 1")  # fmt: skip

    at_least(1, sequence_length=config.sequence_length, batch_size=config.batch_size,
             early_stopping=config.early_stopping, save_every_updates=config.save_every_updates)  # fmt: skip
    counts = {"sequence_length": config.sequence_length, "batch_size": config.batch_size,
              "corpus.min_count": corpus.min_count}  # fmt: skip
    for key, number in counts.items():
        _require(key, number, number < _MANY, f"must be below {_MANY}")
    _require("sample_length", config.sample_length, config.sample_length <= 1_000_000, "must be at most a million")
    _require("save_every_minutes", config.save_every_minutes, config.save_every_minutes > 0, "must be above 0")
    at_least(
        0, seed=config.seed, sample_length=config.sample_length, optimizer__warmup_updates=optimizer.warmup_updates
    )
    _require("seed", config.seed, config.seed < 2**32, "must be below 4294967296")
    if config.logger is not None:
        one_of(LOGGERS, logger=config.logger)
    _check_trainer(config.trainer)


_MANY = 2**31
"""More than there is of anything that is counted."""


def _check_trainer(trainer: dict[str, Any]) -> None:
    """What chargen reads of Lightning's settings, and what it keeps to itself."""
    for key in trainer:
        _require(f"trainer.{key}", trainer[key], key not in OURS, "chargen sets this itself; leave it out")
        if key not in TRAINER:
            hint = nearest(f"trainer.{key}", [f"trainer.{known}" for known in TRAINER])
            raise ValueError(f"trainer.{key}: there is no such setting{hint}")
    for key, least in (("max_steps", -1), ("max_epochs", -1), ("accumulate_grad_batches", 1), ("log_every_n_steps", 1)):
        value = trainer.get(key)
        counts = isinstance(value, int) and not isinstance(value, bool) and (1 <= value < _MANY or value == least)
        no_limit = ", or -1 for no limit" if least < 0 else ""
        _require(f"trainer.{key}", value, value is None or counts, f"must be a whole number from 1 up{no_limit}")
    devices = trainer.get("devices", 1)
    _require("trainer.devices", devices, devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1),
             "chargen train runs on one device; write 1, or [1] for the second")  # fmt: skip
    _require("trainer.num_nodes", trainer.get("num_nodes"), trainer.get("num_nodes") in (None, 1),
             "chargen train runs on one machine; leave it out")  # fmt: skip
    _require("trainer.strategy", trainer.get("strategy"), trainer.get("strategy") in (None, "auto"),
             "chargen train runs on one device; leave it out")  # fmt: skip
    profiler = trainer.get("profiler")
    _require("trainer.profiler", profiler, profiler in (None, "simple", "advanced", "pytorch"),
             "must be simple, advanced or pytorch")  # fmt: skip
    clip = trainer.get("gradient_clip_val")
    clips = clip is None or (isinstance(clip, (int, float)) and not isinstance(clip, bool) and clip >= 0)
    _require("trainer.gradient_clip_val", clip, clips, "must be a number from 0 up, or null for no clipping")
    algorithm = trainer.get("gradient_clip_algorithm")
    _require("trainer.gradient_clip_algorithm", algorithm, algorithm in (None, "norm", "value"),
             "must be norm or value")  # fmt: skip
    if trainer.get("max_time") is not None:
        run_seconds(trainer["max_time"])
