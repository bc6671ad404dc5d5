"""`model.safetensors`: a trained model in one file that is complete, portable and safe to open.

The file holds the weights as arrays, and in its header the model's settings, the tokenizer and metadata about the run
as JSON. Nothing in it can run, and numpy alone reads it.

A file may also hold named parts, such as tables or a second network. Each has settings, arrays and a flag: a part that
is required changes what the model computes, so a reader that does not know it refuses the file; other unknown parts
are ignored. The format version changes only when a file without parts can no longer be read as before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from chargen.config import ModelConfig, parse_model_config
from chargen.errors import ConfigError, FileError
from chargen.storage.atomic import as_path, atomic_write

FORMAT = "chargen"
FORMAT_VERSION = 3

INITIAL_STATES = "initial_states"
"""The part with the states from which the model writes: `beginning`, before an article, and `within` one."""

KNOWN_PARTS: frozenset[str] = frozenset((INITIAL_STATES,))
"""The parts that this version computes with."""

ESTIMATE = "validation_estimate_nats_per_char"
"""The metadata key of the validation score during training, nats per character."""

_METADATA_KINDS = (("config", dict), ("corpus", dict), ("versions", dict), ("updates", int), (ESTIMATE, float))
"""The metadata that chargen reads again, and its types."""

_CLEANING: dict[str, Any] = {"normalize_newlines": False, "normalize_unicode": False, "min_count": 1}


@dataclass(frozen=True)
class Part:
    """A named, optional part of a model file.

    Attributes:
        settings: plain data.
        arrays: by name.
        required: whether a reader that does not know this part must refuse the file.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    required: bool = True


@dataclass(frozen=True)
class ModelFile:
    """A trained model outside of any framework.

    Attributes:
        weights: float32 arrays by their names in `CharRNN`.
        config: the shape of the network.
        tokenizer: the tokenizer's JSON.
        metadata: plain data about the run: settings, corpus, scores, versions, and `start_id`.
        parts: optional parts by name.
    """

    weights: dict[str, np.ndarray]
    config: ModelConfig
    tokenizer: str
    metadata: dict[str, Any]
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def start_id(self) -> int:
        """The id that the model reads before the first character of a text."""
        return int(self.metadata["start_id"])

    @property
    def cleaning(self) -> dict[str, Any]:
        """How the corpus was cleaned: `normalize_newlines`, `normalize_unicode`, `min_count`."""
        corpus = self.metadata.get("config", {}).get("corpus")
        stored = corpus if isinstance(corpus, dict) else {}
        return {
            key: stored[key] if type(stored.get(key)) is type(default) else default
            for key, default in _CLEANING.items()
        }

    @property
    def knows_unknown(self) -> bool:
        """Whether the training text had unknown characters: rare ones, or others than those of `corpus.vocabulary`."""
        settings = self.metadata.get("config", {}).get("corpus")
        return self.cleaning["min_count"] > 1 or bool(isinstance(settings, dict) and settings.get("vocabulary"))

    @property
    def line_end(self) -> str:
        """How the lines of the training text end: LF, also if the file does not say, or CRLF."""
        return "\r\n" if self.metadata.get("corpus", {}).get("line_end") == "\r\n" else "\n"

    @property
    def corpus_sha256(self) -> str | None:
        """The digest of the text that the model learned from; None if the file does not say."""
        digest = self.metadata.get("corpus", {}).get("sha256")
        return digest if isinstance(digest, str) else None

    @property
    def estimate(self) -> float | None:
        """The validation score during training, nats per character; None if the file does not say."""
        return self.metadata.get(ESTIMATE)

    def initial_state(self, *, within: bool = False) -> np.ndarray | None:
        """Return the state from which the model writes.

        Args:
            within: the text goes on within an article, instead of beginning one.

        Returns:
            (P, H) float32: h, or h and c, of every layer; None if the file has no such state, as those of chargen up to
            0.2.
        """
        part = self.parts.get(INITIAL_STATES)
        return None if part is None else part.arrays["within" if within else "beginning"]

    def with_initial_states(self, states: Mapping[str, np.ndarray]) -> ModelFile:
        """Return this model with the states `beginning` and `within`, each (P, H) float32. See `initial_state`."""
        part = Part(arrays=dict(states), required=False)
        return replace(self, parts={**self.parts, INITIAL_STATES: part})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file atomically.

        Args:
            path: the file, as a string or a path; `~` is the home folder. Its folder is created if it is missing.

        Raises:
            ArgumentError: `path` is not a path.
            FileError: `path` is a folder, or a name that no file can have.
            OSError: it cannot be written.
        """
        path = as_path(path)
        arrays = dict(self.weights)
        for name, part in self.parts.items():
            arrays |= {f"{name}/{key}": array for key, array in part.arrays.items()}
        described = {name: {"settings": part.settings, "required": part.required} for name, part in self.parts.items()}
        header = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "config": json.dumps(asdict(self.config)),
            "tokenizer": self.tokenizer,
            "metadata": json.dumps(self.metadata),  # in ASCII: the name of a file may not be UTF-8
            "parts": json.dumps(described),
        }
        with atomic_write(path) as temporary:
            try:
                save_file(arrays, temporary, {**header, "sha256": digest_of(header, arrays)})
            except SafetensorError as error:  # raised for a full disk, among others
                raise OSError(str(error)) from None

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ModelFile:
        """Read a file that `save` wrote, in this format or the one of chargen 0.1.

        Args:
            path: the file, as a string or a path; `~` is the home folder. `chargen.load` takes folders as well.

        Raises:
            ArgumentError: `path` is not a path.
            FileError: it is missing, damaged, written by another program or by a later chargen, or it holds a
                required part that this chargen does not know.
        """
        path = as_path(path)
        with _opened(path) as opened:
            header = opened.metadata()
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
        if header.pop("sha256", "") != digest_of(header, arrays):
            raise FileError(f"{path} has been damaged since it was written: its checksum does not match")
        config, metadata, parts = _parsed(header, path)
        weights, found = _split_parts(arrays, parts, path)
        tokenizer = header["tokenizer"]
        return ModelFile(weights, checked_model_config(config, path), tokenizer, metadata, found).checked(path)

    def checked(self, path: Path) -> ModelFile:
        """Return this model if its metadata is what chargen writes and its weights have the shapes of its settings.

        Raises:
            FileError: they are not. `path` is for the message.
        """
        metadata = self.metadata
        if not isinstance(metadata, dict):
            raise _damaged(path)
        if not all(isinstance(metadata.get(key, kind()), kind) for key, kind in _METADATA_KINDS):
            raise _damaged(path)
        start_id = metadata.get("start_id")
        if type(start_id) is not int or not 0 <= start_id < self.config.num_symbols:
            raise _damaged(path)
        if {name: weight.shape for name, weight in self.weights.items()} != self.config.parameter_shapes():
            raise _damaged(path)
        if any(weight.dtype != np.float32 for weight in self.weights.values()):
            raise _damaged(path)
        initial = self.parts.get(INITIAL_STATES)
        if initial is not None and not _are_states(initial.arrays, self.config):
            raise _damaged(path)
        if not all(np.isfinite(weight).all() for weight in self.weights.values()):
            raise FileError(f"{path} has weights that are not finite: it cannot write; give another one")
        return self


def read_header(path: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Read the settings and the metadata of a model without its weights; its checksum is not compared.

    Raises:
        FileError: the file is missing, truncated, written by another program or by a later chargen.
    """
    with _opened(path) as opened:
        config, metadata, _ = _parsed(opened.metadata(), path)
    if not isinstance(metadata, dict):
        raise _damaged(path)
    return checked_model_config(config, path), metadata


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a model file of a format that is read here.

    Raises:
        FileError: it is missing, truncated, written by another program or by a later chargen.
    """
    if not path.is_file():
        raise FileError(f"{path} is not a file: give a model.safetensors of chargen")
    try:
        with safe_open(path, framework="numpy") as opened:
            header = opened.metadata() or {}
            if header.get("format") != FORMAT:
                raise FileError(f"{path} was written by another program: give a model.safetensors of chargen")
            if header.get("format_version") not in ("2", str(FORMAT_VERSION)):
                raise FileError(
                    f"{path} was written by another version of chargen: update this one (pip install -U chargen), "
                    "or train again"
                )
            yield opened
    except (SafetensorError, AttributeError, TypeError) as error:  # the last two for types numpy does not have
        raise FileError(f"{path} is truncated or not a safetensors file ({error}): give another one") from None


def _parsed(header: Mapping[str, str], path: Path) -> tuple[Any, Any, Any]:
    """Return settings, metadata and parts of a header under their present names."""
    try:
        header["tokenizer"]
        if header["format_version"] == "2":
            return _from_format_2(header)
        config, metadata, parts = (json.loads(header[key]) for key in ("config", "metadata", "parts"))
        return config, metadata, parts
    except (KeyError, ValueError, RecursionError):  # JSON with a number of thousands of digits raises ValueError
        raise FileError(f"{path} is damaged: its header is not what chargen writes") from None


def checked_model_config(config: Any, path: Path) -> ModelConfig:
    """Parse the model settings of a file.

    Raises:
        FileError: they are not those of a model. `path` is for the message.
    """
    unknown = config.keys() - ModelConfig.__dataclass_fields__.keys() if isinstance(config, dict) else ()
    if unknown:
        raise FileError(
            f"{path} has the model setting {sorted(map(str, unknown))[0]}, which this chargen does not know: it is "
            "of a later version (pip install -U chargen), or damaged or forged"
        )
    try:
        return parse_model_config(config)
    except ConfigError as error:
        raise FileError(f"{path} is damaged or forged: {error}") from None


def _damaged(path: Path) -> FileError:
    return FileError(f"{path} is damaged or forged: its settings, metadata and weights do not fit together")


def _from_format_2(header: Mapping[str, str]) -> tuple[Any, Any, Any]:
    """Return settings, metadata and parts of a file of chargen 0.1, under their present names."""
    config, notes = json.loads(header["settings"]), json.loads(header["notes"])
    return config, metadata_from_format_2(notes), {}


def metadata_from_format_2(notes: Any) -> Any:
    """Return the notes of chargen 0.1 under their present names."""
    if not isinstance(notes, dict):
        return notes
    metadata = {key: value for key, value in notes.items() if key != "first_id"}
    return {**metadata, "start_id": notes.get("first_id")}


def _are_states(arrays: Mapping[str, np.ndarray], config: ModelConfig) -> bool:
    """Tell whether arrays are the initial states of a model of this shape, which are finite."""
    shape = (config.num_layers * config.cell_type.num_states, config.hidden_size)
    return arrays.keys() == {"beginning", "within"} and all(
        array.dtype == np.float32 and array.shape == shape and np.isfinite(array).all() for array in arrays.values()
    )


def _split_parts(
    arrays: dict[str, np.ndarray], described: Any, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, Part]]:
    """Separate the arrays of the network from those of the parts.

    Raises:
        FileError: a required part is not known here, or an array belongs to no part.
    """
    if not isinstance(described, dict) or not all(isinstance(one, dict) for one in described.values()):
        raise _damaged(path)
    parts = {}
    for name, one in described.items():
        if name in KNOWN_PARTS:
            parts[name] = Part(one.get("settings") or {}, {}, bool(one.get("required", True)))
        elif one.get("required", True):
            raise FileError(f"{path} needs {name}, which this chargen does not know: pip install -U chargen")
    weights = {}
    for key, array in arrays.items():
        name, slash, inner = key.partition("/")
        if not slash:
            weights[key] = array
        elif name not in described:
            raise _damaged(path)
        elif name in parts:
            parts[name].arrays[inner] = array
    return weights, parts


def digest_of(header: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of all that a file holds: the name, the shape and the bytes of each of its parts."""
    digest = hashlib.sha256()
    parts = [(key, value.encode()) for key, value in header.items()]
    parts += [(f"{name} {array.dtype} {array.shape}", array.tobytes()) for name, array in arrays.items()]
    for name, content in sorted(parts, key=lambda part: part[0]):
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
