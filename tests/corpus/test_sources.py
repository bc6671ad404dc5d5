"""Downloads are complete, right and made once."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from support.hosts import Host, fetch_from

from chargen.corpus.sources import fetch, python_reference, reading, unzipped_path
from chargen.errors import ConfigError, TextError


def test_errors_while_reading_name_the_file_and_the_reason(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"^cannot read .*gone\.txt: No such file or directory$"), reading("gone.txt"):
        (tmp_path / "gone.txt").read_bytes()
    with pytest.raises(TextError, match=r"^cannot read a\.gz: it ends early$"), reading("a.gz"):
        raise EOFError("it ends early")


def test_python_reference_is_sorted_by_topic() -> None:
    from pydoc_data.topics import topics

    assert python_reference() == [topics[topic] for topic in sorted(topics)]


# ------------------------------------------------------------------------------- downloads


def test_download_is_made_once(host: type[Host], tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch_from(host, tmp_path / "t.txt").read_bytes() == host.content
    assert host.asked == [None]
    assert [file.name for file in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_download_is_continued(ranges: bool, host: type[Host], tmp_path: Path) -> None:
    host.breaks_after, host.ranges = 70_000, ranges
    with pytest.raises(TextError, match=r"cannot fetch t.txt .*by hand and put it at .*t\.txt"):
        fetch_from(host, tmp_path / "t.txt")
    assert not (tmp_path / "t.txt").exists()
    host.breaks_after = None
    assert fetch_from(host, tmp_path / "t.txt").read_bytes() == host.content
    assert host.asked == [None, "bytes=70000-"]


def test_finished_partial_file_is_not_requested_again(host: type[Host], tmp_path: Path) -> None:
    (tmp_path / "t.txt.part").write_bytes(host.content)
    assert fetch_from(host, tmp_path / "t.txt").read_bytes() == host.content
    assert host.asked == []


def test_other_content_is_refused(host: type[Host], tmp_path: Path) -> None:
    with pytest.raises(TextError, match="its sha256 differs"):
        fetch_from(host, tmp_path / "t.txt", sha256="0" * 64)
    with pytest.raises(TextError, match="more than the expected 10 bytes"):
        fetch_from(host, tmp_path / "t.txt", size=10)
    assert not (tmp_path / "t.txt").exists()


def test_offline_error_says_where_to_put_the_file(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"by hand and put it at .*t\.txt"):
        fetch("http://127.0.0.1:9/t.txt", tmp_path / "t.txt", 10, "0" * 64)


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("http://example.org/t.txt", ConfigError, r"is not https: .*by hand and put it at .*t\.txt"),
        ("t.txt", ConfigError, "is not https"),
        ("https://[::1/t.txt", ConfigError, r"corpus\.url=.*: not a URL"),
        ("https://127.0.0.1:9/文章.txt", TextError, r"cannot fetch t\.txt"),
        ("https://127.0.0.1:port/t.txt", TextError, r"cannot fetch t\.txt"),
    ],
)
def test_mistakes_in_urls(url: str, kind: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=message):
        fetch(url, tmp_path / "t.txt", 10, "0" * 64)


def test_file_put_there_by_hand_is_used(host: type[Host], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(host.content)
    fetch_from(host, tmp_path / "t.txt")
    assert host.asked == []
    (tmp_path / "t.txt").write_bytes(b"something else")
    with pytest.raises(TextError, match="is not the expected file"):
        fetch_from(host, tmp_path / "t.txt")


def test_zip_archive_is_unpacked(host: type[Host], tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inside", b"the text itself")
    host.content = packed.getvalue()
    for _ in range(2):
        path = fetch_from(host, tmp_path / "t.zip")
        assert path == unzipped_path(tmp_path / "t.zip")
        assert path.read_bytes() == b"the text itself"
    assert host.asked == [None]
    host.content = b"no archive"
    with pytest.raises(TextError, match="not a zip archive"):
        fetch_from(host, tmp_path / "u.zip")
