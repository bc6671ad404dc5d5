"""Runs and their models are found, however their place is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.models import write_model

from chargen.errors import ArgumentError, FileError
from chargen.storage.run_folder import (
    CONFIG,
    MODEL,
    RUN_FILES,
    SAMPLES,
    TOKENIZER,
    is_run_folder,
    load_model,
    newest_run,
    run_folders,
)


def test_a_model_is_found_however_its_place_is_given(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(away / "home"))
    write_model(away / "home" / "r", validation_estimate_nats_per_char=1.25)
    os.symlink("home/r", "link")

    class Place:
        def __fspath__(self) -> str:
            return "home/r"

    for where in ("home/r", Path("home/r"), Place(), "home/r/model.safetensors", "~/r", Path("~/r"), "link"):
        assert load_model(where).estimate == 1.25


@pytest.mark.parametrize("where", ["", " ", "\ud800", "a\0b", "\udcff\ud800"])
def test_a_name_that_no_file_can_have_is_one_line(where: str) -> None:
    with pytest.raises(FileError, match=r"^'.*' is not the name of a file or folder: give a run's folder") as raised:
        load_model(where)
    assert str(raised.value).isprintable()


def test_a_name_that_no_run_has_is_refused(away: Path) -> None:
    for where in ("~", "~nobody-of-this-name/r", "nowhere", os.fsdecode(b"\xff")):
        with pytest.raises(FileError, match=r"no such run: |holds no model"):
            load_model(where)
    with pytest.raises(ArgumentError, match=r"^path=3: must be a string, a path or None"):
        load_model(3)  # type: ignore[arg-type]


def test_the_newest_run_is_the_one_whose_model_was_written_last(away: Path) -> None:
    """A link that leads nowhere is none."""
    for age, name in enumerate(("b", "sweep/0", "a")):
        write_model(away / "runs" / name)
        os.utime(away / "runs" / name / MODEL, (1000 - age, 1000 - age))
    (away / "runs" / "c").mkdir()
    (away / "runs" / "c" / MODEL).symlink_to("nowhere")
    assert newest_run() == Path("runs/b")
    assert load_model(None).start_id == 2


@pytest.mark.parametrize(
    ("names", "is_run"),
    [
        (RUN_FILES, True),
        ((CONFIG, TOKENIZER), True),  # a run before its first update
        ((SAMPLES, MODEL), True),
        ((SAMPLES,), False),
        ((CONFIG,), False),
        ((MODEL, TOKENIZER, "config.json"), False),  # a model of another program
        ((), False),
    ],
)
def test_the_folder_of_a_run_is_known_by_its_files(names: tuple[str, ...], is_run: bool, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert is_run_folder(tmp_path) == is_run


def test_folders_of_runs_are_found_at_any_depth(tmp_path: Path) -> None:
    for name in ("a", "sweep/0", "sweep/1/inner"):
        write_model(tmp_path / name)
    write_model(tmp_path / "a" / "copy")
    (tmp_path / "empty").mkdir()
    assert [str(folder.relative_to(tmp_path)) for folder in run_folders(tmp_path)] == [
        "a",
        "a/copy",
        "sweep/0",
        "sweep/1/inner",
    ]
    assert list(run_folders(tmp_path / "sweep" / "0")) == [tmp_path / "sweep" / "0"]
