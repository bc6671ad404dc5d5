"""One writing process per folder. The lock of a process that is killed is released by the operating system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from chargen.errors import FileError
from chargen.storage.atomic import open_no_follow


@contextlib.contextmanager
def folder_lock(folder: Path, *, wait: bool = False, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Create a folder and keep other processes from writing to it inside the block.

    Args:
        folder: the folder to write to. If the block leaves it empty and it is new, it is removed again.
        wait: wait until the process that holds the lock has finished, instead of raising.
        say: called with the name of that process before waiting.

    Raises:
        FileError: another process holds the lock, and `wait` is false.
    """
    import socket  # both imported late: `chargen sample` starts without them

    from filelock import FileLock, Timeout

    created = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock, owner_file = FileLock(folder / ".lock", timeout=0), folder / ".owner"
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
