"""Nothing is lost: runs that are killed, moved, interrupted twice, or given a disk that is full."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Launch
from test_cli import TEXT, TINY
from test_training import everything

from chargen.portable import Portable

SETTINGS = (
    *("t.txt", "model=tiny", "model.dropout=0.2", "model.weight_dropout=0.2", "model.num_layers=2"),
    *("trainer.gradient_clip_val=0.1", "trainer.val_check_interval=150", "trainer.limit_val_batches=1"),
    *("sample_length=0", "sequence_length=16", "save_every_updates=25"),
)


def until(holds: Callable[[], bool], run: subprocess.Popen[bytes]) -> None:
    """Waits for something that a run is to do while it runs."""
    while not holds():
        assert run.poll() is None, run.communicate()[1].decode()
        time.sleep(0.005)


def changed(file: Path) -> Callable[[], bool]:
    """Whether a file is another one than now."""

    def identity() -> tuple[int, int] | None:
        try:
            return file.stat().st_ino, file.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    before = identity()
    return lambda: identity() != before


def ends_well(run: subprocess.Popen[bytes]) -> str:
    out, err = run.communicate()
    assert (run.returncode, err.decode()) == (0, "")
    return out.decode()


# ------------------------------------------------------------------------------- killed


def kill_again_and_again(kills: int, updates: int, launch: Launch, away: Path) -> None:
    """SIGKILL at moments drawn by chance: while it loads, encodes, learns, validates or saves."""
    chance, killed = random.Random(kills), 0
    (away / "t.txt").write_text("".join(chr(97 + (k * k) % 26) for k in range(40_000)), encoding="utf-8")
    words = (*SETTINGS, f"trainer.max_steps={updates}")
    ends_well(launch("train", *words, "run_dir=whole", "data_dir=whole_data"))
    last = away / "killed" / "last.ckpt"
    while killed < kills:
        saved = changed(last)
        run = launch("train", *(("resume=killed",) if last.exists() else (*words, "run_dir=killed")))
        if killed % 3:
            until(lambda saved=saved: saved(), run)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.1))
        else:
            time.sleep(chance.uniform(0, 4))
        assert run.poll() is None, "it came to its end before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.communicate()
        killed += 1
    ends_well(launch("train", "resume=killed"))
    ends = [everything(away / name / "last.ckpt") for name in ("whole", "killed")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    models = [Portable.load(away / name / "model.safetensors").weights for name in ("whole", "killed")]
    for name, value in models[0].items():
        np.testing.assert_array_equal(value, models[1][name])


def test_killed_three_times(launch: Launch, away: Path) -> None:
    kill_again_and_again(3, 2500, launch, away)


@pytest.mark.slow
def test_killed_thirty_times(launch: Launch, away: Path) -> None:
    kill_again_and_again(30, 12_000, launch, away)


def test_a_second_interrupt_stops_at_once(launch: Launch, away: Path) -> None:
    """The first waits for the update to end, which here is a whole pass; the checkpoint before stays as it was."""
    (away / "t.txt").write_text("".join(chr(97 + (k * k) % 26) for k in range(200_000)), encoding="utf-8")
    words = ("batch_size=1", "sequence_length=8", "trainer.limit_val_batches=0", "corpus.validation_fraction=0.01")
    ends_well(launch("train", "t.txt", *TINY, *words, "run_dir=r"))
    before, log = (away / "r" / "last.ckpt").read_bytes(), away / "r" / "metrics.csv"
    begun = changed(log)
    words = ("resume=r", "trainer.max_steps=100", "trainer.accumulate_grad_batches=1000000")
    run = launch("train", *words, PYTHONUNBUFFERED="1")
    until(begun, run)  # rows behind the checkpoint are cut when training is about to start
    time.sleep(1.5)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.poll() is None, run.communicate()
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (130, b""), err.decode()
    assert b"stopped at update 6 and saved; go on with" in out
    assert (away / "r" / "last.ckpt").read_bytes() == before
    assert not list((away / "r").glob(".*.tmp"))


def test_a_moved_run_goes_on(chargen: Callable[..., tuple[int, str, str]], away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "run_dir=runs/a")[0] == 0
    (away / "elsewhere").mkdir()
    (away / "runs").rename(away / "elsewhere" / "old runs")
    code, out, err = chargen("train", "resume=elsewhere/old runs/a", "trainer.max_steps=9")
    assert (code, err) == (0, "")
    assert "written     elsewhere/old runs/a/model.safetensors" in out
    assert not (away / "runs").exists()


# ------------------------------------------------------------------------------- disks


def no_file_above(size: int) -> Callable[[], object]:
    """For a child: a write beyond `size` bytes fails, as on a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_disk_that_is_full_for_a_while(launch: Launch, away: Path) -> None:
    """The run goes on, tries again, and loses nothing once there is room."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    words = ["t.txt", "model=tiny", "trainer.max_steps=3000", "sample_length=0", "save_every_updates=40", "run_dir=r"]
    run = launch("train", *words, "sequence_length=16", prepare=no_file_above(20_000), PYTHONUNBUFFERED="1")
    assert run.stdout
    said = b""
    while b"going on, and trying again later" not in said:
        line = run.stdout.readline()
        assert line, run.communicate()
        said += line
    assert not (away / "r" / "last.ckpt").exists()
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    ends_well(run)
    assert torch.load(away / "r" / "last.ckpt", weights_only=True)["global_step"] == 3000
    assert Portable.load(away / "r" / "model.safetensors").notes["updates"] > 0
    assert not list((away / "r").glob(".*.tmp"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 kB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("nothing may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_stays_full(launch: Launch, away: Path, small_disk: Path) -> None:
    """It is said when it happens, and at the end in one line, with exit code 2; no half of a file is left."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    run = launch("train", "t.txt", "model=tiny", "trainer.max_steps=40", "sample_length=0", "run_dir=small/r")
    out, err = run.communicate()
    assert run.returncode == 2
    assert "cannot write small/r/last.ckpt: " in out.decode()
    assert err.decode().count("\n") == 1
    assert err.startswith(b"chargen: cannot write small/r/")
    assert b"make room, then write resume=small/r" in err
    assert not list(small_disk.rglob("*.tmp"))
    assert not list(small_disk.rglob("*.ckpt"))


def test_a_folder_that_is_deleted_meanwhile(launch: Launch, away: Path) -> None:
    """It is made again with the next checkpoint."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    words = ["t.txt", "model=tiny", "trainer.max_steps=3000", "sample_length=0", "save_every_updates=40", "run_dir=r"]
    run = launch("train", *words, "sequence_length=16")
    until((away / "r" / "last.ckpt").exists, run)
    shutil.rmtree(away / "r", ignore_errors=True)
    ends_well(run)
    assert torch.load(away / "r" / "last.ckpt", weights_only=True)["global_step"] == 3000
    assert Portable.load(away / "r" / "model.safetensors").notes["updates"] > 0


def test_a_folder_that_may_not_be_written(launch: Launch, away: Path, small_disk: Path) -> None:
    """Read-only, for root too: one line before anything is computed."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    run = launch("train", "t.txt", *TINY, "run_dir=small/r")
    _, err = run.communicate()
    assert (run.returncode, err.count(b"\n")) == (2, 1)
    assert b"small/r" in err
    assert b"Read-only file system" in err


# ------------------------------------------------------------------------------- terminals


def test_a_reader_that_has_seen_enough(launch: Launch, away: Path) -> None:
    """`chargen train | head -1`: it ends in silence, saved, and can be gone on with."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    run = launch("train", "t.txt", "model=tiny", "sequence_length=16", "run_dir=r", "trainer.max_steps=1000000")
    assert run.stdout
    assert run.stderr
    until((away / "r" / "metrics.csv").exists, run)
    run.stdout.close()
    assert (run.wait(timeout=60), run.stderr.read()) == (128 + signal.SIGTERM, b"")
    done = torch.load(away / "r" / "last.ckpt", weights_only=True)["global_step"]
    ends_well(launch("train", "resume=r", f"trainer.max_steps={done + 3}"))


@pytest.mark.parametrize(
    "env",
    [{"TERM": "dumb"}, {"LC_ALL": "C", "LANG": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_poor_terminals(env: dict[str, str], launch: Launch, away: Path) -> None:
    (away / "t.txt").write_text("白日依山尽，黄河入海流。\n" * 200, encoding="utf-8")
    ends_well(launch("train", "t.txt", *TINY, "run_dir=r", **env))
    out = ends_well(launch("sample", "r", "--seed", "1", "--length", "50", **env))
    assert len(out) > 50
    assert os.fsencode("\x1b") not in out.encode()
