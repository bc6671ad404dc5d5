"""Lightning's profilers: a report of where the time of a run goes, in the run's folder and on the console."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from chargen.storage.run_folder import PROFILE

SHOWN_LINES = 30
"""Lines of the report that are shown on the console."""

_PROFILERS: dict[str, Callable[..., Profiler]] = {
    "simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler,
}  # fmt: skip


def profiler_of(name: str, run_dir: Path) -> Profiler:
    """Return a profiler by the name that Lightning gives to it.

    Args:
        name: `simple`, `advanced` or `pytorch`.
        run_dir: the folder of the run, for the report.
    """
    (run_dir / PROFILE).unlink(missing_ok=True)  # Lightning would append to it
    return _PROFILERS[name](dirpath=run_dir, filename="profile")


def profile_report(run_dir: Path) -> str:
    """Return the beginning of the report in a run's folder, and where to read the rest."""
    lines = [line.rstrip() for line in (run_dir / PROFILE).read_text(encoding="utf-8").splitlines() if line.strip()]
    rest = len(lines) - SHOWN_LINES
    more = f" ({rest:,} more lines)" if rest > 0 else ""
    return "\n".join([*lines[:SHOWN_LINES], f"written     {run_dir / PROFILE}{more}"])
