"""Where a run's numbers go: `metrics.csv` always, and the loggers of others when asked for.

Lightning's own CSV logger deletes the file when a run goes on; this one cuts what was lost and goes on.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from chargen.storage.atomic import atomic_write, open_no_follow

COLUMNS = (
    "update",
    "characters",
    "seconds",
    "train_nats_per_char",
    "validation_nats_per_char",
    "validation_bits_per_char",
    "learning_rate",
    "gradient_norm",
    "clip_fraction",
    "chars_per_second",
    "skipped",
    "returns",
)
"""The columns of `metrics.csv`."""

EVENTS = ("skipped", "returns")
"""Those of what went wrong, which stays written when a run goes back to where it was whole."""


class MetricsFile(Logger):
    """`metrics.csv`: one row per measurement; a resumed run goes on behind the rows it had.

    Args:
        path: of the file.
        clock: the run's seconds.
        chars_per_update: B * T.
    """

    def __init__(self, path: Path, clock: Timer, chars_per_update: int) -> None:
        super().__init__()
        self.path = path
        self.clock = clock
        self.chars_per_update = chars_per_update

    @property
    def name(self) -> str:
        """As Lightning calls it."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """They stand in the run's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Appends a row. One that the disk does not take is lost: a run is worth more than its log."""
        known = {name: f"{value:.6g}" for name, value in metrics.items() if name in COLUMNS}
        if not known:
            return
        update = step or 0
        row = {
            "update": update,
            "characters": update * self.chars_per_update,
            "seconds": f"{self.clock.time_elapsed():.2f}",
            **known,
        }
        fresh = not self.path.exists()
        with contextlib.suppress(OSError), open_no_follow(self.path, "a", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def cut_behind(self, update: int, keep_events: bool = False) -> None:
        """Drops the rows of updates that were lost; of a run that goes back by itself, what went wrong is kept.

        Raises:
            ValueError: it is not what chargen writes.
        """
        if not self.path.is_file():
            return
        try:
            with open(self.path, encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.DictReader(stream) if re.fullmatch("[0-9]{1,18}", row["update"] or "")]
        except (csv.Error, KeyError, UnicodeDecodeError):
            raise ValueError(f"{self.path} is damaged: move it away, and a new one is begun") from None
        kept = (
            row for row in rows if int(row["update"]) <= update or (keep_events and any(row.get(e) for e in EVENTS))
        )
        with atomic_write(self.path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)


def extra_logger(name: str, run_dir: Path) -> Logger:
    """The logger of another program, imported only when it is asked for.

    Raises:
        ValueError: its package is not installed.
    """
    try:
        if name == "tensorboard":
            from lightning.pytorch.loggers import TensorBoardLogger

            return TensorBoardLogger(run_dir, name="", version="tensorboard")
        if name == "wandb":
            from lightning.pytorch.loggers import WandbLogger

            return WandbLogger(project="chargen", name=run_dir.name, save_dir=run_dir)
        from lightning.pytorch.loggers import MLFlowLogger

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{run_dir.absolute() / 'mlflow.db'}"
        return MLFlowLogger("chargen", run_name=run_dir.name, tracking_uri=uri)
    except ImportError:
        raise ValueError(f"logger={name}: its package is not installed; write pip install 'chargen[{name}]'") from None
