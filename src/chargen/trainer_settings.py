"""Every setting of Lightning's Trainer: what it does in chargen and which values are allowed, or why it is refused.

docs/TRAINER.md shows this table; a test compares it with the signature of the installed Trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chargen.durations import parse_duration
from chargen.errors import ConfigError
from chargen.schema import MAX_COUNT, Bound, nearest, one_of, require


@dataclass(frozen=True)
class TrainerSetting:
    """One setting of Lightning's Trainer.

    Attributes:
        meaning: what it does; of a refused setting, what to write instead.
        bound: the allowed values besides null.
        is_refused: whether chargen accepts no other values than those of `bound`, which change nothing.
        is_resumable: whether a resumed run may change it.
    """

    meaning: str
    bound: Bound
    is_refused: bool = False
    is_resumable: bool = True


def _is_one_device(value: Any) -> bool:
    return value in (1, "1") or (isinstance(value, list) and len(value) == 1 and _is_count(value[0], 0))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_COUNT


def _is_share(value: Any) -> bool:
    """Tell whether a value is a number of windows, or a fraction of them with a decimal point."""
    return _is_count(value, 0) or (isinstance(value, float) and (0 <= value <= 1 or (value > 1 and value % 1 == 0)))


def _is_interval(value: Any) -> bool:
    return (_is_share(value) and value > 0) or _is_duration(value)


def _is_duration(value: Any) -> bool:
    try:
        return isinstance(value, (str, Mapping)) and parse_duration(value) > 0
    except ConfigError:
        return False


_PRECISIONS: dict[Any, str] = {
    **dict.fromkeys((None, 32, "32", "32-true"), "32-true"),
    **dict.fromkeys((64, "64", "64-true"), "64-true"),
    **dict.fromkeys((16, "16", "16-mixed"), "16-mixed"),
    **dict.fromkeys(("bf16", "bf16-mixed"), "bf16-mixed"),
    "bf16-true": "bf16-true",
}
"""Lightning's name of each precision by the ways to write it."""

_SWITCH = Bound(lambda value: isinstance(value, bool), "true or false")
_COUNT = Bound(_is_count, "a whole number from 1 up")
_LIMIT = Bound(lambda value: value == -1 or _is_count(value), "a whole number from 1 up, or -1 for no limit")
_PART = Bound(
    lambda value: _is_share(value) and value > 0, "a whole number of windows from 1 up, or a fraction such as 0.5"
)
_PART_OR_NONE = Bound(_is_share, "a whole number of windows, a fraction such as 0.5, or 0 for none")


def _works(meaning: str, bound: Bound, *, is_resumable: bool = True) -> TrainerSetting:
    return TrainerSetting(meaning, bound, is_resumable=is_resumable)


def _refused(instead: str, *unchanged: Any) -> TrainerSetting:
    """Make a setting that is refused, except with values that are Lightning's own defaults."""
    bound = Bound(lambda value: any(value == one and type(value) is type(one) for one in unchanged), "")
    return TrainerSetting(instead, bound, is_refused=True)


TRAINER_SETTINGS: dict[str, TrainerSetting] = {
    # where and how to compute
    "accelerator": _works("the processor: auto, cpu, gpu or cuda", one_of("auto", "cpu", "gpu", "cuda")),
    "devices": _works(
        "1, or a list of one number such as [1] for the second GPU",
        Bound(_is_one_device, "1, or [1] for the second: chargen train runs on one device"),
    ),
    "num_nodes": _refused("chargen train runs on one machine; leave it out", 1),
    "strategy": _refused("chargen train runs on one device; leave it out", "auto"),
    "precision": _works(
        "32-true, bf16-mixed, 16-mixed, bf16-true or 64-true; a CPU without bf16 computes mixed ones in float32",
        Bound(lambda value: not isinstance(value, (bool, float)) and value in _PRECISIONS,
              "32-true, bf16-mixed, 16-mixed, bf16-true or 64-true"),
        is_resumable=False,
    ),
    "benchmark": _works("let cuDNN choose its algorithms by measuring them", _SWITCH),
    "deterministic": _works(
        "let PyTorch use deterministic algorithms alone; warn: where there are any",
        Bound(lambda value: isinstance(value, bool) or value == "warn", "true, false or warn"),
    ),
    "sync_batchnorm": _refused("the model has no batch normalization; leave it out", False),
    "plugins": _refused("chargen sets them itself; leave it out"),
    # the length of a run
    "max_time": _works(
        "the length of the run as a time: 90s, 10m, 1h30m, or DD:HH:MM:SS", Bound(_is_duration, "a time such as 10m")
    ),
    "max_steps": _works("the length of the run in updates; -1 for no limit", _LIMIT),
    "max_epochs": _works("the length of the run in passes over the text; -1 for no limit", _LIMIT),
    "min_steps": _refused("a run ends at its limit; write trainer.max_steps and leave out early_stopping", 0),
    "min_epochs": _refused("a run ends at its limit; write trainer.max_epochs and leave out early_stopping", 0),
    "limit_train_batches": _works(
        "windows of each pass, or a fraction of them: the beginning of every lane", _PART, is_resumable=False
    ),
    "overfit_batches": _works(
        "read and validate on this many windows alone, or this fraction of them; 0 for all", _PART_OR_NONE,
        is_resumable=False,
    ),
    "fast_dev_run": _refused("it writes no files; write trainer.max_steps=1, or +experiment=smoke", False, 0),
    "barebones": _refused("it writes no files; benchmarks/bench_step.py measures the speed of training", False),
    # the gradient
    "accumulate_grad_batches": _works(
        "windows whose gradients are averaged in one update", _COUNT, is_resumable=False
    ),
    "gradient_clip_val": _works(
        "the largest norm of the gradient; null for no clipping",
        Bound(lambda value: _is_number(value) and value >= 0, "a number from 0 up, or null for no clipping"),
    ),
    "gradient_clip_algorithm": _works(
        "norm clips the global norm; value clips each number by itself", one_of("norm", "value")
    ),
    "detect_anomaly": _works("stop with a traceback where a gradient becomes NaN; slow", _SWITCH),
    # validation
    "val_check_interval": _works(
        "windows between two validations, a fraction of a pass such as 0.25, or a time; null: ten in a run",
        Bound(_is_interval, "a whole number of windows, a fraction of a pass such as 0.25, or a time such as 30s"),
    ),
    "check_val_every_n_epoch": _works("passes between two validations; null counts windows across passes", _COUNT),
    "limit_val_batches": _works(
        "windows of each validation, or a fraction of them; 0 for no validation", _PART_OR_NONE
    ),
    "num_sanity_val_steps": _works(
        "windows of a validation before the first update, whose score is not used; -1 for all",
        Bound(lambda value: value == -1 or _is_count(value, 0), "a whole number from 0 up, or -1 for all"),
    ),
    "inference_mode": _refused("validations during training run under torch.no_grad; leave it out", True),
    "limit_test_batches": _refused("chargen train does not test; write chargen evaluate RUN", 1.0),
    "limit_predict_batches": _refused("chargen train does not predict; write chargen sample RUN", 1.0),
    "reload_dataloaders_every_n_epochs": _refused("the text stays the same during a run; leave it out", 0),
    "use_distributed_sampler": _refused("windows are read in the order of the text; leave it out"),
    # what is shown and written
    "log_every_n_steps": _works("updates between two rows of metrics.csv", _COUNT),
    "enable_model_summary": _works("show the layers of the model and their parameters", _SWITCH),
    "profiler": _works(
        "simple, advanced or pytorch: report where the time goes, also in fit-profile.txt of the run",
        one_of("simple", "advanced", "pytorch"),
    ),
    "logger": _refused("write logger=tensorboard, wandb or mlflow; metrics.csv is always written"),
    "callbacks": _refused("chargen sets them itself; leave it out"),
    "default_root_dir": _refused("write run_dir=FOLDER"),
    "enable_checkpointing": _refused("every run writes last.ckpt; write save_every_minutes=NUMBER for how often"),
    "enable_progress_bar": _refused("a bar is shown on a terminal and lines elsewhere; leave it out"),
    "enable_autolog_hparams": _refused("the settings of a run are in its config.yaml; leave it out"),
    "model_registry": _refused("chargen uploads no models; leave it out"),
}  # fmt: skip
"""Every argument of Lightning's Trainer."""


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Check the names and values of Lightning's settings before Lightning is imported.

    Raises:
        ConfigError: one is unknown, refused or out of range.
    """
    for key, value in trainer.items():
        name = f"trainer.{key}"
        if key not in TRAINER_SETTINGS:
            hint = nearest(name, [f"trainer.{known}" for known in TRAINER_SETTINGS])
            raise ConfigError(f"{name}: there is no such setting{hint}")
        setting = TRAINER_SETTINGS[key]
        if value is None:  # Lightning's default
            continue
        if key == "accelerator" and value == "mps":
            raise ConfigError(f"{name}=mps: chargen does not compute on Apple's GPU; write {name}=cpu")
        if key == "max_time":
            parse_duration(value)
        try:
            is_allowed = setting.bound.holds(value)
        except TypeError:  # a list or a group of settings, where a word is needed
            is_allowed = False
        allowed = f"must be {setting.bound.allowed}{nearest(str(value), setting.bound.choices)}"
        require(name, value, is_allowed, setting.meaning if setting.is_refused else allowed)


def canonical_trainer_value(key: str, value: Any) -> Any:
    """Return the same value for two spellings of it, so that they can be compared."""
    if key == "precision":
        return _PRECISIONS.get(value, value)
    neutral = {"accumulate_grad_batches": 1, "limit_train_batches": 1.0, "overfit_batches": 0}
    return neutral.get(key) if value is None else value
