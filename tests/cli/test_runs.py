"""`chargen runs` lists runs as they are, and removes what can be made again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.models import write_model
from support.run_files import write_config, write_log, write_summary

from chargen.storage.checkpoint import CHECKPOINT
from chargen.storage.checksum import add_checksum
from chargen.storage.locks import folder_lock
from chargen.storage.model_file import ModelFile
from chargen.storage.run_folder import CONFIG, MODEL

Chargen = Callable[..., tuple[int, str, str]]


def write_checkpoint(folder: Path) -> None:
    """A checkpoint as far as it is looked at: an empty zip archive with a checksum."""
    (folder / CHECKPOINT).write_bytes(b"PK\5\6" + bytes(18))
    add_checksum(folder / CHECKPOINT)


def make_run(name: str, path: object = "poem.txt", updates: int = 30, **trainer: object) -> Path:
    """A run that was stopped after some updates, 2 for each second."""
    run = write_model(Path("runs", name), corpus={"characters": 1000})
    write_config(run, path, **trainer)
    write_log(run, (updates, updates / 2, 1.25))
    write_checkpoint(run)
    return run


def rows(out: str) -> dict[str, list[str]]:
    """The cells of each line by the first of them."""
    return {line.split("  ")[0]: re.split(" {2,}", line.strip())[1:] for line in out.splitlines()}


def test_a_run_is_listed_with_its_text_size_score_and_state(chargen: Chargen, away: Path) -> None:
    assert chargen("runs") == (0, "there is no run in runs/ yet: train one with `chargen train`\n", "")
    done = make_run("done", "/a/b/詩.txt", max_steps=30)
    write_summary(done, updates=30, score=1.0625)
    old = time.mktime((2001, 2, 3, 4, 5, 6, 0, 0, -1))
    for file in done.iterdir():
        os.utime(file, (old, old))
    make_run("steps", max_steps=40)
    make_run("time", ["a.txt", "b.txt", "c.txt"], max_time="00:00:01:00")
    make_run("passes", "poems", max_epochs=4)  # 900 characters in 16 lanes of one window: one update in each pass
    make_run("nothing known", None, max_epochs=0)
    os.remove(make_run("copied", updates=2) / CHECKPOINT)
    size = f"{ModelFile.load(done / MODEL).config.num_parameters / 1000:.1f} k"
    code, out, err = chargen("runs")
    assert (code, err) == (0, "")
    head, *lines, note = out.splitlines()
    assert re.split(" {2,}", head.strip()) == ["run in runs", "written", "text", "size", "nats/char", "state"]
    assert lines[0].split()[0] == "done"  # the oldest
    assert note.startswith("~ ")
    found = rows(out)
    assert found["done"] == ["Feb 03 2001", "詩.txt", size, "1.0625", "complete"]
    assert found["steps"][1:] == ["poem.txt", size, "~1.2500", "stopped at 75%"]
    assert found["time"][1:] == ["a.txt and 2 more", size, "~1.2500", "stopped at 25%"]
    assert found["passes"][1:] == ["poems", size, "~1.2500", "stopped at 99%"]
    assert found["nothing known"][1:] == ["text", size, "~1.2500", "stopped"]
    assert found["copied"][1:] == ["poem.txt", size, "~1.2500", "no checkpoint"]


def test_a_run_that_is_written_runs(chargen: Chargen, away: Path) -> None:
    """And none is complete that has gone on since it was."""
    run = make_run("r", max_steps=40)
    write_summary(run, updates=20)
    assert rows(chargen("runs")[1])["r"][-1] == "stopped at 75%"
    with folder_lock(run):
        assert rows(chargen("runs")[1])["r"][-1] == "running at 75%"
    write_summary(run, updates=30)
    assert rows(chargen("runs")[1])["r"][-1] == "complete"


def test_damaged_and_foreign_folders_are_listed_without_a_traceback(chargen: Chargen, away: Path) -> None:
    for name, files in {
        "torn": {MODEL: b"\0" * 20, CHECKPOINT: b"PK", "metrics.csv": b"update\nx"},
        "strange": {CONFIG: b"- 1\n- 2", "summary.json": b"[" * 100_000},
        "nested": {CONFIG: b"{corpus: [], trainer: 3}", "metrics.csv": b"\0"},
        "another program's": {MODEL: b"{}", "config.json": b""},
        "no run": {CONFIG: b"", "notes.txt": b"mine"},
    }.items():
        Path("runs", name).mkdir(parents=True)
        for file, content in files.items():
            Path("runs", name, file).write_bytes(content)
    Path("runs", "loop").symlink_to(".")
    Path("runs", "lost").symlink_to("nowhere")
    code, out, err = chargen("runs")
    assert (code, err) == (0, "")
    states = {name: cells[-1] for name, cells in rows(out).items() if name != "run in runs"}
    assert states == {
        "torn": f"damaged: {MODEL}, metrics.csv, {CHECKPOINT}",
        "strange": f"damaged: {CONFIG}, summary.json",
        "nested": "no checkpoint",
        "another program's": f"damaged: {MODEL}",
    }


def test_names_cannot_steer_a_terminal(chargen: Chargen, away: Path) -> None:
    names = ["a\x1b[31mb", "line\nend", "[red]:smile:", os.fsdecode(b"\xff")]
    try:
        for name in names:
            make_run(name, f"{name}.txt")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    code, out, err = chargen("runs")
    assert (code, err) == (0, "")
    found = rows(out)
    for name in ("a\\x1b[31mb", "line\\nend", "[red]:smile:", "\\udcff"):
        assert found[name][1] == f"{name}.txt"


@pytest.mark.parametrize("columns", [60, 80])
def test_a_table_fits_a_terminal_whatever_script_its_names_are_in(columns: int, away: Path) -> None:
    """Its lines are equally wide in the cells of a terminal, and nothing of a name is lost."""
    make_run("2026-11-26_10-00-00_2", "poem.txt", max_steps=40)
    make_run("唐诗三百首", "一部很長很長很長很長很長很長的小說", max_steps=40)
    ours, theirs = os.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    subprocess.run([sys.executable, "-m", "chargen", "runs"], stdout=theirs, env=environment, check=True)
    os.close(theirs)
    shown = re.sub("\x1b\\[[0-9;]*m", "", os.read(ours, 1 << 16).decode()).splitlines()
    os.close(ours)
    table = [line for line in shown if not line.startswith(("~", "held-out", "of the whole"))]
    assert {cell_len(line) for line in table} in [{width} for width in range(columns + 1)]
    chinese = [character for character in "".join(table) if character >= "一"]
    assert sorted(chinese) == sorted("唐诗三百首一部很長很長很長很長很長很長的小說")
    assert columns < 80 or any(line.startswith("2026-11-26_10-00-00_2  ") for line in table)


def test_listing_runs_needs_no_torch(away: Path) -> None:
    write_summary(make_run("r", max_steps=40), updates=40)
    code = """
import sys
from chargen.cli.app import main
sys.argv = ["chargen", "runs"]
try:
    main()
finally:
    print(sorted({"torch", "lightning", "hydra", "omegaconf", "matplotlib", "tokenizers"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "complete" in result.stdout


def test_a_folder_of_runs_can_be_named(chargen: Chargen, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run("sweep/0", max_steps=40)
    monkeypatch.setenv("HOME", str(away / "runs"))
    for folder, name in (("runs", "sweep/0"), (".", "runs/sweep/0"), ("runs/sweep", "0"), ("~/sweep", "0")):
        assert rows(chargen("runs", folder)[1])[name][-1] == "stopped at 75%"
    assert rows(chargen("runs", "runs/sweep/0")[1])["-"][-1] == "stopped at 75%"
    for words, message in (
        (["nowhere"], "no such folder: nowhere"),
        (["runs", "--clear-cache"], "--clear-cache clears a data folder: write --data-dir runs, or leave runs out"),
        (["--clear-cache"], "there is no folder data: nothing was encoded or downloaded there"),
    ):
        assert chargen("runs", *words) == (2, "", f"chargen: {message}\n")


def test_clear_cache_says_what_it_removed(chargen: Chargen, away: Path) -> None:
    """Downloads are those that conf/corpus names."""
    data = away / "data"
    (data / "encoded" / ("0" * 20)).mkdir(parents=True)
    (data / "encoded" / ("0" * 20) / "ids.bin").write_bytes(b"1" * 1000)
    (data / "text8.zip.part").write_bytes(b"2" * 234)
    (data / "tinyshakespeare.txt").write_text("mine")
    (data / "poem.txt").write_text("mine")
    code, out, err = chargen("runs", "--clear-cache")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "1,234 bytes freed in data: 1 encoded text and 1 download removed",
        "  left: data/tinyshakespeare.txt (not the download of that name)",
    ]
    assert sorted(os.listdir(data)) == ["poem.txt", "tinyshakespeare.txt"]
    os.rename("data", "elsewhere")
    out = chargen("runs", "--clear-cache", "--data-dir", "elsewhere")[1]
    assert out.startswith("0 bytes freed in elsewhere: 0 encoded texts and 0 downloads removed\n")
