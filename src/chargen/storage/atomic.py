"""Files that are whole or absent: a write that is interrupted leaves what stood there before."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

CHUNK_BYTES = 1 << 20


@contextlib.contextmanager
def atomic_write(path: Path, through: bool = False) -> Iterator[Path]:
    """Gives a temporary name beside `path`, and renames it to `path` if the block succeeds.

    The bytes are on the disk before the name is: a reader sees the old file or the new one,
    never a half. If the block raises, the temporary file is removed and `path` is untouched.

    Args:
        path: the file to write. Its folder is made if it is missing.
        through: what is no file, such as `/dev/stdout` or a pipe, is written to as it is.

    Yields:
        The path to write to.

    Raises:
        ValueError: `path` is a folder.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file in it")
    if through and path.exists() and not path.is_file():
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # a link that somebody has put there would lead the writer elsewhere
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # as open() would have made it; some writers keep it private
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_no_follow(path: Path, mode: str, **how: Any) -> IO[Any]:
    """`open`, to write, of a file that stays: it must not be a link, which could lead to another one of the user's.

    Raises:
        OSError: it is one, or cannot be opened.
    """

    def unlinked(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)

    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link to another file: remove it", str(path))
    if path.exists() and not path.is_file():  # a pipe would keep who opens it waiting
        raise OSError(errno.EINVAL, "it is no file: remove it", str(path))
    return open(path, mode, opener=unlinked, **how)


@contextlib.contextmanager
def folder_lock(folder: Path, wait: bool = False, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Makes a folder and keeps other processes from writing there meanwhile. Who is killed owns nothing any more.

    Args:
        folder: to write in; it is made if it is missing.
        wait: until whoever owns it is done.
        say: told who that is, before waiting.

    Raises:
        ValueError: another process owns it, and there is to be no waiting.
    """
    import socket  # late, both: `sample` owns nothing

    from filelock import FileLock, Timeout

    fresh = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock, card = FileLock(folder / ".lock", timeout=0), folder / ".owner"
    try:
        lock.acquire()
    except Timeout:
        try:
            owner = card.read_text(encoding="utf-8") if card.is_file() else "another process"
        except (OSError, UnicodeDecodeError):
            owner = "another process"
        if not wait:
            raise ValueError(f"{folder} is being written by {owner}: wait for it, or name another folder") from None
        say(f"waiting for {owner}, which is writing {folder}")
        lock.acquire(timeout=-1)
    try:
        with open_no_follow(card, "w", encoding="utf-8") as stream:
            stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        card.unlink(missing_ok=True)
        lock.release()
        if fresh and {file.name for file in folder.iterdir()} <= {".lock"}:  # nothing came of it
            (folder / ".lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for place in fresh:
                    place.rmdir()


def _sweep(path: Path) -> None:
    """Removes what writers of `path` left that were killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = left.name.removesuffix(".tmp").rpartition(".")[2]
        if writer.isdigit() and not Path(f"/proc/{writer}").exists() and Path("/proc/self").exists():
            left.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def previous_path(path: Path) -> Path:
    """Where the file that `path` was before is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def keep(path: Path, other: Path) -> None:
    """Gives a file a second name; there is no moment without either."""
    temporary = path.with_name(f".{other.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without links
        shutil.copyfile(path, temporary)
    os.replace(temporary, other)


_SEAL = b"sha256:"
_SEALED_SIZE = len(_SEAL) + 64


def add_checksum(path: Path) -> None:
    """Writes the SHA-256 of a zip archive into its comment, the only place where one may be added.

    Args:
        path: an archive without a comment, such as `torch.save` writes.
    """
    with open(path, "r+b") as stream:
        stream.seek(-2, os.SEEK_END)  # the length of the comment
        end = stream.tell()
        assert stream.read() == b"\0\0", f"{path} is no zip archive without a comment"
        comment = _SEAL + _sha256_up_to(stream, end).encode()
        stream.seek(end)
        stream.write(len(comment).to_bytes(2, "little") + comment)


def checksum_matches(path: Path) -> bool:
    """Whether a zip archive is, to the bit, as `seal` left it."""
    with open(path, "rb") as stream:
        end = stream.seek(0, os.SEEK_END) - _SEALED_SIZE - 2
        if end < 0:
            return False
        stream.seek(end)
        tail = stream.read()
        return tail == _SEALED_SIZE.to_bytes(2, "little") + _SEAL + _sha256_up_to(stream, end).encode()


def _sha256_up_to(stream: BinaryIO, end: int) -> str:
    digest = hashlib.sha256()
    stream.seek(0)
    for begin in range(0, end, CHUNK_BYTES):
        digest.update(stream.read(min(CHUNK_BYTES, end - begin)))
    return digest.hexdigest()


def sha256_of(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal, read in pieces; `advance` is told how many it has read since."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()
