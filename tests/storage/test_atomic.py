"""Files are complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from chargen.errors import FileError
from chargen.storage.atomic import atomic_write, keep_previous, open_no_follow, previous_path, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with atomic_write(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), atomic_write(target) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError("power cut")
    assert target.read_text() == "old"
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".file.999999999.tmp").touch()
    (tmp_path / ".file.1.tmp").touch()  # that process is alive
    write_text(tmp_path / "file", "文")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".file.1.tmp", "file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "文"


def test_folders_are_refused_and_devices_are_written_to(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="is a folder"), atomic_write(tmp_path):
        pass
    with atomic_write(Path("/dev/null"), allow_pipes=True) as written:
        assert written == Path("/dev/null")
    assert not Path("/dev/null").is_file()


def test_the_previous_file_keeps_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    for content in ("first", "second"):
        if file.exists():
            keep_previous(file)
        write_text(file, content)
    assert previous_path(file) == tmp_path / "last.previous.ckpt"
    assert previous_path(file).read_text() == "first"
    assert file.read_text() == "second"


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="it is a symbolic link"):
        open_no_follow(tmp_path / "link", "w")
    assert (tmp_path / "other").read_text() == "precious"
