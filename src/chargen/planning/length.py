"""The length of a run: seconds, updates, and passes over the text.

Dimensions: B lanes, T characters in a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from chargen.config import ModelConfig, TrainConfig
from chargen.durations import DEFAULT_MAX_TIME, parse_duration
from chargen.errors import ConfigError
from chargen.planning.advice import TrainingText, advice, num_passes_in_words, weight_dropout

NUM_VALIDATIONS = 10
"""How many validations a run has, unless its settings say otherwise."""

MIN_ADVISED_SECONDS = 60.0
"""A run of less time is a trial: nothing is advised."""

VALIDATED_PER_TRAINED = 0.2
"""Characters that all validations of a run read together, relative to those that it trains on.

A character takes about a third of the time where nothing is learned from it (0.26 to 0.36, measured), so validations
take about a fifteenth of the time.
"""


@dataclass(frozen=True)
class RunLength:
    """When a run ends: at the first of these limits.

    Attributes:
        max_seconds: None for no limit.
        max_updates: None for no limit.
    """

    max_seconds: float | None
    max_updates: int | None

    @property
    def seconds_if_timed(self) -> float | None:
        """The seconds of a run whose length is given as a time alone; None for any other."""
        return None if self.max_updates else self.max_seconds

    def __str__(self) -> str:
        limits = [f"{self.max_updates:,} updates"] if self.max_updates else []
        limits += [clock_time(self.max_seconds)] if self.max_seconds else []
        return " or ".join(limits)


@dataclass(frozen=True)
class RunPlan:
    """The numbers that follow from the settings of a run and the size of its text.

    Attributes:
        config: the settings.
        num_characters: characters of the training text.
        vocab_size: V.
    """

    config: TrainConfig
    num_characters: int
    vocab_size: int

    @property
    def model(self) -> ModelConfig:
        """The shape of the model, with its vocabulary size."""
        return replace(self.config.model, vocab_size=self.vocab_size)

    @property
    def num_parameters(self) -> int:
        """Parameters of the model."""
        return self.model.num_parameters

    @property
    def windows_of_text(self) -> int:
        """Windows in the whole training text."""
        longest_lane = math.ceil((self.num_characters - 1) / self.config.batch_size)
        return math.ceil(longest_lane / self.config.sequence_length)

    @property
    def windows_per_pass(self) -> int:
        """Windows in one pass over the text, or over the part that the settings of the Trainer leave of it.

        Raises:
            ConfigError: that part has no window.
        """
        key, limit = self.config.train_limit
        windows = self.windows_of_text
        windows_left = limited(windows, limit)
        if windows_left < 1:
            raise ConfigError(f"trainer.{key}={limit}: a pass has {windows:,} windows, so write 1 for one of them")
        return windows_left

    @property
    def updates_per_pass(self) -> int:
        """Updates in one pass; the last one averages the gradients of the windows that are left."""
        return math.ceil(self.windows_per_pass / self.config.windows_per_update)

    @property
    def characters_per_pass(self) -> int:
        """Characters that are predicted in one pass."""
        return self._characters_in(self.windows_per_pass)

    def _characters_in(self, windows: int) -> int:
        return min(windows * self.config.batch_size * self.config.sequence_length, self.num_characters - 1)

    @property
    def length(self) -> RunLength:
        """When the run ends, by `trainer.max_time`, `max_steps` and `max_epochs`; three minutes if none is given."""
        trainer = self.config.trainer
        max_time, limits = trainer.get("max_time"), []
        if trainer.get("max_steps") not in (None, -1):
            limits.append(trainer["max_steps"])
        if trainer.get("max_epochs") not in (None, -1):
            limits.append(trainer["max_epochs"] * self.updates_per_pass)
        if not limits and max_time is None:
            max_time = DEFAULT_MAX_TIME
        return RunLength(parse_duration(max_time) if max_time is not None else None, min(limits, default=None))

    def advice(self, updates: int) -> str:
        """Return how often a run of this many updates reads its text, and what to change if that does not fit.

        Nothing is advised where the user has set the number of updates or of passes, or tries a short run.
        """
        seconds = self.length.seconds_if_timed
        if seconds is None or seconds < MIN_ADVISED_SECONDS:
            return num_passes_in_words(updates, self.training_text)
        return advice(updates, self.training_text, seconds, dropped=self.config.model.weight_dropout or 0.0)

    @property
    def training_text(self) -> TrainingText:
        """The text as `advice` needs it."""
        return TrainingText(self.characters_per_pass, self.updates_per_pass, self.num_parameters)

    def num_validations(self, updates: int) -> float:
        """Estimate how many validations a run of this many updates has."""
        if self.validates_by_progress:
            return NUM_VALIDATIONS
        trainer = self.config.trainer
        interval, passes = trainer.get("val_check_interval"), trainer.get("check_val_every_n_epoch")
        windows = updates * self.config.windows_per_update
        if isinstance(interval, (str, Mapping)):
            seconds = self.length.max_seconds
            return seconds / parse_duration(interval) if seconds is not None else NUM_VALIDATIONS
        if interval is None or (isinstance(interval, float) and interval <= 1):
            return updates / self.updates_per_pass / (interval or 1.0) / (passes or 1)
        return float(windows / interval / (passes or 1))

    def validated_characters(self, updates: int) -> int:
        """Return how many held-out characters each validation may read in a run of this many updates."""
        trained = self.characters_seen(updates)
        return int(trained * VALIDATED_PER_TRAINED / max(1.0, self.num_validations(updates)))

    @property
    def validates_by_progress(self) -> bool:
        """Whether validations follow the progress of the run, because no setting says when to validate."""
        trainer = self.config.trainer
        return trainer.get("val_check_interval") is None and trainer.get("check_val_every_n_epoch") is None

    @property
    def has_validations(self) -> bool:
        """Whether the settings leave any validation."""
        trainer, updates = self.config.trainer, self.length.max_updates
        passes = trainer.get("check_val_every_n_epoch") or 1
        is_too_short = updates is not None and updates < passes * self.updates_per_pass
        return self.config.validation_limit != 0 and (passes == 1 or not is_too_short)

    def require_validations(self) -> None:
        """Check that validations come within a pass, and that a run that stops early has any.

        Raises:
            ConfigError: they do not, or it has none.
        """
        trainer = self.config.trainer
        interval, passes = trainer.get("val_check_interval"), trainer.get("check_val_every_n_epoch")
        if isinstance(interval, (int, float)) and passes is not None and interval > self.windows_per_pass:
            raise ConfigError(
                f"trainer.val_check_interval={interval}: a pass has {self.windows_per_pass:,} windows; write a smaller "
                "number, or leave out trainer.check_val_every_n_epoch"
            )
        patience = self.config.early_stopping
        if patience is not None and not self.has_validations:
            raise ConfigError(
                f"early_stopping={patience}: the run has no validation; leave out trainer.limit_val_batches and "
                "trainer.check_val_every_n_epoch, or leave out early_stopping"
            )

    def num_passes(self, chars_per_second: Callable[[], float]) -> float:
        """Estimate how often the run reads its text.

        Args:
            chars_per_second: measures the speed of training; called only if the run is limited by time.
        """
        length, passes = self.length, math.inf
        if length.max_updates is not None:
            passes = length.max_updates / self.updates_per_pass
        if length.max_seconds is not None:
            passes = min(passes, length.max_seconds * chars_per_second() / self.characters_per_pass)
        return passes

    def seconds_for(self, num_passes: float, chars_per_second: float) -> float:
        """Estimate the time of a run that reads its text this often, validations included.

        Args:
            num_passes: passes over the text.
            chars_per_second: the speed of training.
        """
        validations = VALIDATED_PER_TRAINED / 3  # a character takes a third of the time
        return num_passes * self.characters_per_pass / chars_per_second * (1 + validations)

    def weight_dropout(self, num_passes: float) -> float:
        """Choose the fraction of recurrent weights to drop in a run that reads its text this often."""
        return weight_dropout(num_passes, self.characters_per_pass, self.num_parameters)

    def characters_seen(self, updates: int) -> int:
        """Count the characters that this many updates have predicted."""
        passes, rest = divmod(updates, self.updates_per_pass)
        windows = min(rest * self.config.windows_per_update, self.windows_per_pass)
        return passes * self.characters_per_pass + self._characters_in(windows)


def limited(num_windows: int, limit: float) -> int:
    """Apply a limit of Lightning to a number of windows: a fraction with a decimal point, or a number."""
    is_fraction = isinstance(limit, float) and limit <= 1
    return int(num_windows * limit) if is_fraction else min(num_windows, int(limit))


def extended_time(given: float, elapsed: float, planned: float | None) -> float:
    """Return the whole time of a run that continues with another `trainer.max_time`, seconds.

    A time longer than the run's own is the time of the whole run. A time that the run has already had is added to it.

    Args:
        given: the new time.
        elapsed: what the run has trained.
        planned: the time of a run that has come to its end; None for one that has not.
    """
    return elapsed + given if given <= max(elapsed, planned or 0.0) else given


def clock_time(seconds: float) -> str:
    """Write a duration for a person: `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
