"""Run chargen in processes that fork from a server which has imported it already.

Importing torch and lightning takes seconds. A test that starts many processes would spend most of its time on that.
Such a process starts in a tenth of a second, and can be killed like any other.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

PRELOADED = ["chargen.cli.app", "chargen.cli.resume", "chargen.cli.overrides", "chargen.training.run"]
"""What the server imports, with hydra, torch and lightning. It computes nothing, so it has no threads to lose."""


def nothing() -> None:
    """Do nothing before chargen starts."""


class ForkedProcess:
    """A running command of chargen, with those parts of the interface of `subprocess.Popen` that tests use.

    Args:
        words: the command line.
        prepare: called in the process before chargen is; it has to be picklable.
        env: additions to the environment. `OMP_NUM_THREADS` sets torch's threads, of which there is one otherwise.

    Attributes:
        stdout: what it prints.
        stderr: its errors.
    """

    def __init__(self, words: tuple[str, ...], prepare: Callable[[], object], env: dict[str, str]) -> None:
        context = _server()
        pipes = [context.Pipe(duplex=False) for _ in range(2)]
        outputs = tuple(writer for _, writer in pipes)
        self._process = context.Process(target=_run, args=(words, str(Path.cwd()), prepare, env, outputs), daemon=True)
        self._process.start()
        self.stdout, self.stderr = (_stream(reader) for reader, _ in pipes)
        for writer in outputs:
            writer.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the number of the signal that has ended the process; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process has ended, and return its exit code.

        Raises:
            TimeoutError: it takes longer.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} is still running")
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Read what is left of both outputs until the process has ended.

        Raises:
            TimeoutError: it takes longer.
        """
        found: dict[str, bytes] = {}

        def read(name: str, stream: IO[bytes]) -> None:
            found[name] = b"" if stream.closed else stream.read()

        readers = [
            threading.Thread(target=read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.stdout), ("err", self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return found["out"], found["err"]


@functools.cache
def _server() -> multiprocessing.context.ForkServerContext:
    """Return the context whose server has imported chargen, with one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    before = dict(os.environ)
    # Threads that wait actively for long would take the processor from those for which they wait.
    os.environ.update(OMP_NUM_THREADS="1", GOMP_SPINCOUNT="1000")
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _stream(reader: Connection) -> IO[bytes]:
    """Return a pipe as a file, and close the connection that held it."""
    stream = os.fdopen(os.dup(reader.fileno()), "rb")
    reader.close()
    return stream


def _run(
    words: tuple[str, ...],
    folder: str,
    prepare: Callable[[], object],
    env: dict[str, str],
    outputs: tuple[Connection, Connection],
) -> None:
    """Be `python -m chargen` in a process that has just been forked."""
    for number, output in enumerate(outputs, start=1):
        os.dup2(output.fileno(), number)
        output.close()
    os.chdir(folder)
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest in the background would ignore it
    sys.stdout = open(1, "w", 1 if env.get("PYTHONUNBUFFERED") else -1, encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)
    import torch

    import chargen
    from chargen.cli.app import main

    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", "1")))
    prepare()
    sys.argv = [str(Path(chargen.__file__).with_name("__main__.py")), *words]
    main()
