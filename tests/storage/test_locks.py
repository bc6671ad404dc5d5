"""One process writes to a folder at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chargen.errors import FileError
from chargen.storage.locks import folder_lock, is_locked, new_folder_lock


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


def test_a_folder_that_exists_gives_way_to_the_next_number(tmp_path: Path) -> None:
    """Whoever comes at the same moment gets a folder of his own; one that stays empty is removed, and its parents."""
    wanted = tmp_path / "runs" / "now"
    barrier, found = threading.Barrier(5), []

    def work() -> None:
        barrier.wait(10)
        with new_folder_lock(wanted) as folder:
            found.append(folder.name)
            assert is_locked(folder)
            (folder / "something").touch()
            barrier.wait(10)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["now", "now_2", "now_3", "now_4", "now_5"]
    with new_folder_lock(wanted) as folder:
        assert folder == tmp_path / "runs" / "now_6"
    assert sorted(place.name for place in wanted.parent.iterdir()) == sorted(found)
    assert not any(map(is_locked, wanted.parent.iterdir()))
    with pytest.raises(ZeroDivisionError), new_folder_lock(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
