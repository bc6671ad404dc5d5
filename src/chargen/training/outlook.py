"""Where a run is heading: the score to expect at its end, and the n-gram models that it has passed.

The n-grams are counted in a process of low priority beside the run, if the text is small and the run is long enough.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from chargen.corpus.encoded import Corpus
from chargen.ngrams import ladder
from chargen.planning.forecast import Validation, forecast
from chargen.planning.length import clock_time
from chargen.training.module import VALIDATION_SCORE, module_of

MAX_COUNTED = 2_000_000
"""The largest training text whose n-grams are counted beside the run, characters."""

SCORED = 20_000
"""Characters of the held-out text that the n-grams predict."""

LEAST_SECONDS, AFTER_SECONDS = 60.0, 5.0
"""A run with a shorter time is not disturbed; counting begins after so many seconds, so that short runs end before."""

MAX_ORDER, LARGE_VOCABULARY, MAX_ORDER_OF_LARGE = 7, 1000, 4
"""The highest order; where a vocabulary is large, as in Chinese, the highest order that still helps is lower."""

BARS = "▁▂▃▄▅▆▇█"


class Outlook(Callback):
    """Forecast the end of a run, and say which n-grams it has passed.

    Args:
        corpus: its text.
        max_seconds: the time of the run; None if it is not limited.
        elapsed: returns the seconds of the run so far.
        say: prints a line.
        per: what a score is per, `char` or `byte`.
    """

    def __init__(
        self,
        corpus: Corpus,
        max_seconds: float | None,
        elapsed: Callable[[], float],
        say: Callable[[str], None],
        *,
        per: str = "char",
    ) -> None:
        self.corpus = corpus
        self.elapsed = elapsed
        self.say = say
        self.per = per
        self.validations: list[Validation] = []
        self.scores: list[float] = []  # of the n-grams, by order from 1 on
        self._passed = 0  # n-gram orders that the run has passed
        self._started_at = 0.0
        is_small = len(corpus.train) <= MAX_COUNTED and len(corpus.validation) > SCORED
        self._may_count = is_small and (max_seconds is None or max_seconds >= LEAST_SECONDS)
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def forecast(self) -> float | None:
        """The score to expect at the end of the run; None after too few validations."""
        return forecast(self.validations)

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Note the time."""
        self._started_at = time.monotonic()

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Begin to count n-grams once the run has lasted for a few seconds."""
        if self._may_count and time.monotonic() - self._started_at > AFTER_SECONDS:
            self._may_count = False
            self._start_counting()

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Take the score into the forecast, and compare it with the n-grams."""
        if trainer.sanity_checking:
            return
        own = module_of(trainer)
        nats = float(trainer.callback_metrics[VALIDATION_SCORE])
        peak = own.optimizer_config.learning_rate
        self.validations.append(
            Validation(own.schedule.progress_at(trainer.global_step), nats, own.learning_rate / peak if peak else 0.0)
        )
        self._collect()
        passed = sum(score > nats for score in self.scores)
        if passed > self._passed:
            self._passed = passed
            best = min(score for score in self.scores if score > nats)
            order = self.scores.index(best) + 1
            self.say(
                f"past Kneser-Ney n-grams of order {order} ({best:.4f} nats/{self.per}) at {clock_time(self.elapsed())}"
            )

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop counting."""
        self._stop_counting()

    @rank_zero_only
    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Stop counting when the run is broken off."""
        self._stop_counting()

    def _start_counting(self) -> None:
        """Start the process that counts; a run goes on without it where it cannot start."""
        tokenizer = self.corpus.tokenizer
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self._folder = tempfile.TemporaryDirectory()
            folder = Path(self._folder.name)
            num_train = len(self.corpus.train)
            np.save(folder / "ids.npy", np.asarray(self.corpus.ids[: num_train + SCORED]))
            order = MAX_ORDER if tokenizer.vocab_size < LARGE_VOCABULARY else MAX_ORDER_OF_LARGE
            task = {"ids": str(folder / "ids.npy"), "num_train": num_train, "vocab_size": tokenizer.vocab_size,
                    "max_order": order}  # fmt: skip
            (folder / "task.json").write_text(json.dumps(task), encoding="utf-8")
            self._process = subprocess.Popen(
                [sys.executable, str(ladder.__file__), str(folder / "task.json")],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True,
            )  # fmt: skip

    def _collect(self) -> None:
        """Read the scores, if they are there."""
        if self._process is None or self._process.poll() is None:
            return
        content, _ = self._process.communicate()
        self._process = None
        with contextlib.suppress(ValueError):  # the process has failed
            self.scores = json.loads(content)
        self._stop_counting()

    def _stop_counting(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.communicate()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def sparkline(values: list[float], width: int = 12) -> str:
    """Draw numbers as bars in one line of text: their means over equal parts, on a scale from the least to the largest.

    Args:
        values: the numbers; those that are not finite are left out.
        width: the most bars.
    """
    finite = np.array([value for value in values if np.isfinite(value)])
    if len(finite) < 2:
        return ""
    means = [float(part.mean()) for part in np.array_split(finite, min(width, len(finite)))]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)
