"""What the files of a run say is read as they say it, and damaged files are named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.environment import ROOT
from support.models import write_model
from support.run_files import write_config, write_log, write_summary

from chargen.errors import FileError
from chargen.storage.checkpoint import CHECKPOINT
from chargen.storage.locks import folder_lock
from chargen.storage.run_folder import CONFIG, METRICS, MODEL, RUN_FILES, SUMMARY
from chargen.storage.run_list import list_runs, read_run

OLD = ROOT / "tests" / "storage" / "files" / "chargen-0.1.0.safetensors"


def test_a_run_is_described_by_its_files(tmp_path: Path) -> None:
    run = write_model(tmp_path / "r", corpus={"characters": 7}, updates=10, validation_estimate_nats_per_char=2.5)
    found = read_run(run)
    assert (found.updates, found.score, found.is_final, found.corpus) == (10, 2.5, False, {"characters": 7})
    assert found.model is not None
    assert found.written == (run / MODEL).stat().st_mtime
    write_log(run, (10, 1.5, 2.25), (20, 3.0, ""), (30, 4.5, 1.75), (40, 6.0, "nan"))
    found = read_run(run)
    assert (found.updates, found.seconds, found.score, found.is_final) == (40, 6.0, 1.75, False)
    write_summary(run, updates=40)
    found = read_run(run)
    assert (found.updates, found.seconds, found.score, found.is_final) == (40, 9.0, 1.5, True)
    write_summary(run, updates=30)  # the run has gone on since
    found = read_run(run)
    assert (found.updates, found.score, found.is_final) == (40, 1.75, False)
    write_config(run, os.fsdecode(b"\xff"))
    assert read_run(run).config["corpus"]["path"] == os.fsdecode(b"\xff")
    assert (read_run(run).damaged, read_run(run).has_checkpoint) == ([], False)


def test_a_run_of_chargen_0_1_is_described(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(OLD.read_bytes())
    (tmp_path / CHECKPOINT).write_bytes(OLD.with_suffix(".ckpt").read_bytes())
    found = read_run(tmp_path)
    assert (found.updates, found.corpus["characters"], found.config["run_dir"]) == (60, 4000, "whole")
    assert (found.damaged, found.has_checkpoint) == ([], True)


@pytest.mark.parametrize("name", [CONFIG, METRICS, MODEL, SUMMARY, CHECKPOINT])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b"a: [b", b'{"updates": 3}', b"update\nx\n"]
)
def test_damaged_and_foreign_files_are_named(name: str, content: bytes, tmp_path: Path) -> None:
    """A file without rows is no damage."""
    (tmp_path / name).write_bytes(content)
    is_harmless = {CONFIG: (b'{"updates": 3}',), METRICS: (b"", b"[" * 100_000, b"null", b"a: [b", b'{"updates": 3}')}
    assert read_run(tmp_path).damaged == ([] if content in is_harmless.get(name, ()) else [name])


def test_files_that_were_cut_off_are_named(tmp_path: Path) -> None:
    for file, name in ((OLD, MODEL), (OLD.with_suffix(".ckpt"), CHECKPOINT)):
        (tmp_path / name).write_bytes(file.read_bytes()[:-1])
    assert read_run(tmp_path).damaged == [MODEL, CHECKPOINT]


def test_pipes_and_links_are_not_waited_for(tmp_path: Path) -> None:
    for name in RUN_FILES:
        os.mkfifo(tmp_path / name)
    assert read_run(tmp_path).damaged == []
    assert list_runs(tmp_path)  # it has a name of a model


def test_a_run_is_running_while_its_folder_is_locked(tmp_path: Path) -> None:
    run = write_model(tmp_path / "r")
    assert not read_run(run).is_running
    with folder_lock(run):
        assert read_run(run).is_running
    assert not read_run(run).is_running
    (run / ".owner").write_text("process 1 on a machine")  # left by a process that was killed
    assert not read_run(run).is_running


def test_runs_are_listed_with_the_newest_last(tmp_path: Path) -> None:
    for age, name in enumerate(("c", "a", "sweep/0")):
        os.utime(write_model(tmp_path / name) / MODEL, (2000 - age, 2000 - age))
    assert [str(run.folder.relative_to(tmp_path)) for run in list_runs(tmp_path)] == ["sweep/0", "a", "c"]
    with pytest.raises(FileError, match=r"no such folder: .*nowhere"):
        list_runs(tmp_path / "nowhere")
