"""Fixtures that several tests use."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several processes would wait for each other
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

# numpy and torch read these variables when they are imported
import contextlib
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.environment import INSTRUCTION_SETS, ROOT, Command, Figure, Launch
from support.hosts import Host

from chargen import native

settings.register_profile("default", deadline=None)  # a test may be slow on a busy machine
# CI repeats the same examples; elsewhere each run tries new ones.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

if native.library() is None:  # otherwise every command would say so
    os.environ[native.VARIABLE] = native.OFF

FIGURES: Counter[str] = Counter()


@pytest.fixture(params=INSTRUCTION_SETS)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kernels of each instruction set of this machine."""
    native.use(request.param)
    assert native.in_use() == request.param
    yield request.param
    native.use(None)


@pytest.fixture
def shared() -> Path:
    """Real corpora beside the repository."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real corpora beside the repository")
    return folder


@pytest.fixture
def figure() -> Figure:
    """Adds to a figure that is printed at the end, such as `kills survived`; docs/TRUST.md lists them."""
    return lambda what, number: FIGURES.update({what: number})


STARTS = ("trust", "test_readme.py", "test_build.py", "test_train.py", "test_resume.py", "test_rollbacks.py")
"""Folders and files whose tests start processes or train: `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes or train."""
    for item in items:
        starts = "launch" in getattr(item, "fixturenames", ()) or not set(STARTS).isdisjoint(item.path.parts)
        if starts:
            item.add_marker(pytest.mark.starts)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the figures of a worker of pytest-xdist over to its controller."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = dict(FIGURES)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the figures of a worker of pytest-xdist that has finished."""
    FIGURES.update(getattr(node, "workeroutput", {}).get("figures", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    for what, number in sorted(FIGURES.items()):
        terminalreporter.write_line(f"{what}: {number:,}")


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_command(words: Sequence[str]) -> int:
    """Run a command line in this process and return its exit code."""
    from chargen.cli.app import main

    before, sys.argv = sys.argv, ["chargen", *words]
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("main() returned")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process: exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command(words)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def chargen(away: Path, command: Command) -> Command:
    """The same, in an empty folder."""
    return command


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a small run on `TEXT` once for each set of settings, and returns the folder it was started in."""
    from support.models import TEXT, TINY

    folders: dict[tuple[str, ...], Path] = {}

    def train(text: str, *words: str) -> Path:
        key = (text, *words)
        if key not in folders:
            folder = tmp_path_factory.mktemp("trained")
            (folder / text).write_text(TEXT, encoding="utf-8")
            with _chdir(folder):
                assert run_command(["train", text, *TINY, *words, "run_dir=runs/r"]) == 0
            folders[key] = folder
        return folders[key]

    return train


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture
def trained(trained_once: Callable[..., Path], away: Path) -> Callable[..., Path]:
    """A copy of a small trained run in the working folder, as if it had been trained there."""
    from support.models import relocate

    def copy(name: str = "r", *words: str, text: str = "t.txt") -> Path:
        folder = trained_once(text, *words)
        shutil.copytree(folder / "runs" / "r", away / name)
        shutil.copytree(folder / "data", away / "data", dirs_exist_ok=True)
        shutil.copy(folder / text, away / text)
        relocate(away / name, folder, away)
        return away / name

    return copy


def heed_interrupts() -> None:
    """For a child: where the tests run in the background, it would inherit deafness to SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts chargen in a process of its own, with one thread; none outlives the test.

    `prepare` is called in it before chargen is; further words go into its environment.
    """
    children = []

    def start(*words: str, prepare: Callable[[], object] = lambda: None, **env: str) -> subprocess.Popen[bytes]:
        def first() -> None:
            heed_interrupts()
            prepare()

        program, pipe = [sys.executable, "-m", "chargen", *words], subprocess.PIPE
        env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        children.append(subprocess.Popen(program, stdout=pipe, stderr=pipe, env=env, preexec_fn=first))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.fixture
def host() -> Iterator[type[Host]]:
    class Fresh(Host):
        content = b"some text to download, " * 5000
        asked: list[str | None] = []  # noqa: RUF012

    server = HTTPServer(("127.0.0.1", 0), Fresh)
    Fresh.url = f"http://127.0.0.1:{server.server_port}/text.txt"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Fresh
    server.shutdown()
    thread.join()
    server.server_close()
