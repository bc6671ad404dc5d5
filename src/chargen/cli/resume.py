"""The settings of a run that continues: those in its checkpoint, and what the user may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chargen.cli.console import warn
from chargen.cli.stored_corpus import require_known_download, with_known_data_dir
from chargen.config import TrainConfig, resumable_keys
from chargen.errors import ConfigError
from chargen.storage.checkpoint import CHECKPOINT, Checkpoint
from chargen.storage.run_folder import existing_runs

if TYPE_CHECKING:
    from collections.abc import Iterable

_LENGTH = ("trainer.max_time", "trainer.max_steps", "trainer.max_epochs")


@dataclass(frozen=True)
class ResumedRun:
    """A run to continue.

    Attributes:
        config: its settings, changed as the user wishes.
        checkpoint: where it stands.
        has_new_length: whether the user has given it another length.
    """

    config: TrainConfig
    checkpoint: Checkpoint
    has_new_length: bool


def resumed_run(given: TrainConfig, keys: Iterable[str]) -> ResumedRun:
    """Read the run that `given.resume` names.

    Args:
        given: the settings as typed, over the defaults.
        keys: the keys that were typed.

    Raises:
        UserError: the checkpoint cannot be used, or a setting cannot be changed.
    """
    file = Path(str(given.resume))
    checkpoint, problem = Checkpoint.read_or_previous(file / CHECKPOINT if file.is_dir() else file, existing_runs)
    if problem:
        warn(f"{problem.partition('; give')[0]}; continuing from {checkpoint.file}, one checkpoint earlier")
    changed = [key for key in keys if key != "resume"]
    _require_changeable(changed)
    config = checkpoint.config
    has_new_length = not set(_LENGTH).isdisjoint(changed)
    if has_new_length:
        config = replace(config, trainer={**config.trainer, "max_time": None, "max_steps": -1, "max_epochs": -1})
    config = config.with_changes(given, changed)
    if "data_dir" not in changed:
        config = with_known_data_dir(config)
    # Do not send metrics to an external service because a file says so.
    if config.logger not in (None, "tensorboard") and "logger" not in changed:
        warn(f"the run was logged by {config.logger}: write logger={config.logger} to log there again")
        config = replace(config, logger=None)
    config = replace(config, resume=str(checkpoint.file), run_dir=str(checkpoint.file.parent))
    require_known_download(config)
    return ResumedRun(config, checkpoint, has_new_length)


def _require_changeable(keys: Sequence[str]) -> None:
    """Refuse keys that change what is learned.

    Raises:
        ConfigError: there is one.
    """
    allowed = resumable_keys()
    for key in keys:
        if not key.startswith("trainer.") and key not in allowed:
            raise ConfigError(
                f"{key}: a resumed run keeps this setting; only trainer.*, {', '.join(allowed[:-1])} "
                f"and {allowed[-1]} can change"
            )
