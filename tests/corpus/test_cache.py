"""Encoded texts and downloads are removed, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.corpora import load_text
from support.hosts import Host

from chargen.config import CorpusConfig
from chargen.corpus.cache import clear_cache
from chargen.corpus.encoded import load_corpus
from chargen.errors import FileError
from chargen.storage.checksum import sha256_of
from chargen.storage.locks import folder_lock


def names_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir())


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with two encoded texts, as `load_text` makes it."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name} text to encode\n")
        load_text(tmp_path / f"{name}.txt", tmp_path)
    return tmp_path / "cache"


def test_the_cache_is_removed_and_its_size_is_told(data_dir: Path) -> None:
    contents = {"x.zip": b"x" * 30, "x": b"y" * 50, "y.txt.part": b"z" * 7, "y.txt": b"z" * 8}
    for name, content in contents.items():
        (data_dir / name).write_bytes(content)
    (data_dir / "encoded" / ("0" * 20)).mkdir()  # interrupted
    (data_dir / "encoded" / ("0" * 20) / ".ids.bin.77.tmp").write_bytes(b"1" * 11)
    size = sum(file.stat().st_size for file in data_dir.rglob("*") if file.is_file())
    cleared = clear_cache(data_dir, {"x.zip": 30, "y.txt": 8, "z.txt": 9})
    assert (cleared.encoded, cleared.downloads, cleared.num_bytes, cleared.left) == (3, 4, size, [])
    assert list(data_dir.rglob("*")) == []
    assert load_text(data_dir.parent / "a.txt", data_dir.parent).ids.size == 17  # encoded again
    assert clear_cache(data_dir, {}).encoded == 1


def test_what_chargen_did_not_write_is_left(data_dir: Path, tmp_path: Path) -> None:
    """Files of the user, other files of a known name, and everything behind a link."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "ids.bin").write_text("mine")
    first, second = sorted((data_dir / "encoded").iterdir())
    (first / "notes.txt").touch()
    (second / "tokenizer.json").unlink()
    (second / "tokenizer.json").symlink_to(precious / "ids.bin")
    encoded = data_dir / "encoded"
    for name in ("poem.txt", "changed.txt", "encoded/mine.txt"):
        (data_dir / name).write_text("my text")
    (encoded / ("a" * 20)).symlink_to(precious)
    (encoded / "my folder").mkdir()
    (data_dir / "linked.txt").symlink_to(precious / "ids.bin")
    (data_dir / "z.zip").symlink_to(precious / "ids.bin")
    before = names_in(tmp_path)
    cleared = clear_cache(data_dir, {"changed.txt": 8, "linked.txt": 4, "z.zip": 4})
    assert (cleared.encoded, cleared.downloads, cleared.num_bytes) == (0, 0, 0)
    assert names_in(tmp_path) == before
    assert [Path(line.partition(" (")[0]).name for line in cleared.left] == [
        "changed.txt", *sorted([first.name, second.name, "a" * 20, "mine.txt", "my folder"])
    ]  # fmt: skip
    encoded.rename(tmp_path / "moved")
    encoded.symlink_to(tmp_path / "moved")
    assert clear_cache(data_dir, {}).left == [f"{encoded} (a link)"]


def test_a_text_that_is_being_encoded_is_left(data_dir: Path) -> None:
    first, second = sorted((data_dir / "encoded").iterdir())
    with folder_lock(first):
        cleared = clear_cache(data_dir, {})
        assert (cleared.encoded, cleared.left) == (1, [f"{first} (being written)"])
        assert (first / "ids.bin").exists()
    assert not second.exists()


def test_a_download_of_any_name_is_known_by_its_encoded_text(host: type[Host], tmp_path: Path) -> None:
    """As long as it is the file that was downloaded."""
    (tmp_path / "copy").write_bytes(host.content)
    digest = sha256_of(tmp_path / "copy")
    settings: dict[str, Any] = dict(url=host.url, size=len(host.content), sha256=digest)
    for content, left in ((host.content, False), (b"my own text", True)):
        load_corpus(CorpusConfig(name="text", file="any.txt", **settings), tmp_path / "data")
        (tmp_path / "data" / "any.txt").write_bytes(content)
        clear_cache(tmp_path / "data", {})
        assert os.listdir(tmp_path / "data") == ["any.txt"] * left


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"there is no folder .*nowhere"):
        clear_cache(tmp_path / "nowhere", {})
