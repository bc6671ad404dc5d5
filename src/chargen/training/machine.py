"""On what a run was computed: the processor, the version of the code, and how busy other processes kept the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import chargen
from chargen.planning.size import machine_megabytes


class MachineWatch:
    """Watches the machine from now on."""

    def __init__(self) -> None:
        self._begin = _busy_seconds()

    def report(self) -> dict[str, Any]:
        """Describe the machine, as `summary.json` stores it.

        Returns:
            `processor`, `processors` (their number), `memory_gigabytes`; `busy_with_others`, the fraction of all
            processors' time since the start that other processes or virtual machines took, None if the system does not
            tell; and for a checkout of git, `commit` and `is_dirty`.
        """
        begin, end = self._begin, _busy_seconds()
        others = None
        if begin is not None and end is not None and end[1] > begin[1]:
            busy, total, own = (after - before for before, after in zip(begin, end, strict=True))
            others = round(min(1.0, max(0.0, (busy - own) / total)), 3)
        return {
            "processor": processor_name(),
            "processors": os.cpu_count(),
            "memory_gigabytes": round(machine_megabytes() / 1000, 1),
            "busy_with_others": others,
            **_commit(),
        }


def processor_name() -> str:
    """Return the name of the processor; its architecture if the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _busy_seconds() -> tuple[float, float, float] | None:
    """Return the time that all processors were busy, the time that passed on all, and the time of this process.

    The second counts every processor, so that a machine of two passes two seconds in each. None without /proc.
    """
    if sys.platform != "linux":
        return None
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]
        ticks = [int(value) / os.sysconf("SC_CLK_TCK") for value in first]
    except (OSError, ValueError, IndexError):
        return None
    idle = ticks[3] + ticks[4]  # idle, and waiting for a disk
    own = os.times()
    return sum(ticks) - idle, sum(ticks), own.user + own.system + own.children_user + own.children_system


def _commit() -> dict[str, Any]:
    """Return the commit of chargen's own checkout, and whether files differ from it; nothing without one."""
    root = Path(chargen.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {}

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "--short=10", "HEAD"),
                "is_dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return {}
