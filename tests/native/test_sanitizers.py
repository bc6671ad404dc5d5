"""Under AddressSanitizer and UndefinedBehaviorSanitizer, the kernels access no foreign memory and overflow nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.compilers import NATIVE
from support.environment import ROOT

from chargen import native

SOURCES = sorted(NATIVE.glob("*.cpp"))
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
TESTS = [
    "native/test_kernels.py",
    "nn/test_linear.py",
    "nn/test_loss.py",
    "sampling/test_native_network.py",
    "sampling/test_sessions.py",
    "corpus/test_code_points.py",
]
SKIPPED = ["spawned_process", "NumpyNetwork", "numpy_sessions"]
"""Parts of the names of tests that would spawn processes under the sanitizers, or that run without kernels."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("g++") is None, reason="needs g++ on Linux"),
]


def build(target: Path, *sources: Path) -> Path:
    flags = ["-std=c++17", "-O1", "-g", "-ffp-contract=fast", "-Wno-psabi", "-fPIC", "-shared", "-pthread"]
    subprocess.run(["g++", *flags, *SANITIZERS, *map(str, sources), "-o", str(target), "-ldl"], check=True)
    return target


def run_sanitized(library: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the sanitizers and with these kernels. Leaks are not detected, because Python itself leaks."""
    runtimes = []
    for name in ("libasan.so", "libstdc++.so"):  # libasan intercepts C++ exceptions, so it must find their library
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


def test_the_tests_of_the_kernels_pass_under_the_sanitizers(tmp_path: Path) -> None:
    library = build(tmp_path / "kernels.so", *SOURCES)
    tests = [str(ROOT / "tests" / name) for name in TESTS]
    chosen = ["-k", " and ".join(f"not {part}" for part in SKIPPED)]
    result = run_sanitized(library, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests, *chosen)
    assert result.returncode == 0, (result.stdout + result.stderr)[-6000:]
    assert "100%" in result.stdout


def test_the_sanitizers_notice_errors(tmp_path: Path) -> None:
    """A write behind the end of an array, and a sum beyond the largest integer."""
    source = tmp_path / "wrong.cpp"
    source.write_text(
        'extern "C" void beyond(int n) { float* p = new float[n]; p[n] = 1; volatile float x = p[n]; (void)x; }\n'
        'extern "C" int overflow(int n) { return n + 2147483647; }\n'
    )
    library = build(tmp_path / "wrong.so", source)
    for call, word in (("beyond(4)", "heap-buffer-overflow"), ("overflow(4)", "signed integer overflow")):
        result = run_sanitized(library, "-c", f"import ctypes; ctypes.CDLL({str(library)!r}).{call}")
        assert result.returncode != 0
        assert word in result.stderr
