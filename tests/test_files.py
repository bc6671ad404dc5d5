"""Files are whole or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from chargen.files import sha256_of, whole


def test_a_failed_write_leaves_what_stood_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with whole(target) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError, match="power cut"), whole(target) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError("power cut")
    assert target.read_text() == "old"
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_the_digest_is_of_all_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "f").write_bytes(content)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".file.999999999.tmp").touch()
    (tmp_path / ".file.1.tmp").touch()  # that process lives
    with whole(tmp_path / "file") as temporary:
        temporary.touch()
    assert sorted(file.name for file in tmp_path.iterdir()) == [".file.1.tmp", "file"]


def test_folders_and_devices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"), whole(tmp_path):
        pass
    with whole(Path("/dev/null")) as written:
        assert written == Path("/dev/null")
    assert not Path("/dev/null").is_file()
