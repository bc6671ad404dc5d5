"""Files that are complete or absent: an interrupted write leaves what was there before."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from chargen.config import expand_home, is_path
from chargen.errors import ArgumentError, FileError


def as_path(where: str | os.PathLike[str], *, allowed: str = "a string or a path") -> Path:
    """Return a path that the file system can have; `~` is the home folder.

    Args:
        where: the path as given.
        allowed: what may be given, in words.

    Raises:
        ArgumentError: it is neither a string nor a path.
        FileError: it is empty or blank, contains NUL, or cannot be encoded.
    """
    if not isinstance(where, (str, os.PathLike)):
        raise ArgumentError("path", where, allowed)
    name = os.fspath(where)
    if not is_path(name):
        raise FileError(f"{name!r} is not the name of a file or folder: give a run's folder or its model.safetensors")
    return Path(expand_home(name))


@contextlib.contextmanager
def atomic_write(path: Path, *, allow_pipes: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename the file to `path` if the block succeeds.

    The bytes reach the disk before the name does: a reader sees the old file or the new one, never a part of it. If the
    block raises, the temporary file is removed and `path` is untouched.

    Args:
        path: the file to write. Its folder is created if it is missing.
        allow_pipes: yield `path` itself if it is a pipe or a device, such as `/dev/stdout`.

    Yields:
        The path to write to.

    Raises:
        FileError: `path` is a folder.
    """
    if path.is_dir():
        raise FileError(f"{path} is a folder: name a file in it")
    if allow_pipes and is_device(path):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # a symbolic link of that name would redirect the write
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # the mode that open() gives; some writers create private files
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_device(path: Path) -> bool:
    """Tell whether a path is a pipe or a device, or leads to an open file of this process, as `/dev/stdout` does."""
    return path.exists() and (not path.is_file() or str(path).startswith(("/dev/std", "/dev/fd/", "/proc/")))


def write_text(path: Path, content: str, *, allow_pipes: bool = False) -> None:
    """Write a text file in UTF-8 atomically; arguments and errors are those of `atomic_write`.

    Lone surrogates, which stand for bytes in names of files that are not UTF-8, are written as in JSON.
    """
    with atomic_write(path, allow_pipes=allow_pipes) as temporary:
        temporary.write_text(content, encoding="utf-8", errors="backslashreplace")


def open_no_follow(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file for writing like `open`, but refuse symbolic links and pipes, which could lead to other files.

    Raises:
        OSError: the path is a symbolic link or a pipe, or cannot be opened.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)

    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link: remove it", str(path))
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise OSError(errno.EINVAL, "it is not a regular file: remove it", str(path))
    return open(path, mode, opener=opener, **options)


def previous_path(path: Path) -> Path:
    """Return the path under which the previous version of a file is kept, such as `last.previous.ckpt`."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def keep_previous(path: Path) -> None:
    """Give the file a second name, `previous_path(path)`, without a moment in which it has neither name."""
    other = previous_path(path)
    temporary = path.with_name(f".{other.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, other)


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of writers of `path` that no longer run."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = left.name.removesuffix(".tmp").rpartition(".")[2]
        if writer.isdigit() and not Path(f"/proc/{writer}").exists() and Path("/proc/self").exists():
            left.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
