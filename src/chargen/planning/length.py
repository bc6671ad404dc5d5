"""The length of a run: seconds, updates, and passes over the text.

Dimensions: B lanes, T characters in a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from chargen.config import ModelConfig, TrainConfig
from chargen.planning.advice import TrainingText, advice, weight_dropout
from chargen.trainer_config import DEFAULT_MAX_TIME, parse_duration

NUM_VALIDATIONS = 10
"""How many validations a run has, unless its settings say otherwise."""


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
    def windows_per_pass(self) -> int:
        """Windows in one pass over the text."""
        longest_lane = math.ceil((self.num_characters - 1) / self.config.batch_size)
        return math.ceil(longest_lane / self.config.sequence_length)

    @property
    def updates_per_pass(self) -> int:
        """Updates in one pass over the text."""
        return math.ceil(self.windows_per_pass / self.config.windows_per_update)

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
        """Return how often a run of this many updates reads its text, and what to change if that does not fit."""
        return advice(
            updates, self.training_text, seconds=self.length.seconds_if_timed,
            dropped=self.config.model.weight_dropout or 0.0,
        )  # fmt: skip

    @property
    def training_text(self) -> TrainingText:
        """The text as `advice` needs it."""
        return TrainingText(self.num_characters, self.updates_per_pass, self.num_parameters)

    def num_passes(self, chars_per_second: Callable[[], float]) -> float:
        """Estimate how often the run reads its text.

        Args:
            chars_per_second: measures the speed of training; called only if the run is limited by time.
        """
        length, passes = self.length, math.inf
        if length.max_updates is not None:
            passes = length.max_updates * self.config.windows_per_update / self.windows_per_pass
        if length.max_seconds is not None:
            passes = min(passes, length.max_seconds * chars_per_second() / self.num_characters)
        return passes

    def weight_dropout(self, num_passes: float) -> float:
        """Choose the fraction of recurrent weights to drop in a run that reads its text this often."""
        return weight_dropout(num_passes, self.num_characters, self.num_parameters)

    def characters_seen(self, updates: int) -> int:
        """Count the characters that this many updates have predicted."""
        passes, rest = divmod(updates * self.config.windows_per_update, self.windows_per_pass)
        num_targets = self.num_characters - 1
        return passes * num_targets + min(rest * self.config.batch_size * self.config.sequence_length, num_targets)


def clock_time(seconds: float) -> str:
    """Write a duration for a person: `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
