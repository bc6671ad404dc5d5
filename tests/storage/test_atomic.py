"""Files are whole or absent."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chargen.storage.atomic import atomic_write, folder_lock, sha256_of


def test_a_failed_write_leaves_what_stood_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with atomic_write(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), atomic_write(target) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError("power cut")
    assert target.read_text() == "old"
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_the_digest_is_of_all_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "f").write_bytes(content)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".file.999999999.tmp").touch()
    (tmp_path / ".file.1.tmp").touch()  # that process lives
    with atomic_write(tmp_path / "file") as temporary:
        temporary.touch()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".file.1.tmp", "file"]


def test_folders_and_devices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"), atomic_write(tmp_path):
        pass
    with atomic_write(Path("/dev/null"), through=True) as written:
        assert written == Path("/dev/null")
    assert not Path("/dev/null").is_file()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """Another process is told who it is, or waits; who is killed owns nothing any more."""
    folder = tmp_path / "run"
    hold = (
        "import sys, time; from pathlib import Path; from chargen.storage.atomic import owned\n"
        "with folder_lock(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(ValueError, match=rf"run is being written by process {other.pid} on "), folder_lock(folder):
            pass
        other.kill()
        other.wait()
    with folder_lock(folder):
        assert str(os.getpid()) in (folder / ".owner").read_text()
        (folder / "something").touch()
    assert folder.exists()


def test_who_waits_comes_next(tmp_path: Path) -> None:
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


def test_a_folder_of_which_nothing_came_goes_away(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), folder_lock(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "b").exists()
