"""What several tests use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest
from hypothesis import settings
from support.hosts import Host

from chargen import native
from chargen.cell_types import CELL_TYPES

settings.register_profile("ci", derandomize=True)  # what lands must not depend on luck; at home it may look further
settings.load_profile("ci" if os.environ.get("CI") else "default")

ROOT = Path(__file__).resolve().parents[1]
Launch = Callable[..., "subprocess.Popen[bytes]"]
Figure = Callable[[str, int], None]
FIGURES: Counter[str] = Counter()
CELLS = tuple(CELL_TYPES)
INSTRUCTION_SETS = native.instruction_sets(native.kernels()) if native.library() else []


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
    """Adds to a figure that is told at the end, such as `kills survived`; docs/TRUST.md has them."""
    return lambda what, number: FIGURES.update({what: number})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures."""
    for what, number in sorted(FIGURES.items()):
        terminalreporter.write_line(f"{what}: {number:,}")


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def chargen(
    away: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process, in an empty folder: exit code, standard output, standard error."""
    from chargen.cli.app import main

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["chargen", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


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
