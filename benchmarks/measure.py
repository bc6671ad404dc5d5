"""Time contenders side by side, describe the machine, and run a benchmark script.

Absolute times mean little on a shared machine. Contenders therefore take turns, A B A B ..., in one process with the
same number of threads, and the result is the ratio of their medians. The best rate of float32 matrix products that the
machine reaches in the same run serves as an upper limit.

A script defines `measure(quick) -> plain data` and `table(data) -> markdown`, and ends with `main(measure, table)`.
Nothing here asserts anything about time.

Dimensions: M rows, K inner size and N columns of a matrix product (M, K) @ (K, N).
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TEXT_FOLDERS = (ROOT / "data", ROOT.parent / "shared" / "data")
"""The folders in which the texts of the benchmarks are searched, in this order."""

GEMM_SHAPES = ((2048, 2048, 2048), (1024, 1024, 1024), (4096, 256, 1024), (1024, 4096, 256), (4096, 512, 512))
"""(M, K, N) of matrix products: large square ones, and ones of the shapes that occur in a window."""

Contender = Callable[[], object]


# ------------------------------------------------------------------------------------- texts


def find_text(name: str) -> Path | None:
    """Return the path of a text such as `tinyshakespeare.txt`; None if no folder contains it."""
    return next((folder / name for folder in TEXT_FOLDERS if (folder / name).is_file()), None)


# ------------------------------------------------------------------------------------- time


def time_interleaved(
    contenders: Mapping[str, Contender],
    rounds: int,
    *,
    before_each: Callable[[], object] | None = None,
    max_rounds: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Time contenders in turns, A B A B ..., after one untimed call of each.

    Args:
        contenders: the functions to call, by name.
        rounds: the number of timed calls of each contender.
        before_each: a function that is called before every call of a contender and is not timed.
        max_rounds: a smaller number of timed calls for slow contenders, by name.

    Returns:
        The median time of each contender in seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-1, rounds):
        for name, run in contenders.items():
            if turn >= (max_rounds or {}).get(name, rounds):
                continue
            if before_each is not None:
                before_each()
            duration = time_call(run)
            if turn >= 0:
                seconds[name].append(duration)
    return {name: statistics.median(durations) for name, durations in seconds.items()}


def time_call(run: Contender) -> float:
    """Return the seconds of one call, with Python's garbage collector disabled as in `timeit`."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    finally:
        if is_enabled:
            gc.enable()


def peak_gemm_rates(num_threads: int, rounds: int = 20) -> dict[str, float]:
    """Measure the best rates of float32 matrix products that torch reaches with `num_threads` threads.

    Torch contains two libraries, and which one is faster depends on the processor. `torch.mm` calls the first one. The
    second one, oneDNN, is the basis of `nn.LSTM`; it is called with prepacked weights.

    Returns:
        GFLOP/s by library.
    """
    import torch

    previous_num_threads = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    best = {"torch.mm": 0.0, "oneDNN": 0.0}
    for m, k, n in GEMM_SHAPES:
        left, right, product = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
        calls: dict[str, Contender] = {"torch.mm": partial(torch.mm, left, right, out=product)}
        try:
            ops = torch.ops.mkldnn
            packed = ops._reorder_linear_weight(right.t().contiguous(), m)
            calls["oneDNN"] = partial(ops._linear_pointwise, left, packed, None, "none", [], "")
        except (AttributeError, RuntimeError):  # this build of torch has no oneDNN
            best.pop("oneDNN", None)
        for name, call in calls.items():
            seconds = min(time_call(call) for _ in range(rounds))
            best[name] = max(best[name], 2e-9 * m * k * n / seconds)
    torch.set_num_threads(previous_num_threads)
    return best


# ----------------------------------------------------------------------------------- memory


def peak_megabytes(setup: Callable[..., Contender], *arguments: Any) -> float:
    """Run `setup(*arguments)()` in a new process and measure how much memory the second call adds at its peak.

    Args:
        setup: a function at the top level of its module. The memory that it allocates itself is not counted.
        arguments: plain data.

    Returns:
        MB; NaN if the system does not report memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_memory_growth, setup, arguments).result()


def _memory_growth(setup: Callable[..., Contender], arguments: tuple[Any, ...]) -> float:
    # getrusage does not work here: under Linux, ru_maxrss of a child starts at the memory of its parent.
    run = setup(*arguments)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak to the current memory
        before = _status_kibibytes("VmRSS")
        run()
        return (_status_kibibytes("VmHWM") - before) * 1024 / 1e6
    except OSError:
        return float("nan")


def _status_kibibytes(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:"))


# ------------------------------------------------------------------------------ the machine


def machine_info() -> dict[str, Any]:
    """Return the date, the machine and the software versions as plain data."""
    import torch

    from chargen import native

    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "processor": _processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "kernels": native.in_use(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": metadata.version("numpy"),
        "chargen": _chargen_version(),
    }


def format_machine(info: Mapping[str, Any]) -> str:
    """Format the result of `machine_info` as one line."""
    return (
        f"{info['date']}, {info['processor']}, {info['cores']} cores, {info['threads']} threads, "
        f"kernels {info['kernels']}, python {info['python']}, torch {info['torch']}, numpy {info['numpy']}, "
        f"chargen {info['chargen']}"
    )


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _chargen_version() -> str:
    """Return the version, and the commit if the source is in a git repository."""
    import chargen

    try:
        commit = _git("rev-parse", "--short", "HEAD")
        suffix = ", modified" if _git("status", "--porcelain", "--", "src", "benchmarks/*.py") else ""
        return f"{chargen.__version__} ({commit}{suffix})"
    except (OSError, subprocess.CalledProcessError):
        return chargen.__version__


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def other_cpu_seconds() -> float:
    """Return the CPU seconds that all other processes have used since boot; NaN if the system does not report them."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return float("nan")
    return busy - sum(os.times()[:4])  # this process and its finished children


# ---------------------------------------------------------------------------------- output


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a Markdown table. Align the first column to the left and the columns of numbers to the right."""
    ruler = ("---", *("---:" for _ in headings[1:]))
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (headings, ruler, *rows))


def format_ratio(ratio: float) -> str:
    """Format a ratio, such as `1.43 x`."""
    return f"{ratio:.2f} x"


def format_duration_and_load(result: Mapping[str, Any]) -> str:
    """Say how long a script ran and how busy other processes were. A busy machine makes the figures unreliable."""
    load = result["other_processes_share"]
    share = "an unknown share" if load is None else f"{load:.0%}"
    return f"{result['seconds']:.0f} s; other processes used {share} of the processor"


def heading_from(docstring: str | None) -> str:
    """Return the first paragraph of a script's docstring, without its final period, as the heading of its results."""
    text = " ".join((docstring or "").split("\n\n")[0].split())
    return text.rstrip(".:")


def main(measure: Callable[[bool], dict[str, Any]], table: Callable[[dict[str, Any]], str]) -> None:
    """Parse the command line of a script, run it and print its table.

    Args:
        measure: takes whether the run is quick, and returns plain data.
        table: formats these data as Markdown.
    """
    parser = argparse.ArgumentParser(description=heading_from(sys.modules[measure.__module__].__doc__))
    parser.add_argument("--quick", action="store_true", help="measure fewer points in fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the measurements to this JSON file")
    options = parser.parse_args()
    info, other_seconds, begin = machine_info(), other_cpu_seconds(), time.monotonic()
    measurements = measure(options.quick)
    seconds = time.monotonic() - begin
    share = (other_cpu_seconds() - other_seconds) / (seconds * (os.cpu_count() or 1))
    result = {
        "machine": info,
        "quick": options.quick,
        "seconds": round(seconds, 1),
        "other_processes_share": None if math.isnan(share) else round(max(0.0, share), 3),
        **measurements,
    }
    print(f"{format_machine(info)}; {format_duration_and_load(result)}\n", file=sys.stderr)
    if options.json is not None:  # written first, so that an error in `table` does not lose an hour of measurements
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
