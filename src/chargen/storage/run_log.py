"""The measurements of a run, as `metrics.csv` holds them."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chargen.errors import FileError
from chargen.storage.run_folder import METRICS

Points = tuple[list[float], list[float]]
"""The x and y coordinates of points."""


@dataclass(frozen=True)
class RunLog:
    """The rows of a `metrics.csv`.

    Attributes:
        file: the file.
        rows: the cells of each row by the name of their column.
    """

    file: Path
    rows: list[dict[str, str]]

    @staticmethod
    def read(folder: Path) -> RunLog:
        """Read the measurements of the run in a folder.

        Raises:
            FileError: there are none, or they are damaged.
        """
        file = folder / METRICS
        try:
            if not file.is_file():
                raise FileNotFoundError
            with open(file, encoding="utf-8", newline="") as stream:
                rows = list(csv.DictReader(stream))
        except OSError:
            raise FileError(f"{folder} holds no {METRICS}: give the folder of a run") from None
        except (csv.Error, UnicodeDecodeError):
            raise _damaged(file) from None
        log = RunLog(file, rows)
        if rows and "seconds" not in rows[0]:
            raise _damaged(file)
        return log

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [name for name in self.rows[0] if name] if self.rows else []

    def points(self, column: str, *, against: str = "seconds", where: str = "") -> Points:
        """Return the values of a column that are finite, against those of another one.

        Args:
            column: whose values to return; a log without it has no points.
            against: the column of the x coordinates.
            where: only rows that have a value in this column; "" for all.

        Raises:
            FileError: a value is not a number.
        """
        try:
            found = [
                (float(row[against]), float(row[column]))
                for row in self.rows
                if row.get(column) and (not where or row.get(where))
            ]
        except (KeyError, TypeError, ValueError):
            raise _damaged(self.file) from None
        finite = [point for point in found if all(map(math.isfinite, point))]
        return [x for x, _ in finite], [y for _, y in finite]


def clip_limit(config: dict[str, Any]) -> float | None:
    """Return the norm above which the settings of a run clip the gradient; None if they do not clip by norm."""
    trainer = config.get("trainer")
    if not isinstance(trainer, dict) or trainer.get("gradient_clip_algorithm") not in (None, "norm"):
        return None
    limit = trainer.get("gradient_clip_val")
    return float(limit) if isinstance(limit, (int, float)) and limit > 0 else None


def _damaged(file: Path) -> FileError:
    return FileError(f"{file} is damaged: its rows are not what chargen writes")
