"""Nothing is lost: runs that are killed, moved, interrupted twice, or given a disk that is full."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.environment import CELLS, ROOT, Figure, Launch
from support.models import TEXT, TINY
from support.runs import everything

from chargen.storage.model_file import ModelFile

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


def kill_again_and_again(
    kills: int, words: tuple[str, ...], launch: Launch, away: Path, figure: Figure, **env: str
) -> None:
    """SIGKILL at moments drawn by chance: while it loads, encodes, learns, validates or saves.

    What ends is compared with a run that was left alone, weights, optimizer, carry and generators, to the bit.
    """
    chance, killed = random.Random(kills), 0
    (away / "t.txt").write_text("".join(chr(97 + (k * k) % 26) for k in range(40_000)), encoding="utf-8")
    alone = launch("train", *words, "run_dir=whole", "data_dir=whole_data", **env)
    if env.get("OMP_NUM_THREADS") == "2":  # torch's threads wait for each other in a circle: two runs would crawl
        alone.wait()
    last = away / "killed" / "last.ckpt"
    while killed < kills:
        saved = changed(last)
        run = launch("train", *(("resume=killed",) if last.exists() else (*words, "run_dir=killed")), **env)
        if (kills - killed) % 3:
            until(saved, run)
            time.sleep(chance.uniform(0, 0.1))
        else:
            time.sleep(chance.uniform(0, 4))
        assert run.poll() is None, "it came to its end before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.communicate()
        killed += 1
    for run in (alone, launch("train", "resume=killed", **env)):
        ends_well(run)
    ends = [everything(away / name / "last.ckpt") for name in ("whole", "killed")]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name
    models = [ModelFile.load(away / name / "model.safetensors").weights for name in ("whole", "killed")]
    for name, weights in models[0].items():
        np.testing.assert_array_equal(weights, models[1][name])
    figure("kills survived", kills)


def test_killed_three_times(launch: Launch, away: Path, figure: Figure) -> None:
    kill_again_and_again(3, (*SETTINGS, "trainer.max_steps=2500"), launch, away, figure)


@pytest.mark.slow
def test_killed_thirty_times(launch: Launch, away: Path, figure: Figure) -> None:
    kill_again_and_again(30, (*SETTINGS, "trainer.max_steps=12000"), launch, away, figure)


OPTIONS = (
    ("optimizer.weight_decay=0", "optimizer.beta1=0.5", "optimizer.beta2=0.9", "model.residual=true"),
    ("optimizer.warmup_updates=0", "optimizer.final_fraction=1", "optimizer.learning_rate=0.02"),
    ("trainer.gradient_clip_val=0.01", "trainer.gradient_clip_algorithm=value", "model.num_layers=3"),
    ("trainer.accumulate_grad_batches=3", "trainer.gradient_clip_val=null", "corpus.unit=byte"),
    ("trainer.precision=bf16-mixed", "optimizer.warmup_updates=500"),
    ("trainer.precision=64-true", "model.num_layers=1", "model.dropout=0", "model.weight_dropout=0"),
)
"""Of the optimizer, and what else decides what is learned."""

EVERY = [
    ((f"trainer.max_steps={400 if kernels else 1500}", f"model.cell={cell}", *OPTIONS[number % 6]), kernels, threads)
    for number, (cell, kernels, threads) in enumerate(itertools.product(CELLS, ("", "off"), ("1", "2")))
]
COUNTED = [
    ((f"+experiment={file.stem}", "model.hidden_size=24", "batch_size=4", length), "", "1")
    for file in sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
    if "max_time" not in (settings := file.read_text(encoding="utf-8"))
    for length in ["trainer.max_epochs=8" if "max_epochs" in settings else "trainer.max_steps=1000"]
]
"""The experiments whose length is not given in time, with less to compute."""


def row(words: tuple[str, ...], kernels: str, threads: str) -> Any:
    """One of those; of the cells, three of each kind are in the default suite."""
    default = (words, kernels, threads) in (EVERY[3], EVERY[5], EVERY[8])
    name = f"{kernels or 'native'} {threads} {' '.join(words)}"
    return pytest.param(words, kernels, threads, id=name, marks=() if default else pytest.mark.slow)


@pytest.mark.parametrize(("words", "kernels", "threads"), [row(*settings) for settings in (*EVERY, *COUNTED)])
def test_killed_twice_whatever_the_settings(
    words: tuple[str, ...], kernels: str, threads: str, launch: Launch, away: Path, figure: Figure
) -> None:
    """Each cell with each kind of kernel and number of threads, each option of the optimizer, each experiment."""
    experiment = [word for word in words if word.startswith("+")]
    usual = [*SETTINGS[:1], *SETTINGS[-3:]] if experiment else SETTINGS
    given = {word.partition("=")[0] for word in words}
    usual = [word for word in usual if word.partition("=")[0] not in given]
    env = {"OMP_NUM_THREADS": threads, "CHARGEN_NATIVE": kernels}
    kill_again_and_again(2, (*usual, *words), launch, away, figure, **env)


class Slow(BaseHTTPRequestHandler):
    """Sends a text a little at a time, from where the client is; its server knows the text."""

    def do_GET(self) -> None:
        text: bytes = self.server.text  # type: ignore[attr-defined]
        span = self.headers.get("Range")
        begin = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        self.server.began.append(begin)  # type: ignore[attr-defined]
        self.send_response(206 if begin else 200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for place in range(begin, len(text), 1 << 16):
                self.wfile.write(text[place : min(place + (1 << 16), len(text))])
                time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        pass


def test_killed_while_it_downloads_and_encodes(launch: Launch, away: Path, figure: Figure) -> None:
    """Until it gets through; the download goes on where it was, and the ids are those of a text that was there."""
    text = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n".encode() * 100_000
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.text, server.began = text, []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url, digest = f"http://127.0.0.1:{server.server_port}/p.txt", hashlib.sha256(text).hexdigest()
    corpus = (f"corpus.url={url}", "corpus.file=p.txt", f"corpus.size={len(text)}", f"corpus.sha256={digest}")
    words = ("train", "corpus=text", *corpus, *TINY, "trainer.limit_val_batches=0", "run_dir=r")
    data, kills = away / "data", 0

    def part_way() -> bool:
        return any(file.stat().st_size > 0 for file in data.glob("*.part"))

    def encoding() -> bool:
        return any(data.glob("encoded/*/.ids.bin.*.tmp"))

    for moment in (part_way, part_way, encoding, encoding):
        run = launch(*words)
        until(lambda: not (data / "p.txt.part").exists() or part_way(), run)
        before = (data / "p.txt.part").stat().st_size if part_way() else 0
        until(moment, run)
        if moment is part_way:
            until(lambda before=before: (data / "p.txt.part").stat().st_size > before, run)  # type: ignore[misc]
        run.send_signal(signal.SIGKILL)
        run.communicate()
        kills += 1
        assert not list(data.glob("encoded/*/manifest.json"))
        assert (data / "p.txt").exists() == (moment is encoding)
    ends_well(launch(*words))
    server.shutdown()
    server.server_close()
    assert server.began[0] == 0  # type: ignore[attr-defined]
    assert len(server.began) == 3  # type: ignore[attr-defined]
    assert 0 < server.began[1] < server.began[2] < len(text)  # type: ignore[attr-defined]
    (away / "there.txt").write_bytes(text)
    ends_well(launch("train", "there.txt", *TINY, "trainer.limit_val_batches=0", "run_dir=s", "data_dir=other"))
    made = [next((away / name).glob("encoded/*/ids.bin")).read_bytes() for name in ("data", "other")]
    assert made[0] == made[1]
    ends = [everything(away / name / "last.ckpt") for name in ("r", "s")]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert not list(data.rglob("*.tmp")) + list(data.rglob("*.part"))
    figure("kills survived", kills)


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
    assert ModelFile.load(away / "r" / "model.safetensors").notes["updates"] > 0
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
    assert ModelFile.load(away / "r" / "model.safetensors").notes["updates"] > 0


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
