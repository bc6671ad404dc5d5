"""Remove encoded texts and downloads, which chargen makes again when it needs them, and nothing else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chargen.corpus.encoded_folder import ENCODED, NAME_LENGTH
from chargen.corpus.files import downloads_in
from chargen.corpus.sources import partial_path, unzipped_path
from chargen.errors import FileError
from chargen.storage.checksum import sha256_of
from chargen.storage.locks import is_locked

_ENCODED_FILE = re.compile(
    r"(ids\.bin|tokenizer\.json|manifest\.json|\.lock|\.owner|\.(ids\.bin|tokenizer\.json|manifest\.json)\.\d+\.tmp)"
)


@dataclass
class Cleared:
    """What was removed, and what was not.

    Attributes:
        encoded: the number of encoded texts that were removed.
        downloads: the number of files of downloads that were removed.
        num_bytes: the size of the removed files.
        left: what was left there, with the reason.
    """

    encoded: int = 0
    downloads: int = 0
    num_bytes: int = 0
    left: list[str] = field(default_factory=list)


def clear_cache(data_dir: Path, downloads: Mapping[str, int]) -> Cleared:
    """Remove the encoded texts and the downloads in a data folder. Symbolic links in it are not followed.

    Args:
        data_dir: the data folder.
        downloads: the size of each known download, in bytes, by its name. Others are removed if an encoded text was
            made of them, and they still hold that text.

    Raises:
        FileError: there is no such folder.
        OSError: a file cannot be removed.
    """
    if not data_dir.is_dir():
        raise FileError(f"there is no folder {data_dir}: nothing was encoded or downloaded there")
    cleared, encoded = Cleared(), data_dir / ENCODED
    for name, digest in downloads_in(data_dir).items():
        text = unzipped_path(data_dir / name)
        if name not in downloads and _is_own(text) and sha256_of(text) == digest:
            _remove_download(data_dir / name, cleared)
    for name, size in downloads.items():
        file = data_dir / name
        if _is_own(file) and file.stat().st_size != size:
            cleared.left.append(f"{file} (not the download of that name)")
        else:
            _remove_download(file, cleared)
    if encoded.is_symlink():
        cleared.left.append(f"{encoded} (a link)")
    elif encoded.is_dir():
        for folder in sorted(encoded.iterdir()):
            _remove_encoded(folder, cleared)
        with contextlib.suppress(OSError):  # it is not empty
            encoded.rmdir()
    return cleared


def _remove_download(file: Path, cleared: Cleared) -> None:
    """Remove a download, its unpacked text, and what is left of an interrupted download."""
    for own in {file, unzipped_path(file), partial_path(file)}:
        if _is_own(own):
            _remove(own, cleared)
            cleared.downloads += 1


def _remove_encoded(folder: Path, cleared: Cleared) -> None:
    """Remove the folder of an encoded text unless it is being written, is a link or holds other files."""
    if not re.fullmatch(f"[0-9a-f]{{{NAME_LENGTH}}}", folder.name) or folder.is_symlink() or not folder.is_dir():
        cleared.left.append(f"{folder} (not an encoded text)")
        return
    if is_locked(folder):
        cleared.left.append(f"{folder} (being written)")
        return
    others = [file.name for file in folder.iterdir() if not (_ENCODED_FILE.fullmatch(file.name) and _is_own(file))]
    if others:
        cleared.left.append(f"{folder} (it holds {', '.join(sorted(others))})")
        return
    for file in sorted(folder.iterdir(), key=lambda file: file.name != "manifest.json"):  # without it, nothing is read
        _remove(file, cleared)
    folder.rmdir()
    cleared.encoded += 1


def _is_own(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def _remove(file: Path, cleared: Cleared) -> None:
    num_bytes = file.stat().st_size
    file.unlink()
    cleared.num_bytes += num_bytes
