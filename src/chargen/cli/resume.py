"""The settings of a run that continues: those in its checkpoint, and what the user may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chargen.cli.console import warn
from chargen.cli.stored_corpus import require_known_download, with_known_data_dir
from chargen.config import TrainConfig, resumable_keys
from chargen.errors import ConfigError
from chargen.storage.atomic import as_path
from chargen.storage.checkpoint import CHECKPOINT, Checkpoint
from chargen.storage.run_folder import existing_runs
from chargen.trainer_settings import TRAINER_SETTINGS, canonical_trainer_value

if TYPE_CHECKING:
    from collections.abc import Iterable

PLACE = ("path", "url", "file", "size", "sha256")
"""The settings of a corpus that say where its text lies. A resumed run may change them if the text stays the same."""

TEXT_KEYS = ("corpus", *(f"corpus.{name}" for name in PLACE))

_LENGTH = ("trainer.max_time", "trainer.max_steps", "trainer.max_epochs")


@dataclass(frozen=True)
class ResumedRun:
    """A run to continue.

    Attributes:
        config: its settings, changed as the user wishes.
        checkpoint: where it stands.
        has_new_length: whether the user has given it another length.
        has_new_text: whether the user has said where its text lies.
    """

    config: TrainConfig
    checkpoint: Checkpoint
    has_new_length: bool
    has_new_text: bool


def resumed_run(given: TrainConfig, keys: Iterable[str]) -> ResumedRun:
    """Read the run that `given.resume` names.

    Args:
        given: the settings as typed, over the defaults.
        keys: the keys that were typed.

    Raises:
        UserError: the checkpoint cannot be used, or a setting cannot be changed.
    """
    file = as_path(str(given.resume))
    checkpoint, problem = Checkpoint.read_or_previous(file / CHECKPOINT if file.is_dir() else file, existing_runs)
    if problem:
        warn(f"{problem.partition('; give')[0]}; continuing from {checkpoint.file}, one checkpoint earlier")
    changed = [key for key in keys if key != "resume"]
    _require_changeable(changed)
    config = checkpoint.config
    _require_same_arithmetic(config, given, changed)
    has_new_length = not set(_LENGTH).isdisjoint(changed)
    if has_new_length:
        config = replace(config, trainer={**config.trainer, "max_time": None, "max_steps": -1, "max_epochs": -1})
    config = config.with_changes(given, [key for key in changed if key != "corpus"])
    has_new_text = not set(changed).isdisjoint(TEXT_KEYS)
    if not {"corpus", "corpus.path"}.isdisjoint(changed):
        config = _with_text_of(given, config)
    if "data_dir" not in changed:
        config = with_known_data_dir(config)
    # Do not send metrics to an external service because a file says so.
    if config.logger not in (None, "tensorboard") and "logger" not in changed:
        warn(f"the run was logged by {config.logger}: write logger={config.logger} to log there again")
        config = replace(config, logger=None)
    config = replace(config, resume=str(checkpoint.file), run_dir=str(checkpoint.file.parent))
    if {"corpus", "corpus.path", "corpus.url"}.isdisjoint(changed):  # the address is that of the file
        require_known_download(config)
    return ResumedRun(config, checkpoint, has_new_length, has_new_text)


def _with_text_of(given: TrainConfig, config: TrainConfig) -> TrainConfig:
    """Return settings whose text lies where `given` says; its digest will show whether it is the same."""
    return replace(config, corpus=replace(config.corpus, **{key: getattr(given.corpus, key) for key in PLACE}))


def _require_same_arithmetic(stored: TrainConfig, given: TrainConfig, keys: Sequence[str]) -> None:
    """Refuse other values of the Trainer's settings that a checkpoint depends on.

    Raises:
        ConfigError: there is one.
    """
    for key, setting in TRAINER_SETTINGS.items():
        name = f"trainer.{key}"
        if name in keys and not setting.is_resumable:
            before, now = (canonical_trainer_value(key, config.trainer.get(key)) for config in (stored, given))
            if before != now:
                raise ConfigError(f"{name}={now}: a resumed run keeps this setting, {name}={before}; leave it out")


def _require_changeable(keys: Sequence[str]) -> None:
    """Refuse keys that change what is learned.

    Raises:
        ConfigError: there is one.
    """
    allowed = resumable_keys()
    for key in keys:
        if not key.startswith("trainer.") and key not in (*allowed, *TEXT_KEYS):
            raise ConfigError(
                f"{key}: a resumed run keeps this setting; only trainer.*, {', '.join(allowed)} and the place of the "
                "text (corpus.path) can change"
            )
