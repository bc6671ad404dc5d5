"""The compiled kernels read and write nothing that is not theirs, and do nothing that C++ leaves undefined."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.environment import ROOT

from chargen import native

SOURCES = sorted((ROOT / "src" / "chargen" / "native").glob("*.cpp"))
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
TESTS = ["test_native.py", "test_linear.py", "test_head.py", "test_sampling_native.py", "test_symbols.py"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("g++") is None, reason="needs g++ on Linux"),
]


def build(target: Path, *sources: Path) -> Path:
    flags = ["-std=c++17", "-O1", "-g", "-ffp-contract=fast", "-Wno-psabi", "-fPIC", "-shared", "-pthread"]
    subprocess.run(["g++", *flags, *SANITIZERS, *map(str, sources), "-o", str(target), "-ldl"], check=True)
    return target


def sanitized(library: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of Python's under both sanitizers. Python itself leaks by design, so leaks are not looked for."""
    runtimes = []
    for name in ("libasan.so", "libstdc++.so"):  # the second because the first must find its exceptions
        found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        runtimes.append(found.stdout.strip())
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        native.VARIABLE: str(library),
    }
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, cwd=ROOT)


def test_the_kernels_under_both_sanitizers(tmp_path: Path) -> None:
    library = build(tmp_path / "kernels.so", *SOURCES)
    tests = [str(ROOT / "tests" / name) for name in TESTS]
    quick = ["-k", "not new_process and not environment and not choice and not refused"]
    result = sanitized(library, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests, *quick)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    assert " passed" in result.stdout


def test_the_sanitizers_would_notice(tmp_path: Path) -> None:
    """A write one behind the end, and a sum beyond the largest whole number."""
    source = tmp_path / "wrong.cpp"
    source.write_text(
        'extern "C" void beyond(int n) { float* p = new float[n]; p[n] = 1; volatile float x = p[n]; (void)x; }\n'
        'extern "C" int overflow(int n) { return n + 2147483647; }\n'
    )
    library = build(tmp_path / "wrong.so", source)
    for call, word in (("beyond(4)", "heap-buffer-overflow"), ("overflow(4)", "signed integer overflow")):
        result = sanitized(library, "-c", f"import ctypes; ctypes.CDLL({str(library)!r}).{call}")
        assert result.returncode != 0
        assert word in result.stderr
