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
