"""Find the files of a text: a file, a folder, a glob, or several of these.

Each real file is taken once. In a folder and in a glob, linked folders are followed once, and hidden files are left
out. So is what chargen wrote: a folder of a run, recognised by its files, and downloads.
"""

from __future__ import annotations

import json
import os
import shlex
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from glob import escape, has_magic
from pathlib import Path

from chargen.config import expand_home
from chargen.corpus.documents import DOCUMENTS
from chargen.corpus.encoded_folder import ENCODED
from chargen.corpus.records import TABLES
from chargen.corpus.sources import reading, unzipped_path
from chargen.errors import TextError
from chargen.storage.run_folder import RUN_FILES, is_run_folder, is_runs_folder

TEXT_SUFFIXES = (".txt", ".md", ".jsonl")
"""The files of a folder that are read as text, also with `.gz` appended."""

OTHER_KINDS = (DOCUMENTS, TABLES)
"""The files that a folder without text stands for: documents or, if there are none, tables."""

ANY_DEPTH = "**"
"""The part of a pattern that stands for any number of folders."""

_SHOWN = 3
"""The most files or suffixes that a message names."""


@dataclass
class FoundText:
    """The files of a text, and what was left out.

    Attributes:
        files: in a stable order.
        own: files that chargen wrote, left out.
        unreadable: broken links, and folders that cannot be read, left out.
        others: the other files of a folder, by suffix.
    """

    files: list[Path] = field(default_factory=list)
    own: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    others: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def left_out(self) -> str:
        """What was left out, in words; "" if nothing was."""
        parts = []
        if self.own:
            parts.append(f"{len(self.own):,} that chargen wrote ({_some(self.own)})")
        if self.unreadable:
            parts.append(f"{len(self.unreadable):,} that cannot be read ({_some(self.unreadable)})")
        return " and ".join(parts)

    def add(self, other: FoundText) -> None:
        """Append what was found elsewhere."""
        self.files += other.files
        self.own += other.own
        self.unreadable += other.unreadable


def find_files(path: str | Sequence[str]) -> list[Path]:
    """List the files of a text, as `find_text` does."""
    return find_text(path).files


def find_text(path: str | Sequence[str]) -> FoundText:
    """Find the files of a text.

    Args:
        path: a file, a folder, a glob, or a sequence of these. A folder stands for its `.txt`, `.md` and `.jsonl` files
            at any depth, also with `.gz` appended; if it has none, for its documents, or else for its tables. `~` is
            the home folder, unless a file has that name. A file that is named is always taken.

    Raises:
        TextError: there are no such files, or the path cannot be read.
    """
    found = FoundText()
    if not isinstance(path, str):
        for one in path:
            found.add(find_text(one))
        once: dict[str, Path] = {}
        for file in found.files:
            once.setdefault(os.path.realpath(file), file)
        found.files = list(once.values())
        if not found.files:
            raise TextError("no files of a text are given")
        return found
    expanded = Path(expand_home(path))
    with reading(path):
        if expanded.is_dir():
            found = _search(expanded, None)
            for kinds in OTHER_KINDS:
                matching = (files for suffix, files in found.others.items() if suffix.lower().startswith(kinds))
                found.files = found.files or sorted(file for files in matching for file in files)
            if not found.files:
                raise TextError(_no_text(expanded, found))
        elif expanded.is_file():
            found.files.append(expanded)
        else:
            folder, pattern = _split_pattern(expanded)
            if pattern and folder.is_dir():
                found = _search(folder, pattern)
            if not found.files and found.own:
                raise TextError(f"{path}: chargen wrote what this pattern names ({_some(found.own)}); name a file "
                                "in full to learn from it")  # fmt: skip
            if not found.files:
                raise TextError(f"no such file, folder or pattern: {path}")
    return found


# ------------------------------------------------------------------------------- search


def _search(top: Path, pattern: Sequence[str] | None) -> FoundText:
    """Find the texts below a folder, or all files that match a pattern, each real file once.

    Args:
        top: the folder. Names that chargen gives its files are left out there if it is the folder of a run.
        pattern: the parts of a glob below `top`; None for files with a suffix of a text.
    """
    found, taken, links = FoundText(), set[str](), list[Path]()

    def take(file: Path, real: str, is_own: bool) -> None:
        if real not in taken:
            taken.add(real)
            (found.own if is_own else found.files).append(file)

    for folder, entry, is_own in _walk(top, pattern, found):
        file = Path(entry)
        if pattern is None and not _is_text(file.name):
            if not is_own:
                found.others.setdefault(_suffix_of(file), []).append(file)
        elif pattern is not None and not _matches(file.relative_to(top).parts, pattern):
            continue
        elif entry.is_symlink():
            links.append(file)
        else:
            take(file, os.path.join(folder, entry.name), is_own)
    for file in sorted(links):  # after the files themselves, which are preferred to links to them
        real = Path(os.path.realpath(file))
        take(file, str(real), real.name in _own_names(real.parent))
    for files in (found.files, found.own, found.unreadable):
        files.sort()
    return found


def _walk(top: Path, pattern: Sequence[str] | None, found: FoundText) -> Iterator[tuple[str, os.DirEntry[str], bool]]:
    """Yield the files below a folder that are not hidden: the real path of their folder, their entry, and whether
    chargen wrote them, or they lie in the folder of a run below `top`.

    A linked folder is entered after all others, and only if it has not been read by then.
    """
    folders, links, seen = deque([(top, 0, False)]), deque[tuple[Path, int, bool]](), set[str]()
    while folders or links:
        folder, depth, is_own = folders.popleft() if folders else links.popleft()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as opened:
                entries = sorted(opened, key=lambda entry: entry.name)
        except OSError:
            if folder == top:
                raise
            found.unreadable.append(folder)
            continue
        own_names = _own_names(folder)
        for entry in entries:
            if _is_hidden(entry.name, depth, pattern):
                continue
            path = Path(entry)
            try:
                if entry.is_dir():
                    if (pattern is None or _leads_on(entry.name, depth, pattern)) and not _holds_encoded(path):
                        where = links if entry.is_symlink() else folders
                        where.append((path, depth + 1, is_own or is_run_folder(path) or is_runs_folder(path)))
                elif entry.is_file():
                    yield real, entry, is_own or entry.name in own_names
                elif entry.is_symlink() and not os.path.exists(entry) and pattern is None:
                    found.unreadable.append(path)
            except OSError:  # a link to itself
                found.unreadable.append(path)


def _is_hidden(name: str, depth: int, pattern: Sequence[str] | None) -> bool:
    """Tell whether a name begins as those of hidden files and of the lock files of word processors do.

    A pattern names such files if its part at that depth begins in the same way.
    """
    mark = next((mark for mark in (".", "~$") if name.startswith(mark)), None)
    if mark is None:
        return False
    parts = () if pattern is None else pattern[: depth + 1]
    return ANY_DEPTH in parts or len(parts) <= depth or not parts[depth].startswith(mark)


def _split_pattern(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Split a glob into the folder that it begins with and the parts of the pattern below it.

    A folder that exists under a name with brackets is a folder. Without any pattern there are no parts.
    """
    folder = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    for number, part in enumerate(parts):
        if has_magic(part) and not (folder / part).is_dir():
            return folder, parts[number:]
        folder /= part
    return folder, ()


def _leads_on(name: str, depth: int, pattern: Sequence[str]) -> bool:
    """Tell whether files below a folder of this name can match a pattern."""
    if ANY_DEPTH in pattern[: depth + 1]:
        return True
    return depth + 1 < len(pattern) and fnmatch(name, pattern[depth])


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == ANY_DEPTH:
        return any(_matches(parts[begin:], pattern[1:]) for begin in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _is_text(name: str) -> bool:
    return name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)


def _holds_encoded(folder: Path) -> bool:
    return folder.name == ENCODED and any(folder.glob("*/manifest.json"))


def _own_names(folder: Path) -> frozenset[str]:
    """Return the names of the files in a folder that chargen wrote: those of a run, and downloads."""
    downloads = (unzipped_path(Path(name)).name for name in downloads_in(folder))
    return frozenset(RUN_FILES if is_run_folder(folder) else ()).union(downloads)


def downloads_in(data_dir: Path) -> dict[str, str]:
    """Return the downloads in a data folder that its encoded texts were made of: the digest of each text by name."""
    digests: dict[str, str] = {}
    for manifest in (data_dir / ENCODED).glob("*/manifest.json"):
        try:
            if manifest.is_file():  # a pipe would block
                content = json.loads(manifest.read_text(encoding="utf-8"))
                name, digest = str(content["download"]), str(content["sha256"])
                if Path(name).name == name:  # a path could lead elsewhere
                    digests[name] = digest
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
    return digests


# ------------------------------------------------------------------------------- messages


def _no_text(folder: Path, found: FoundText) -> str:
    """Say why a folder has no text, and which pattern takes its files."""
    shown = _shown(folder)
    if found.own:
        return f"no text in the folder {shown} but {found.left_out}: name a file in full to learn from it"
    message = f"no text in the folder {shown}: it should contain {', '.join(TEXT_SUFFIXES)} files (or .gz)"
    others = sorted(found.others.items(), key=lambda item: (-len(item[1]), item[0]))
    if others:
        there = ", ".join(f"{suffix or 'no suffix'} ({len(files):,})" for suffix, files in others[:_SHOWN])
        message += f", but its files have {there}"
    for suffix, files in others:
        if _looks_like_text(files[0]):
            depth = (ANY_DEPTH,) if any(file.parent != folder for file in files) else ()
            pattern = shlex.quote(str(Path(escape(str(shown)), *depth, f"*{escape(suffix)}")))
            return f"{message}; a pattern takes them: chargen train {pattern}"
    return message


def _looks_like_text(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            start = stream.read(1 << 12)
    except OSError:
        return False
    return bool(start) and b"\0" not in start


def _suffix_of(file: Path) -> str:
    return "".join(file.suffixes[-2:]) if file.suffix == ".gz" else file.suffix


def _shown(path: Path) -> Path:
    """Return a path as seen from the working folder if it lies there."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else path


def _some(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _SHOWN:,} more" if len(files) > _SHOWN else ""
    return ", ".join(str(_shown(file)) for file in files[:_SHOWN]) + more
