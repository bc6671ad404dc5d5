"""Build Lightning's Trainer from the settings of a run."""

from __future__ import annotations

import inspect
import logging
import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from chargen.config import TrainConfig
from chargen.durations import parse_duration
from chargen.errors import ConfigError
from chargen.planning.length import RunLength
from chargen.schema import MAX_COUNT
from chargen.trainer_settings import TRAINER_SETTINGS
from chargen.training.checkpoints import CheckpointFiles
from chargen.training.hardware import accelerator_of
from chargen.training.profile import profiler_of


def build_trainer(
    config: TrainConfig,
    length: RunLength,
    *,
    callbacks: list[Callback],
    loggers: list[Logger],
    files: CheckpointFiles,
) -> Trainer:
    """Build Lightning's Trainer: quiet, on one device, and counting validations across passes over the text.

    Raises:
        ConfigError: Lightning refuses one of its settings.
    """
    own = {"max_time", "max_steps", "max_epochs", "limit_train_batches", "limit_val_batches", "overfit_batches"}
    settings = {
        name: value for name, value in config.trainer.items()
        if name not in own and value is not None and not TRAINER_SETTINGS[name].is_refused
    }  # fmt: skip
    settings["accelerator"] = accelerator_of(config)
    if "val_check_interval" not in settings and "check_val_every_n_epoch" not in settings:
        settings["val_check_interval"] = MAX_COUNT  # `Validations` says when
    interval = settings.setdefault("val_check_interval", 1.0)
    if isinstance(interval, (str, Mapping)):
        settings["val_check_interval"] = timedelta(seconds=parse_duration(interval))
    if not isinstance(settings["val_check_interval"], float):
        settings.setdefault("check_val_every_n_epoch", None)
    if profiler := settings.get("profiler"):
        settings["profiler"] = profiler_of(profiler, Path(config.run_dir))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)`.*")
    # Lightning reads the arguments that it is not given from environment variables, PL_TRAINER_...
    defaults = {name: one.default for name, one in inspect.signature(Trainer).parameters.items()}
    try:
        trainer = Trainer(**{
            **defaults,
            "max_steps": length.max_updates or -1,
            "max_epochs": -1,
            "limit_val_batches": 1.0 if config.validation_limit else 0,  # the data module applies the limit
            "callbacks": callbacks,
            "logger": loggers,
            # A launcher's variables, such as those of SLURM, do not count for a run on one device.
            "plugins": [files, LightningEnvironment()],
            "default_root_dir": config.run_dir,
            "enable_progress_bar": False,
            "enable_checkpointing": True,
            "enable_model_summary": False,
            "use_distributed_sampler": False,
            **settings,
        })  # fmt: skip
    except (MisconfigurationException, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise config_error(error, config) from None
    vars(rank_zero_only)["rank"] = trainer.global_rank  # Lightning has read it from a launcher's variables
    return trainer


def config_error(error: Exception, config: TrainConfig) -> ConfigError:
    """Make an error that names the setting of which Lightning speaks."""
    accelerator = config.trainer.get("accelerator")
    if accelerator not in (None, "auto", "cpu") and re.search("accelerator|backend", str(error)):
        return ConfigError(f"trainer.accelerator={accelerator}: this machine has none; write trainer.accelerator=auto")
    if "`devices`" in str(error):
        return ConfigError(f"trainer.devices={config.trainer['devices']}: a list is for GPUs; write trainer.devices=1")
    named = [name for name in re.findall(r"`(\w+)\b", str(error)) if name in config.trainer]
    return ConfigError(f"trainer.{named[0]}={config.trainer[named[0]]}: {error}" if named else f"trainer: {error}")
