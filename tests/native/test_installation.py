"""The command that builds the kernels installs from where chargen was installed."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from chargen import native
from chargen.errors import UserError
from chargen.native import loader
from chargen.native.installation import SOURCE, build_command


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with chargen in it."""
    folder = tmp_path / "site packages"
    monkeypatch.setattr(loader, "FOLDER", folder / "chargen" / "native")
    (folder / "chargen-9.dist-info").mkdir(parents=True)
    (folder / "chargen-9.dist-info" / "METADATA").write_text("Name: chargen\nVersion: 9\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    return folder


def arguments() -> list[str]:
    """What the command gives to pip, after the options that it always has."""
    variable, program, *words = shlex.split(build_command())
    assert variable == "CHARGEN_KERNELS=require"
    assert program == sys.executable
    assert words[:6] == ["-m", "pip", "install", "--no-cache-dir", "--force-reinstall", "--no-deps"]
    return words[6:]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({"url": "file://{tmp}/my%20source", "dir_info": {}}, "{tmp}/my source"),
        ({"url": "file://{tmp}/gone", "dir_info": {}}, SOURCE),
        (
            {"url": "https://example.org/chargen.git", "vcs_info": {"vcs": "git", "commit_id": "abc", "other": "x"}},
            "git+https://example.org/chargen.git@abc",
        ),
        (
            {"url": "https://example.org/a.git", "vcs_info": {"vcs": "git", "commit_id": "1"}, "subdirectory": "b"},
            "git+https://example.org/a.git@1#subdirectory=b",
        ),
        ({"url": "https://example.org/chargen-9.tar.gz", "archive_info": {}}, "https://example.org/chargen-9.tar.gz"),
        ({"url": "file:///chargen-9-py3-none-any.whl", "archive_info": {}}, SOURCE),
        (None, SOURCE),
    ],
    ids=["folder", "folder that is gone", "git", "folder in git", "archive", "wheel", "index"],
)
def test_an_installed_package_is_built_from_its_origin(
    origin: dict[str, Any] | None, expected: str, package: Path, tmp_path: Path
) -> None:
    (tmp_path / "my source").mkdir()
    if origin is not None:
        text = json.dumps(origin).replace("{tmp}", str(tmp_path))
        (package / "chargen-9.dist-info" / "direct_url.json").write_text(text, encoding="utf-8")
    assert arguments() == [expected.replace("{tmp}", str(tmp_path))]


def test_a_source_tree_is_installed_editable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "my tree"
    monkeypatch.setattr(loader, "FOLDER", root / "src" / "chargen" / "native")
    root.mkdir()
    (root / "setup.py").touch()
    (root / "Makefile").touch()
    assert arguments() == ["-e", str(root)]
    monkeypatch.setattr(sys, "prefix", str(root / ".venv"))
    assert shlex.split(build_command()) == ["make", "-C", str(root), "kernels"]


def test_missing_kernels_are_named_unless_they_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(native.VARIABLE, raising=False)
    monkeypatch.setattr(native, "library", lambda: None)
    line = native.missing()
    assert line is not None
    assert line.endswith(build_command())
    assert "\n" not in line
    monkeypatch.setenv(native.VARIABLE, native.OFF)
    assert native.missing() is None


@pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
def test_kernels_that_are_there_are_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.missing() is None
    native.library.cache_clear()
    monkeypatch.setenv(native.VARIABLE, "no such set")
    with pytest.raises(UserError, match="there are no such kernels"):
        native.missing()
    monkeypatch.undo()
    native.library.cache_clear()
