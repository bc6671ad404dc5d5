"""One writing process per folder. The lock of a process that is killed is released by the operating system."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from chargen.errors import FileError
from chargen.storage.atomic import open_no_follow

ATTEMPT_SECONDS = 0.2
"""How long a lock is waited for that nobody is said to wait for: `is_locked` holds it for a moment."""


@contextlib.contextmanager
def folder_lock(folder: Path, *, wait: bool = False, say: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
    """Create a folder and keep other processes from writing to it inside the block.

    Args:
        folder: the folder to write to. If the block leaves it empty and it is new, it is removed again.
        wait: wait until the process that holds the lock has finished, instead of raising.
        say: called with the name of that process before waiting.

    Yields:
        The folder.

    Raises:
        FileError: another process holds the lock, and `wait` is false.
    """
    created = _missing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, created, wait, say):
        yield folder


@contextlib.contextmanager
def new_folder_lock(folder: Path) -> Iterator[Path]:
    """Create a folder that does not exist yet, and lock it as `folder_lock` does.

    Args:
        folder: the folder to create.

    Yields:
        The folder, or the first of `folder_2`, `folder_3` and so on that could be created.
    """
    parents = _missing(folder.parent)
    place = new_folder(folder)
    with _lock(place, [place, *parents], False, lambda _: None):
        yield place


def new_folder(folder: Path) -> Path:
    """Create a folder, or the first of `folder_2`, `folder_3` and so on that does not exist, and return it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        with contextlib.suppress(FileExistsError):
            place.mkdir()
            return place
    raise AssertionError("there are always more numbers")


def is_locked(folder: Path) -> bool:
    """Tell whether a process is writing to a folder. Nothing is written into it."""
    from filelock import FileLock, Timeout

    if not ((folder / ".owner").is_file() and (folder / ".lock").is_file()):  # left there by a process that was killed
        return False
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a folder that may not be written to
        return False
    lock.release()
    return False


def _missing(folder: Path) -> list[Path]:
    """Return those of a folder and its parents that do not exist, the innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


@contextlib.contextmanager
def _lock(folder: Path, created: list[Path], wait: bool, say: Callable[[str], None]) -> Iterator[None]:
    """Lock a folder. If the block leaves it empty, remove it and those of its parents that were created."""
    import socket  # both imported late: `chargen sample` starts without them

    from filelock import FileLock, Timeout

    lock, owner_file = FileLock(folder / ".lock", timeout=ATTEMPT_SECONDS), folder / ".owner"
    try:
        lock.acquire()
    except Timeout:
        owner = _owner(owner_file)
        if not wait:
            raise FileError(f"{folder} is being written by {owner}: wait for it, or name another folder") from None
        say(f"waiting for {owner}, which is writing {folder}")
        lock.acquire(timeout=-1)
    try:
        with open_no_follow(owner_file, "w", encoding="utf-8") as stream:
            stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        owner_file.unlink(missing_ok=True)
        lock.release()
        if created and {file.name for file in folder.iterdir()} <= {".lock"}:
            (folder / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for place in created:
                    place.rmdir()


def _owner(owner_file: Path) -> str:
    """Name the process that holds a lock, as far as its file says."""
    try:
        return owner_file.read_text(encoding="utf-8") if owner_file.is_file() else "another process"
    except (OSError, UnicodeDecodeError):
        return "another process"
