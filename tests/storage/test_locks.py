"""One process writes to a folder at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chargen.errors import FileError
from chargen.storage.locks import folder_lock


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """A second process is told who the owner is. The lock of a killed process is released."""
    folder = tmp_path / "run"
    hold = (
        "import sys, time; from pathlib import Path; from chargen.storage.locks import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        message = rf"run is being written by process {other.pid} on "
        with pytest.raises(FileError, match=message), folder_lock(folder):
            pass
        other.kill()
        other.wait()
    with folder_lock(folder):
        assert str(os.getpid()) in (folder / ".owner").read_text()
        (folder / "something").touch()
    assert folder.exists()


def test_a_process_that_waits_comes_next(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with folder_lock(tmp_path, wait=True, say=lambda text: waiting.set()):
            order.append("second")

    waiting = threading.Event()
    thread = threading.Thread(target=second)
    with folder_lock(tmp_path):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_new_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "b").exists()
