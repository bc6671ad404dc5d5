"""The settings of Lightning's Trainer: their names, and bounds for those that chargen reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chargen.errors import ConfigError
from chargen.schema import MAX_COUNT, Bound, nearest, require

SET_BY_CHARGEN = (
    *("callbacks", "default_root_dir", "enable_autolog_hparams", "enable_checkpointing", "enable_progress_bar"),
    *("logger", "model_registry", "plugins", "use_distributed_sampler"),
)
"""What chargen passes to the Trainer itself, or does not use."""

TRAINER_KEYS = (
    *("accelerator", "accumulate_grad_batches", "barebones", "benchmark", "check_val_every_n_epoch"),
    *("detect_anomaly", "deterministic", "devices", "enable_model_summary", "fast_dev_run"),
    *("gradient_clip_algorithm", "gradient_clip_val", "inference_mode", "limit_predict_batches"),
    *("limit_test_batches", "limit_train_batches", "limit_val_batches", "log_every_n_steps", "max_epochs"),
    *("max_steps", "max_time", "min_epochs", "min_steps", "num_nodes", "num_sanity_val_steps", "overfit_batches"),
    *("precision", "profiler", "reload_dataloaders_every_n_epochs", "strategy", "sync_batchnorm"),
    "val_check_interval",
)
"""Lightning's own settings, listed so that a misspelt one is noticed before Lightning is imported."""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT


def _is_clip(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


_COUNT = Bound(_is_count, "a whole number from 1 up")
_LIMIT = Bound(lambda value: value == -1 or _is_count(value), "a whole number from 1 up, or -1 for no limit")
_TRAINER_BOUNDS = {
    "max_steps": _LIMIT,
    "max_epochs": _LIMIT,
    "accumulate_grad_batches": _COUNT,
    "log_every_n_steps": _COUNT,
    "profiler": Bound(lambda value: value in ("simple", "advanced", "pytorch"), "simple, advanced or pytorch"),
    "gradient_clip_val": Bound(_is_clip, "a number from 0 up, or null for no clipping"),
    "gradient_clip_algorithm": Bound(lambda value: value in ("norm", "value"), "norm or value"),
}
"""The allowed values of what chargen itself reads; null is always allowed."""


def check_trainer(trainer: dict[str, Any]) -> None:
    """Check the names of Lightning's settings and the values that chargen reads.

    Raises:
        ConfigError: one is unknown, set by chargen itself, or out of range.
    """
    for key in trainer:
        require(f"trainer.{key}", trainer[key], key not in SET_BY_CHARGEN, "chargen sets this itself; leave it out")
        if key not in TRAINER_KEYS:
            hint = nearest(f"trainer.{key}", [f"trainer.{known}" for known in TRAINER_KEYS])
            raise ConfigError(f"trainer.{key}: there is no such setting{hint}")
    for key, bound in _TRAINER_BOUNDS.items():
        value = trainer.get(key)
        require(f"trainer.{key}", value, value is None or bound.holds(value), f"must be {bound.allowed}")
    devices = trainer.get("devices", 1)
    require("trainer.devices", devices, devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1),
            "chargen train runs on one device; write 1, or [1] for the second")  # fmt: skip
    require("trainer.num_nodes", trainer.get("num_nodes"), trainer.get("num_nodes") in (None, 1),
            "chargen train runs on one machine; leave it out")  # fmt: skip
    require("trainer.strategy", trainer.get("strategy"), trainer.get("strategy") in (None, "auto"),
            "chargen train runs on one device; leave it out")  # fmt: skip
    if trainer.get("max_time") is not None:
        parse_duration(trainer["max_time"])


DEFAULT_MAX_TIME = "00:00:03:00"
"""The length of a run that is given none, DD:HH:MM:SS."""


def parse_duration(max_time: Any) -> float:
    """Return Lightning's `max_time` in seconds.

    Raises:
        ConfigError: it is neither `DD:HH:MM:SS` nor a dictionary of units.
    """
    match max_time:
        case str() if found := re.fullmatch(r"(\d{1,9}):(\d\d):(\d\d):(\d\d)", max_time.strip()):
            days, hours, minutes, seconds = map(int, found.groups())
            total = _total_seconds({"days": days, "hours": hours, "minutes": minutes, "seconds": seconds})
        case Mapping():
            total = _total_seconds(max_time)
        case _:
            total = 0.0
    require("trainer.max_time", max_time, total > 0, f"write DD:HH:MM:SS; three minutes are {DEFAULT_MAX_TIME}")
    return total


def _total_seconds(units: Mapping[str, Any]) -> float:
    """Return a duration in seconds, or 0 if the units are not those of a duration."""
    try:
        return timedelta(**units).total_seconds()
    except (TypeError, OverflowError, ValueError):
        return 0.0


def format_duration(seconds: float) -> str:
    """Write seconds, at least one, as `trainer.max_time` is typed: DD:HH:MM:SS."""
    minutes, rest = divmod(max(1, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:02}:{hours:02}:{minutes:02}:{rest:02}"
