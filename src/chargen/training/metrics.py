"""The log of a run: `metrics.csv` always, and other loggers on request.

Lightning's own CSV logger deletes the file when a run continues; this one removes the rows of lost updates and appends.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from chargen.errors import ConfigError, FileError
from chargen.storage.atomic import atomic_write, open_no_follow

EVENTS = ("skipped", "rollbacks")
"""The columns of events, which stay in the file when a run returns to an earlier update by itself."""

COLUMNS = (
    *("update", "characters", "seconds"),
    *("train_nats_per_char", "validation_nats_per_char", "validation_bits_per_char"),
    *("learning_rate", "gradient_norm", "clip_fraction", "chars_per_second"),
    *EVENTS,
)
"""The columns of every `metrics.csv`; `diagnostic_columns` of the model follow them."""

_RENAMED = {"left_out": "skipped", "returns": "rollbacks"}  # columns of chargen 0.1


class MetricsFile(Logger):
    """`metrics.csv`: one row per measurement. A run that continues appends to its rows.

    Args:
        path: the file.
        clock: measures the seconds of the run.
        characters_seen: counts the characters that a number of updates have predicted.
        diagnostics: the columns that depend on the model, behind `COLUMNS`.
    """

    def __init__(
        self, path: Path, clock: Timer, characters_seen: Callable[[int], int], diagnostics: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.path = path
        self.columns = (*COLUMNS, *diagnostics)
        self.clock = clock
        self.characters_seen = characters_seen

    @property
    def name(self) -> str:
        """The name that Lightning asks for."""
        return "metrics"

    @property
    def version(self) -> str:
        """The version that Lightning asks for: there is one file."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the settings are in the run's config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row. A row that the disk does not take is dropped, and the run continues."""
        known = {name: f"{value:.6g}" for name, value in metrics.items() if name in self.columns}
        if not known:
            return
        update = step or 0
        row = {
            "update": update,
            "characters": self.characters_seen(update),
            "seconds": f"{self.clock.time_elapsed():.2f}",
            **known,
        }
        is_new = not self.path.exists()
        with contextlib.suppress(OSError), open_no_follow(self.path, "a", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, self.columns)
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def drop_after(self, update: int, *, keep_events: bool = False) -> None:
        """Remove the rows of updates after `update`, which were lost; keep rows of events if asked to.

        Raises:
            FileError: the file is not what chargen writes.
        """
        if not self.path.is_file():
            return
        try:
            with open(self.path, encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.DictReader(stream) if re.fullmatch("[0-9]{1,18}", row["update"] or "")]
        except (csv.Error, KeyError, UnicodeDecodeError):
            raise FileError(f"{self.path} is damaged: move it away, and the run begins a new one") from None
        rows = [{_RENAMED.get(name, name): value for name, value in row.items()} for row in rows]
        kept = (
            row for row in rows if int(row["update"]) <= update or (keep_events and any(row.get(e) for e in EVENTS))
        )
        with atomic_write(self.path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)


def extra_logger(name: str, run_dir: Path) -> Logger:
    """Return the logger of another program, which is imported only here.

    Raises:
        ConfigError: its package is not installed.
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
        raise ConfigError(f"logger={name}: its package is not installed; write pip install 'chargen[{name}]'") from None
