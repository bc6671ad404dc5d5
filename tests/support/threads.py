"""How much processor time the threads of a computation use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_MEASURE = """
import os
from pathlib import Path

def seconds_of_others():
    total = 0
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(os.getpid()):
            total += sum(map(int, (task / "stat").read_text().rpartition(")")[2].split()[11:13]))
    return total / os.sysconf("SC_CLK_TCK")

{prepare}
before = seconds_of_others()
{work}
print(seconds_of_others() - before)
"""


def seconds_of_other_threads(prepare: str, work: str) -> float:
    """Run code without kernels in a new process that may use two threads.

    Returns:
        The seconds of processor time that all threads but the first one have used for `work`.
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("needs /proc")
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "CHARGEN_NATIVE": "off"}
    code = _MEASURE.format(prepare=prepare, work=work)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    return float(result.stdout)
