"""`last.ckpt`: everything that a run needs to continue exactly. This module alone knows its keys.

A checkpoint is a zip archive of `torch.save` that holds tensors and plain data:

- what Lightning writes: `state_dict`, `optimizer_states`, `loops`, `callbacks`, `global_step`;
- `hyper_parameters`: the arguments of the LightningModule: `model`, `optimizer`, `tokenizer`, `metadata`;
- `chargen`: `format_version` and the fields of `TrainingState`; `initial_states` since chargen 0.3.

Its zip comment is a SHA-256 of the rest. The checkpoint before the last one stays beside it as `last.previous.ckpt`.
Format 2, of chargen 0.1, is read under its present names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from chargen.config import ModelConfig, TrainConfig, parse_stored_config
from chargen.errors import FileError
from chargen.storage.atomic import atomic_write, keep_previous, previous_path
from chargen.storage.checksum import add_checksum, checksum_matches
from chargen.storage.model_file import ModelFile, checked_model_config, metadata_from_format_2
from chargen.storage.plain_data import load_plain, require_plain

CHECKPOINT = "last.ckpt"
FORMAT_VERSION = 3

_REQUIRED = (
    (("hyper_parameters", "model"), dict),
    (("hyper_parameters", "tokenizer"), str),
    (("hyper_parameters", "metadata"), dict),
    (("hyper_parameters", "metadata", "config"), dict),
    (("hyper_parameters", "metadata", "corpus", "sha256"), str),
    (("state_dict",), dict),
    (("optimizer_states",), list),
    (("global_step",), int),
    (("callbacks", "Timer", "time_elapsed", "train"), float),
    (("chargen", "schedule", "total_updates"), (int, type(None))),
)
"""The values that are read before Lightning reads the checkpoint, and their types."""


@dataclass(frozen=True)
class TrainingState:
    """What chargen adds to Lightning's checkpoint, as tensors and plain data.

    Attributes:
        schedule: the fields of `planning.schedule.Schedule`.
        carry: the states of all lanes, (h,) or (h, c) per layer, each (B, H); None before the first window.
        detector: the fields of `training.divergence.DivergenceDetector`.
        generators: the states of the random number generators.
        initial_states: the states from which the model writes, `beginning` and `within`, each (P, H) float32; empty if
            there are none.
    """

    schedule: dict[str, Any]
    carry: Any
    detector: dict[str, Any]
    generators: dict[str, Any]
    initial_states: dict[str, Any] = field(default_factory=dict)

    def add_to(self, content: dict[str, Any]) -> None:
        """Add this state to the content of a checkpoint."""
        content["chargen"] = {"format_version": FORMAT_VERSION, **vars(self)}

    @staticmethod
    def of(content: dict[str, Any]) -> TrainingState:
        """Return the state in the content of a checkpoint."""
        stored = content["chargen"]
        return TrainingState(
            stored["schedule"], stored["carry"], stored.get("detector") or {}, stored.get("generators") or {}
        )


@dataclass
class Checkpoint:
    """The content of a `last.ckpt`, read and checked once.

    Attributes:
        file: where it was read.
        content: what Lightning reads. Lightning may keep tensors of it and change them in place: see `take`.
    """

    file: Path
    content: dict[str, Any] = field(repr=False)

    @staticmethod
    def read(file: Path, others: Callable[[], str] = lambda: "") -> Checkpoint:
        """Read a checkpoint to the CPU.

        Args:
            file: the file.
            others: names the runs that exist, for the message about a missing file.

        Raises:
            FileError: it is missing, damaged, written by another program or in a format that is not known here.
        """
        import torch  # imported late: a model.safetensors is read without it

        if not file.is_file():
            raise FileError(f"no such checkpoint: {file}{others()}")
        try:
            content = load_plain(file)
            version = content["chargen"]["format_version"]
            if type(version) is not int:
                raise TypeError
            if version == 2:
                content = _from_format_2(content)
            if 2 <= version <= FORMAT_VERSION:
                _require_parts(content, torch.Tensor)
        except (KeyError, TypeError, IndexError):
            raise FileError(f"{file} is a checkpoint of another program: give a {CHECKPOINT} of chargen") from None
        except Exception as error:  # torch raises many kinds of errors for damaged and foreign files
            raise FileError(
                f"{file} is truncated, damaged or not a checkpoint of plain data ({type(error).__name__}): give "
                "another one"
            ) from None
        if version < 2:
            raise FileError(
                f"{file} was written by an earlier chargen, in format {version}: start a new run, or use that version"
            )
        if not checksum_matches(file):
            raise FileError(
                f"{file} has been damaged since it was written: its checksum does not match; give another one"
            )
        if version > FORMAT_VERSION:
            raise FileError(f"{file} was written by a later chargen: update with pip install -U chargen")
        return Checkpoint(file, content)

    @staticmethod
    def read_or_previous(file: Path, others: Callable[[], str] = lambda: "") -> tuple[Checkpoint, str]:
        """Read a checkpoint or, if it is damaged, the one before it.

        Returns:
            The checkpoint, and what is wrong with the file that was named, or "".

        Raises:
            FileError: neither can be used.
        """
        try:
            return Checkpoint.read(file, others), ""
        except FileError as error:
            if not previous_path(file).is_file():
                raise
            return Checkpoint.read(previous_path(file)), str(error)

    @property
    def update(self) -> int:
        """How many updates the run had."""
        return int(self.content["global_step"])

    @property
    def seconds(self) -> float:
        """How many seconds the run had trained."""
        return float(self.content["callbacks"]["Timer"]["time_elapsed"]["train"])

    @property
    def total_updates(self) -> int | None:
        """The updates of the whole run; None if its length is a time and no estimate was made yet."""
        total = self.content["chargen"]["schedule"]["total_updates"]
        return None if total is None else int(total)

    @property
    def is_at_its_end(self) -> bool:
        """Whether this is the checkpoint of the run's last update."""
        return self.total_updates is not None and self.update >= self.total_updates

    @property
    def validation_seconds(self) -> float:
        """How many of the run's seconds its validations have taken; 0 if the file does not say."""
        seconds = self._validations.get("seconds")
        return seconds if isinstance(seconds, float) and 0 <= seconds <= self.seconds else 0.0

    @property
    def validation_windows(self) -> int | None:
        """How many windows a validation reads; None for all of them."""
        num_windows = self._validations.get("num_windows")
        return num_windows if isinstance(num_windows, int) and num_windows > 0 else None

    @property
    def _validations(self) -> dict[str, Any]:
        state = self.content["callbacks"].get("Validations")
        return state if isinstance(state, dict) else {}

    @property
    def metadata(self) -> dict[str, Any]:
        """What each file of the run stores about it: settings, corpus, versions, `start_id`."""
        return dict(self.content["hyper_parameters"]["metadata"])

    @property
    def tokenizer(self) -> str:
        """The tokenizer's JSON."""
        return str(self.content["hyper_parameters"]["tokenizer"])

    @property
    def corpus_sha256(self) -> str:
        """The digest of the text that the run learns from."""
        return str(self.metadata["corpus"]["sha256"])

    @cached_property
    def config(self) -> TrainConfig:
        """The settings of the run.

        Raises:
            ConfigError: they are not settings of chargen.
        """
        config = parse_stored_config(self.metadata["config"])
        if config.model.weight_dropout is None:  # chosen by the run, or unknown to chargen when the run began
            config.model.weight_dropout = 0.0
        return config

    @cached_property
    def model(self) -> ModelConfig:
        """The shape of the model."""
        config = checked_model_config(self.content["hyper_parameters"]["model"], self.file)
        config.weight_dropout = config.weight_dropout or 0.0
        return config

    @property
    def state_dict(self) -> dict[str, Any]:
        """The weights, under the names of the LightningModule."""
        return dict(self.content["state_dict"])

    def model_file(self) -> ModelFile:
        """Return the model with its weights in float32.

        Raises:
            FileError: its weights or initial states do not have the shapes of its settings.
        """
        weights = {name.removeprefix("model."): value.float().numpy() for name, value in self.state_dict.items()}
        model = ModelFile(weights, self.model, self.tokenizer, self.metadata)
        if states := self.content["chargen"].get("initial_states"):
            model = model.with_initial_states({name: state.numpy() for name, state in states.items()})
        return model.checked(self.file)

    def take(self) -> dict[str, Any]:
        """Hand the content over to a reader that may change it; the checkpoint must not be used afterwards."""
        content, self.content = self.content, {}
        return content


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically, read it back, and keep the one before it as `previous_path(path)`.

    Raises:
        OSError: it cannot be written, or the disk returns other bytes.
    """
    import torch

    with atomic_write(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch raises it for a full disk
            raise OSError(str(error).splitlines()[0]) from None
        add_checksum(temporary)
        if not checksum_matches(temporary):
            raise OSError(f"{path} did not come back from the disk as it was written")
        if path.is_file() and checksum_matches(path):
            keep_previous(path)


def _require_parts(content: dict[str, Any], tensor: type[Any]) -> None:
    """Check that everything is there that is read before Lightning reads the checkpoint.

    Raises:
        TypeError: something is missing or of another type.
        ValueError: the hyper-parameters are not plain data.
    """
    for keys, kind in _REQUIRED:
        part: Any = content
        for key in keys:
            if not isinstance(part, dict):
                raise TypeError
            part = part[key]
        if not isinstance(part, kind):
            raise TypeError
    for name, weight in content["state_dict"].items():
        if not (isinstance(weight, tensor) and weight.is_floating_point() and str(name).startswith("model.")):
            raise TypeError
    for state in content["chargen"].get("initial_states", {}).values():
        if not (isinstance(state, tensor) and str(state.dtype) == "torch.float32"):
            raise TypeError
    require_plain(content["hyper_parameters"], None)
    seconds = content["callbacks"]["Timer"]["time_elapsed"]["train"]
    if not (math.isfinite(seconds) and seconds >= 0):
        raise TypeError


_DETECTOR_FROM_2 = {
    **{name: name for name in ("mean", "deviation", "streak")},
    **{"known": "num_losses", "returns": "rollbacks"},
    **{"kept": "window", "kept_loss": "window_loss", "kept_for": "window_age"},
}


def _from_format_2(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a checkpoint of chargen 0.1 under its present names."""
    hyper, stored = dict(content["hyper_parameters"]), dict(content["chargen"])
    hyper["metadata"] = metadata_from_format_2(hyper.pop("run"))
    plan = dict(stored.pop("plan"))
    stored["schedule"] = {"total_updates": plan.pop("total"), **plan}
    guard = dict(stored.pop("guard", {}))
    stored["detector"] = {_DETECTOR_FROM_2.get(name, name): value for name, value in guard.items()}
    callbacks = dict(content["callbacks"])
    if "KeepBest" in callbacks:
        callbacks["BestModelWriter"] = callbacks.pop("KeepBest")
    return {**content, "hyper_parameters": hyper, "callbacks": callbacks, "chargen": stored}
