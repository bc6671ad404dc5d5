"""How speed is measured: side by side, medians of many, beside the machine's own limit.

Absolute times mean little on a machine that is shared, so contenders take turns, A B A B ..., in one
process with the same number of threads, and what counts is the ratio of their medians. The limit is
the best rate of float32 matrix products that the machine shows in the same run.

A script is two functions and a call: `measure(quick) -> plain data`, `table(data) -> markdown`, and
`main(measure, table)`. Nothing here asserts anything about time.
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
GEMM_SHAPES = ((2048, 2048, 2048), (1024, 1024, 1024), (4096, 256, 1024), (1024, 4096, 256), (4096, 512, 512))
"""(M, K, N) of products (M, K) @ (K, N): large and square, and those of windows."""

Contender = Callable[[], object]


# ------------------------------------------------------------------------------------- time


def interleaved(
    contenders: Mapping[str, Contender],
    rounds: int,
    between: Callable[[], object] | None = None,
    seldom: Mapping[str, int] | None = None,
) -> dict[str, float]:
    """Times contenders in turns, A B A B ..., after one untimed turn each.

    Args:
        contenders: what to call, by name.
        rounds: timed calls of each.
        between: called before every call, outside of its time.
        seldom: contenders that are too slow for all rounds, with the number that they take part in.

    Returns:
        The median of each, in seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-1, rounds):
        for name, run in contenders.items():
            if turn >= (seldom or {}).get(name, rounds):
                continue
            if between is not None:
                between()
            taken = seconds_of(run)
            if turn >= 0:
                seconds[name].append(taken)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def seconds_of(run: Contender) -> float:
    """The seconds of one call, with Python's collector of garbage held back as `timeit` does."""
    collects = gc.isenabled()
    gc.disable()
    try:
        began = time.perf_counter()
        run()
        return time.perf_counter() - began
    finally:
        if collects:
            gc.enable()


def gemm_limits(threads: int, rounds: int = 20) -> dict[str, float]:
    """The best rates of float32 matrix products that torch shows on so many threads, in GFLOP/s, by library.

    There are two inside torch, and which is faster depends on who made the processor: `torch.mm` calls
    the one; the other, oneDNN, is what `nn.LSTM` stands on, and is asked with its weights packed beforehand.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    best = {"torch.mm": 0.0, "oneDNN": 0.0}
    for m, k, n in GEMM_SHAPES:
        left, right, product = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
        calls: dict[str, Contender] = {"torch.mm": partial(torch.mm, left, right, out=product)}
        try:
            ops = torch.ops.mkldnn
            packed = ops._reorder_linear_weight(right.t().contiguous(), m)
            calls["oneDNN"] = partial(ops._linear_pointwise, left, packed, None, "none", [], "")
        except (AttributeError, RuntimeError):  # a torch without it
            best.pop("oneDNN", None)
        for name, call in calls.items():
            seconds = min(seconds_of(call) for _ in range(rounds))
            best[name] = max(best[name], 2e-9 * m * k * n / seconds)
    torch.set_num_threads(before)
    return best


# ----------------------------------------------------------------------------------- memory


def peak_megabytes(prepare: Callable[..., Contender], *arguments: Any) -> float:
    """What `prepare(*arguments)()` adds to the memory of a process of its own at its highest, in MB.

    Args:
        prepare: a function at the top of its module; what it does itself is not counted.
        arguments: plain data.

    Returns:
        NaN where the system does not tell.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_growth, prepare, arguments).result()


def _growth(prepare: Callable[..., Contender], arguments: tuple[Any, ...]) -> float:
    # Not getrusage: under Linux a child's ru_maxrss begins at what its parent held when it was started.
    run = prepare(*arguments)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the highest begins at what is held now
        before = _kibibytes("VmRSS")
        run()
        return (_kibibytes("VmHWM") - before) * 1024 / 1e6
    except OSError:
        return float("nan")


def _kibibytes(name: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


# ------------------------------------------------------------------------------ the machine


def machine() -> dict[str, Any]:
    """What is measured, on what and when, as plain data."""
    import torch

    from chargen import native

    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "kernels": native.in_use(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": metadata.version("numpy"),
        "chargen": _chargen(),
    }


def described(found: Mapping[str, Any]) -> str:
    """`machine()` as a line for a person."""
    return (
        f"{found['date']}, {found['processor']}, {found['cores']} cores, {found['threads']} threads, "
        f"kernels {found['kernels']}, python {found['python']}, torch {found['torch']}, numpy {found['numpy']}, "
        f"chargen {found['chargen']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _chargen() -> str:
    """The version, and the commit if there is one."""
    import chargen

    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = ", changed since" if _git("status", "--porcelain", "--", "src", "benchmarks/*.py") else ""
        return f"{chargen.__version__} ({commit}{changed})"
    except (OSError, subprocess.CalledProcessError):
        return chargen.__version__


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def seconds_of_others() -> float:
    """CPU seconds that all other processes of the machine have had; NaN where the system does not tell."""
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)
        user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, words[1:9])
        busy = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return float("nan")
    return busy - sum(os.times()[:4])  # those of children that have ended included


# ---------------------------------------------------------------------------- what comes out


def markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table: the first column to the left, the others, which are numbers, to the right."""
    ruler = ("---", *("---:" for _ in headings[1:]))
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (headings, ruler, *rows))


def times(ratio: float) -> str:
    """A ratio as it is read: `1.43 x`."""
    return f"{ratio:.2f} x"


def taken(result: Mapping[str, Any]) -> str:
    """How long a script ran, and whether it had the machine to itself: if not, its figures are worth little."""
    share = "an unknown share" if result["others_share"] is None else f"{result['others_share']:.0%}"
    return f"{result['seconds']:.0f} s; other processes had {share} of the processor"


def first_sentence(docstring: str | None) -> str:
    """Of a script, its heading."""
    text = " ".join((docstring or "").split("\n\n")[0].split())
    return text.rstrip(".:")


def main(measure: Callable[[bool], dict[str, Any]], table: Callable[[dict[str, Any]], str]) -> None:
    """The command line of a script.

    Args:
        measure: `quick -> plain data`.
        table: that data as markdown.
    """
    parser = argparse.ArgumentParser(description=first_sentence(sys.modules[measure.__module__].__doc__))
    parser.add_argument("--quick", action="store_true", help="fewer points, fewer rounds: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there too")
    options = parser.parse_args()
    found, others, began = machine(), seconds_of_others(), time.monotonic()
    measured = measure(options.quick)
    seconds = time.monotonic() - began
    share = (seconds_of_others() - others) / (seconds * (os.cpu_count() or 1))
    result = {
        "machine": found,
        "quick": options.quick,
        "seconds": round(seconds, 1),
        "others_share": None if math.isnan(share) else round(max(0.0, share), 3),
        **measured,
    }
    print(f"{described(found)}; {taken(result)}\n", file=sys.stderr)
    if options.json is not None:  # first: what took an hour to measure outlives a table that cannot be drawn
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
