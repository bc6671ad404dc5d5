"""Files that are whole or absent: a write that is interrupted leaves what stood there before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK_BYTES = 1 << 20


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`, and renames it to `path` if the block succeeds.

    The bytes are on the disk before the name is: a reader sees the old file or the new one,
    never a half. If the block raises, the temporary file is removed and `path` is untouched.

    Args:
        path: the file to write. Its folder is made if it is missing.

    Yields:
        The temporary path to write to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest()
