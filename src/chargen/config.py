"""The settings of a run: their types, defaults, meanings and bounds. Builds nothing.

Hydra composes `conf/` over `TrainConfig`. `parse_config` turns the result, or the settings in a file, into a checked
`TrainConfig` once; from there on the typed object travels. `trainer` is a dictionary in Lightning's own names. The
module is long because it holds every setting of a run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Optional

from chargen.cell_types import CELL_TYPES, CellType
from chargen.errors import ConfigError
from chargen.schema import MISSING, Bound, fraction, number, one_of, parse, plain_number, require, setting
from chargen.schema import unknown_setting as _unknown_setting
from chargen.schema import whole_number as whole
from chargen.trainer_settings import check_trainer

# Optional[...] rather than X | None, because omegaconf reads these hints on Python 3.10.


def is_path(value: Any) -> bool:
    """Tell whether the file system can have a path: it is not blank, has no NUL, and can be encoded."""
    try:
        return isinstance(value, str) and bool(value.strip()) and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _are_paths(value: Any) -> bool:
    paths = value if isinstance(value, list) else [value]
    return bool(paths) and all(map(is_path, paths))


_FOLDER = Bound(is_path, "the path of a folder")


@dataclass
class CorpusConfig:
    """What to learn from."""

    name: str = setting(
        MISSING, "python_reference, or a label", Bound(str.isprintable, "a label of visible characters")
    )
    path: Any = setting(
        None, "a file, a list of files, a glob or a folder",
        Bound(_are_paths, "a file, a folder, a glob, or a list [a.txt,b.txt]"),
    )  # fmt: skip
    url: Optional[str] = setting(None, "fetch the text from here instead; needs file, size and sha256")
    file: Optional[str] = setting(
        None, "the name under which the download is kept",
        Bound(lambda name: name not in ("", ".", "..") and not set(name) & set("/\\\0"),
              "the name of a file in data_dir, without a folder"),
    )  # fmt: skip
    size: Optional[int] = setting(None, "size of the download, bytes")
    sha256: Optional[str] = setting(None, "SHA-256 of the download")
    encoding: str = setting("auto", "encoding of the files; auto: find that of each file")
    errors: str = setting(
        "strict", "bytes that do not fit the encoding: strict refuses them, replace reads U+FFFD, skip leaves them out",
        one_of("strict", "replace", "skip"),
    )  # fmt: skip
    unit: str = setting("character", "what the model reads and writes: character or byte", one_of("character", "byte"))
    field: Optional[str] = setting(
        "text", "of .csv, .tsv, .parquet and .jsonl files: a column, or a template '{title} {body}'; null: no column",
        Bound(lambda value: bool(value.strip()), "the name of a column, or a template of several in braces"),
    )  # fmt: skip
    min_count: int = setting(1, "rarer characters become the unknown character", whole(1))
    vocabulary: Optional[str] = setting(
        None, "a run whose characters are kept; others become the unknown character", _FOLDER
    )
    normalize_newlines: bool = setting(False, "turn CRLF and CR into LF")
    normalize_unicode: bool = setting(False, "apply Unicode NFC")
    drop_repeated_lines: Optional[int] = setting(
        None, "leave out lines that occur more often than this, such as notices of a site", whole(1)
    )
    validation_fraction: float = setting(
        0.1, "the last part of the text, held out",
        number(lambda value: 0 < value < 1, "above 0 and below 1"),
    )  # fmt: skip
    split: str = setting(
        "contiguous", "where to cut: contiguous, or article: at the end of an article", one_of("contiguous", "article")
    )


_SIZE = whole(1, 65536)

RECURRENT_INITS = ("orthogonal", "identity", "normal")
"""How the recurrent weights can be initialized."""


@dataclass
class ModelConfig:
    """The shape of the network."""

    vocab_size: Optional[int] = setting(None, "", whole(1))
    cell: str = setting("gru", f"the recurrent cell: {', '.join(CELL_TYPES)}", one_of(*CELL_TYPES))
    hidden_size: int = setting(512, "H, width of a layer", _SIZE)
    num_layers: int = setting(1, "L, number of layers", whole(1, 1000))
    embedding_size: int = setting(64, "E, width of a character's embedding", _SIZE)
    dropout: float = setting(0.4, "fraction of each layer's outputs dropped, one mask per window", fraction())
    weight_dropout: Optional[float] = setting(
        None, "fraction of recurrent weights dropped; null: chosen from the number of passes", fraction()
    )
    head_size: Optional[int] = setting(
        None, "R, what the output layer reads; null: chosen from the vocabulary; hidden_size: all of h", _SIZE
    )
    residual: bool = setting(False, "add each layer's input to its output")
    recurrent_init: str = setting("orthogonal", ", ".join(RECURRENT_INITS), one_of(*RECURRENT_INITS))
    recurrent_gain: float = setting(
        1.0, "spectral radius of the recurrent weights at the start; gradients can explode above 1, and vanish below",
        number(lambda value: 0 < value <= 100, "above 0 and at most 100"),
    )  # fmt: skip

    @property
    def cell_type(self) -> CellType:
        """Gates and states of the cell."""
        return CELL_TYPES[self.cell]

    @property
    def num_symbols(self) -> int:
        """V, the size of the vocabulary.

        Raises:
            ValueError: the vocabulary is not known yet.
        """
        if self.vocab_size is None:
            raise ValueError("the model's vocab_size is not set")
        return self.vocab_size

    @property
    def has_projection(self) -> bool:
        """Whether h is projected to a smaller vector before the output layer."""
        return self.head_size is not None and self.head_size < self.hidden_size

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by its name in `CharRNN`."""
        V, E, H, rows = self.num_symbols, self.embedding_size, self.hidden_size, self._num_rows
        R = self.head_size if self.head_size is not None and self.has_projection else H
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (V, E), "head.weight": (V, R), "head.bias": (V,)}
        if self.has_projection:
            shapes |= {"projection.weight": (R, H), "projection.bias": (R,)}
        for layer in range(self.num_layers):
            shapes[f"recurrence.weight_ih_l{layer}"] = (rows, H if layer else E)
            shapes[f"recurrence.weight_hh_l{layer}"] = (rows, H)
            shapes[f"recurrence.bias_ih_l{layer}"] = (rows,)
            shapes[f"recurrence.bias_hh_l{layer}"] = (rows,)
        return shapes

    @property
    def num_parameters(self) -> int:
        """How many parameters the model has."""
        return sum(math.prod(shape) for shape in self.parameter_shapes().values())

    @property
    def _num_rows(self) -> int:
        return self.cell_type.num_gates * self.hidden_size


@dataclass
class OptimizerConfig:
    """AdamW or SGD, with linear warm-up and cosine decay over the length of the run."""

    name: str = setting("adamw", "adamw or sgd", one_of("adamw", "sgd"))
    learning_rate: float = setting(
        4e-3, "the highest learning rate", number(lambda value: value > 0, "above 0, such as 0.004")
    )
    weight_decay: float = setting(0.1, "on matrices only", number(lambda value: value >= 0, "from 0 up"))
    beta1: float = setting(0.9, "of AdamW", fraction())
    beta2: float = setting(0.99, "of AdamW", fraction())
    momentum: float = setting(0.0, "of SGD", fraction())
    warmup_updates: int = setting(100, "updates of linear warm-up, at most a tenth of the run", whole(0))
    final_fraction: float = setting(
        0.02, "where the decay ends, as a fraction of the highest rate",
        number(lambda value: 0 <= value <= 1, "from 0 to 1"),
    )  # fmt: skip


LOGGERS = ("tensorboard", "wandb", "mlflow")


@dataclass
class TrainConfig:
    """The settings of `chargen train`."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: dict[str, Any] = field(default_factory=dict, metadata={"meaning": "Lightning's own names"})
    sequence_length: int = setting(64, "T, characters in one window", whole(1))
    batch_size: int = setting(16, "B, lanes of text read side by side", whole(1))
    seed: int = setting(1, "of weights and dropout", whole(0, 2**32 - 1))
    run_dir: str = setting(MISSING, "the folder of the run", _FOLDER)
    data_dir: str = setting("data", "the folder of downloads and encoded corpora", _FOLDER, resumable=True)
    init: Optional[str] = setting(
        None, "begin with the weights of a run, a model.safetensors or a last.ckpt; the text may be another one",
        _FOLDER,
    )  # fmt: skip
    resume: Optional[str] = setting(None, "a last.ckpt or a run's folder to continue", _FOLDER)
    logger: Optional[str] = setting(
        None, f"{', '.join(LOGGERS)}: log there as well as to metrics.csv", one_of(*LOGGERS), resumable=True
    )
    guard: bool = setting(True, "skip updates that break the model; after several, go back", resumable=True)
    early_stopping: Optional[int] = setting(
        None, "stop after this many validations in a row without a better score", whole(1), resumable=True
    )
    save_every_minutes: float = setting(
        1.0, "the longest time between two checkpoints", number(lambda value: value > 0, "above 0"), resumable=True
    )
    save_every_updates: Optional[int] = setting(
        None, "also write a checkpoint after this many updates", whole(1), resumable=True
    )
    sample_length: int = setting(
        240, "characters of the sample shown after each validation; 0 for none", whole(0, 1_000_000), resumable=True
    )

    @property
    def windows_per_update(self) -> int:
        """Windows whose gradients are averaged in one update."""
        return int(self.trainer.get("accumulate_grad_batches") or 1)

    @property
    def train_limit(self) -> tuple[str, float]:
        """The setting of the Trainer that limits the windows of a pass, and its value: a number or a fraction."""
        if self.trainer.get("overfit_batches"):
            return "overfit_batches", self.trainer["overfit_batches"]
        limit = self.trainer.get("limit_train_batches")
        return "limit_train_batches", 1.0 if limit is None else limit

    @property
    def validation_limit(self) -> float:
        """Windows of a validation, or a fraction of them; 0 for no validation."""
        limit = self.trainer.get("overfit_batches") or self.trainer.get("limit_val_batches")
        return 1.0 if limit is None else limit

    def to_plain(self) -> dict[str, Any]:
        """Return the settings as plain data, as files hold them."""
        plain = asdict(self)
        del plain["model"]["vocab_size"]  # a property of the corpus
        return plain

    def with_absolute_paths(self) -> TrainConfig:
        """Return settings whose corpus and data folder are found from any working folder."""
        path = self.corpus.path
        if path is not None:
            path = [_absolute(one) for one in path] if isinstance(path, list) else _absolute(path)
        vocabulary = self.corpus.vocabulary and _absolute(self.corpus.vocabulary)
        corpus = replace(self.corpus, path=path, vocabulary=vocabulary)
        init = self.init and _absolute(self.init)
        return replace(self, corpus=corpus, data_dir=_absolute(self.data_dir), init=init)

    def with_changes(self, given: TrainConfig, keys: Iterable[str]) -> TrainConfig:
        """Return these settings with the values of some keys, such as `trainer.max_steps`, taken from `given`."""
        changed = replace(self, trainer=dict(self.trainer))
        for key in keys:
            outer, _, inner = key.partition(".")
            if outer == "trainer":
                changed.trainer[inner] = given.trainer[inner]
            elif inner:
                part = replace(getattr(changed, outer), **{inner: getattr(getattr(given, outer), inner)})
                changed = replace(changed, **{outer: part})
            else:
                changed = replace(changed, **{outer: getattr(given, outer)})
        return changed


def _absolute(path: str) -> str:
    return os.path.abspath(expand_home(path))


def expand_home(path: str) -> str:
    """Replace a leading `~` by the home folder, unless a file of exactly that name is in the working folder."""
    if os.path.basename(path) == path and os.path.isfile(path):
        return path
    return os.path.expanduser(path)


def parse_config(container: Mapping[str, Any]) -> TrainConfig:
    """Check the settings of a run.

    Args:
        container: nested dictionaries, as Hydra composes them or a file holds them.

    Raises:
        ConfigError: a key is unknown, or a value is missing or not allowed. One line: the full key, what was given,
            what is allowed.
    """
    config: TrainConfig = parse(TrainConfig, container)
    config.trainer = {key: plain_number(value) for key, value in config.trainer.items()}
    require("model.vocab_size", config.model.vocab_size, config.model.vocab_size is None,
            "chargen counts the characters of the corpus itself; leave it out")  # fmt: skip
    require("corpus.min_count", config.corpus.min_count, config.corpus.min_count == 1 or not config.corpus.vocabulary,
            "leave it out: corpus.vocabulary says which characters there are")  # fmt: skip
    require("corpus.normalize_unicode", config.corpus.normalize_unicode,
            not config.corpus.normalize_unicode or config.corpus.unit == "character",
            "needs corpus.unit=character")  # fmt: skip
    require("corpus.drop_repeated_lines", config.corpus.drop_repeated_lines,
            config.corpus.drop_repeated_lines is None or config.corpus.unit == "character",
            "needs corpus.unit=character")  # fmt: skip
    check_trainer(config.trainer)
    return config


def parse_stored_config(container: Mapping[str, Any]) -> TrainConfig:
    """Check the settings of a run, as its files hold them. Runs of chargen up to 0.2 read tables and pages as they are.

    Raises:
        ConfigError: as `parse_config` does.
    """
    corpus = container.get("corpus")
    if isinstance(corpus, Mapping) and "field" not in corpus:
        container = {**container, "corpus": {**corpus, "field": None}}
    return parse_config(container)


def parse_model_config(container: Mapping[str, Any]) -> ModelConfig:
    """Check the settings of a model, as its file holds them.

    Raises:
        ConfigError: a key is unknown, or a value is missing or not allowed.
    """
    config: ModelConfig = parse(ModelConfig, container, "model.")
    require("model.vocab_size", config.vocab_size, config.vocab_size is not None, "a model file needs it")
    return config


def unknown_setting(key: str) -> ConfigError:
    """Make the error for a key of `TrainConfig` that does not exist."""
    return _unknown_setting(key, TrainConfig)


def resumable_keys() -> list[str]:
    """List the keys that a resumed run may change, besides those of `trainer`."""
    return [part.name for part in fields(TrainConfig) if part.metadata.get("resumable")]


def help_rows() -> list[tuple[str, list[tuple[str, Any, str]]]]:
    """Return the settings for `--help`: for each group its title, then key, default and meaning of each setting."""
    groups = [
        ("", "", fields(TrainConfig)),
        ("model: the shape of the network", "model.", fields(ModelConfig)),
        ("optimizer: AdamW, with linear warm-up and cosine decay over the length of the run", "optimizer.",
         fields(OptimizerConfig)),
        ("corpus: what to learn from", "corpus.", fields(CorpusConfig)),
    ]  # fmt: skip
    return [
        (title, [(prefix + f.name, f.default, f.metadata["meaning"]) for f in group
                 if f.metadata.get("meaning") and f.name != "trainer"])
        for title, prefix, group in groups
    ]  # fmt: skip
