"""Fetch the text of a corpus: a download, or the Python language reference."""

from __future__ import annotations

import http.client
import os
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chargen.corpus.progress import byte_progress
from chargen.errors import ConfigError, TextError
from chargen.storage.atomic import atomic_write, open_no_follow
from chargen.storage.checksum import sha256_of

MAX_UNZIP_RATIO = 100
"""Size of an unpacked download relative to its archive, at most. Text reaches 5 to 10."""

_BLOCK_SIZE = 1 << 16
"""Bytes that are received or unpacked at a time."""


@contextmanager
def reading(file: Path | str) -> Iterator[None]:
    """Turn an error while reading `file` into a TextError that names the file and the reason.

    Raises:
        TextError: the block raised an OSError, or an error of a damaged gzip file.
    """
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise TextError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def python_reference() -> list[str]:
    """Return the articles of the Python language reference that CPython ships, sorted by topic."""
    from pydoc_data.topics import topics

    return [topics[topic] for topic in sorted(topics)]


# ------------------------------------------------------------------------------- downloads


def unzipped_path(target: Path) -> Path:
    """Return the path of the text of a download: the file unpacked from a zip archive, or the download itself."""
    return target.with_suffix("") if target.suffix == ".zip" else target


def partial_path(target: Path) -> Path:
    """Return the path of a download that is not complete."""
    return target.with_name(target.name + ".part")


def is_downloaded(target: Path) -> bool:
    """Tell whether a download is there, unpacked or not."""
    return target.is_file() or unzipped_path(target).is_file()


def fetch(url: str, target: Path, size: int, sha256: str) -> Path:
    """Download a file unless it is already there, and unpack a zip archive of one file.

    An interrupted download is continued by the next call. A file that the user has put at `target` is used if its
    digest is right.

    Args:
        url: https, or plain http on this machine.
        target: where to keep the file.
        size: its exact size in bytes.
        sha256: its SHA-256 in hexadecimal.

    Returns:
        `unzipped_path(target)`.

    Raises:
        ConfigError: `url` is not a URL, or its scheme is not https.
        TextError: the file cannot be downloaded or unpacked, or differs from the expected one.
    """
    text_path = unzipped_path(target)
    if text_path != target and text_path.is_file():
        return text_path
    by_hand = f"download {url} by hand and put it at {target}"
    if target.is_file():
        with reading(target):
            matches = target.stat().st_size == size and sha256_of(target) == sha256
        if not matches:
            raise TextError(
                f"{target} is not the expected file (its SHA-256 should begin with {sha256[:12]}): "
                f"remove it, or {by_hand}"
            )
    else:
        _require_https(url, by_hand)
        partial = partial_path(target)
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            _download(url, partial, size)
        except (OSError, EOFError, UnicodeError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise TextError(f"cannot fetch {target.name} ({reason}): {by_hand}") from None
        if sha256_of(partial) != sha256:
            partial.unlink()
            raise TextError(f"the download from {url} is not {target.name} (its sha256 differs): {by_hand}")
        os.replace(partial, target)
    if text_path != target:
        _unzip(target, text_path, MAX_UNZIP_RATIO * size)
    return text_path


def _require_https(url: str, by_hand: str) -> None:
    try:
        address = urllib.parse.urlsplit(url)
        host = address.hostname
    except ValueError as error:
        raise ConfigError(f"corpus.url={url}: not a URL ({error})") from None
    if address.scheme != "https" and host not in ("localhost", "127.0.0.1"):
        raise ConfigError(f"corpus.url={url} is not https: {by_hand}")


def _download(url: str, partial: Path, size: int) -> None:
    """Append to `partial` until it has `size` bytes, never more."""
    have = partial.stat().st_size if partial.exists() else 0
    if have > size:
        partial.unlink()
        have = 0
    if have == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "chargen"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.build_opener(SecureRedirectHandler).open(request, timeout=30) as response:
        if response.status != 206:  # the server sends the file from its beginning
            have = 0
        with (
            open_no_follow(partial, "ab" if have else "wb") as stream,
            byte_progress(partial.stem, size, have) as advance,
        ):
            while block := response.read(_BLOCK_SIZE):
                have += len(block)
                if have > size:
                    raise EOFError(f"received more than the expected {size:,} bytes")
                stream.write(block)
                advance(len(block))
    if have < size:
        raise EOFError(f"received {have:,} of {size:,} bytes; the next attempt continues from there")


class SecureRedirectHandler(urllib.request.HTTPRedirectHandler):
    """Refuse a redirect from https to another scheme."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request for `newurl`; arguments are those of `urllib.request.HTTPRedirectHandler`.

        Raises:
            OSError: the redirect leads from https to another scheme.
        """
        if req.type == "https" and not newurl.startswith("https:"):
            raise OSError(f"it redirects from https to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _unzip(archive_path: Path, target: Path, max_size: int) -> None:
    """Unpack the only file of an archive to `target`. The name inside the archive is ignored: it may lead anywhere."""
    try:
        with zipfile.ZipFile(archive_path) as archive, atomic_write(target) as temporary:
            members = archive.infolist()
            if len(members) != 1:
                raise ValueError(f"it contains {len(members)} files")
            if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("its compression method is neither stored nor deflated")
            with archive.open(members[0]) as packed, open(temporary, "wb") as stream:
                while block := packed.read(_BLOCK_SIZE):
                    if stream.tell() + len(block) > max_size:
                        raise ValueError(f"it unpacks to more than {MAX_UNZIP_RATIO} times its size")
                    stream.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise TextError(f"{archive_path} is not a zip archive of one file ({error}): remove it") from None
