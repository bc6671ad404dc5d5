"""SHA-256 of files, and the checksum that a checkpoint carries in the comment of its zip archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 1 << 20
"""How much of a file is read at a time."""

_LABEL = b"sha256:"
_COMMENT_BYTES = len(_LABEL) + 64


def sha256_of(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file in hexadecimal; `advance` is called with the number of bytes just read."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def add_checksum(path: Path) -> None:
    """Write the SHA-256 of a zip archive into its comment, the only place where bytes may be added.

    Args:
        path: an archive without a comment, such as `torch.save` writes.

    Raises:
        ValueError: it is not one.
    """
    with open(path, "r+b") as stream:
        stream.seek(-2, os.SEEK_END)  # the length of the comment
        end = stream.tell()
        if stream.read() != b"\0\0":
            raise ValueError(f"{path} is not a zip archive without a comment")
        comment = _LABEL + _sha256_up_to(stream, end).encode()
        stream.seek(end)
        stream.write(len(comment).to_bytes(2, "little") + comment)


def has_checksum(path: Path) -> bool:
    """Tell whether a zip archive ends as `add_checksum` leaves it, without reading the rest: it was not cut off."""
    with open(path, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _COMMENT_BYTES - 2))
        return stream.read().startswith(_COMMENT_BYTES.to_bytes(2, "little") + _LABEL)


def checksum_matches(path: Path) -> bool:
    """Tell whether a zip archive still has the bytes to which `add_checksum` was applied."""
    with open(path, "rb") as stream:
        end = stream.seek(0, os.SEEK_END) - _COMMENT_BYTES - 2
        if end < 0:
            return False
        stream.seek(end)
        tail = stream.read()
        return tail == _COMMENT_BYTES.to_bytes(2, "little") + _LABEL + _sha256_up_to(stream, end).encode()


def _sha256_up_to(stream: BinaryIO, end: int) -> str:
    digest = hashlib.sha256()
    stream.seek(0)
    for begin in range(0, end, CHUNK_BYTES):
        digest.update(stream.read(min(CHUNK_BYTES, end - begin)))
    return digest.hexdigest()
