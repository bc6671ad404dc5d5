"""Nothing is lost: runs are killed, moved and interrupted twice, and disks are full or read-only."""

from __future__ import annotations

import contextlib
import functools
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
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from support.environment import CELLS, ROOT, Command, Figure, Launch
from support.models import TEXT, TINY
from support.processes import ForkedProcess
from support.runs import everything

from chargen.storage.model_file import ModelFile

Start = Callable[..., ForkedProcess]
Process = ForkedProcess | subprocess.Popen[bytes]

SETTINGS = (
    *("t.txt", "model=tiny", "model.dropout=0.2", "model.weight_dropout=0.2", "model.num_layers=2"),
    *("trainer.gradient_clip_val=0.1", "trainer.val_check_interval=150", "trainer.limit_val_batches=1"),
    *("sample_length=0", "sequence_length=16", "save_every_updates=25"),
)
SHORT = ("t.txt", "model=tiny", "sequence_length=16", "sample_length=0", "save_every_updates=40", "run_dir=r")


def write_squares(folder: Path, num_characters: int) -> None:
    """Write a text in which the letters follow the squares of the natural numbers."""
    (folder / "t.txt").write_text("".join(chr(97 + (k * k) % 26) for k in range(num_characters)), encoding="utf-8")


def wait_until(holds: Callable[[], bool], run: Process) -> None:
    """Wait for something that a run does while it runs."""
    while not holds():
        assert run.poll() is None, run.communicate()[1].decode()
        time.sleep(0.005)


def is_replaced(file: Path) -> Callable[[], bool]:
    """Return a function that tells whether the file is another one than now, or has changed."""

    def identity() -> tuple[int, int] | None:
        try:
            return file.stat().st_ino, file.stat().st_mtime_ns
        except FileNotFoundError:
            return None

    before = identity()
    return lambda: identity() != before


def require_success(run: Process) -> str:
    """Wait for a run to succeed without a message on standard error, and return its output."""
    out, err = run.communicate()
    assert (run.returncode, err.decode()) == (0, "")
    return out.decode()


# ------------------------------------------------------------------------------- killed


class Kills(NamedTuple):
    """How a run is killed.

    Attributes:
        number: how often.
        loading: the seconds that a process takes until it trains.
    """

    number: int
    loading: float


def kill_repeatedly(
    start: Callable[..., Process], away: Path, kills: Kills, words: tuple[str, ...], **env: str
) -> None:
    """Send SIGKILL at random moments: while the run loads, encodes, trains, validates or saves.

    The end is compared with that of a run that was left alone: weights, optimizer, carry and generators, to the bit.
    """
    chance = random.Random(kills.number)
    write_squares(away, 40_000)
    alone = start("train", *words, "run_dir=whole", "data_dir=whole_data", **env)
    if env.get("OMP_NUM_THREADS") == "2":  # two runs with two threads each would wait for each other on two cores
        alone.wait()
    last = away / "killed" / "last.ckpt"
    for left in range(kills.number, 0, -1):
        is_saved = is_replaced(last)
        run = start("train", *(("resume=killed",) if last.exists() else (*words, "run_dir=killed")), **env)
        if left % 3:
            wait_until(is_saved, run)
            time.sleep(chance.uniform(0, 0.03))
        else:
            time.sleep(chance.uniform(0, kills.loading))
        assert run.poll() is None, "it came to its end before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.communicate()
    for run in (alone, start("train", "resume=killed", **env)):
        require_success(run)
    ends = [everything(away / name / "last.ckpt") for name in ("whole", "killed")]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name
    models = [ModelFile.load(away / name / "model.safetensors").weights for name in ("whole", "killed")]
    for name, weights in models[0].items():
        np.testing.assert_array_equal(weights, models[1][name])


def test_killed_three_times(start: Start, away: Path, figure: Figure) -> None:
    words = (*SETTINGS, "model.hidden_size=48", "trainer.max_steps=800")
    kill_repeatedly(start, away, Kills(3, loading=0.4), words)
    figure("kills survived", 3)


@pytest.mark.slow
def test_killed_thirty_times(launch: Launch, away: Path, figure: Figure) -> None:
    """The processes are started from the command line, and may be killed during their imports."""
    kill_repeatedly(launch, away, Kills(30, loading=4.0), (*SETTINGS, "trainer.max_steps=12000"))
    figure("kills survived", 30)


OPTIONS = (
    ("optimizer.weight_decay=0", "optimizer.beta1=0.5", "optimizer.beta2=0.9", "model.residual=true"),
    ("optimizer.warmup_updates=0", "optimizer.final_fraction=1", "optimizer.learning_rate=0.02"),
    ("trainer.gradient_clip_val=0.01", "trainer.gradient_clip_algorithm=value", "model.num_layers=3"),
    ("trainer.accumulate_grad_batches=3", "trainer.gradient_clip_val=null", "corpus.unit=byte"),
    ("trainer.precision=bf16-mixed", "optimizer.warmup_updates=500"),
    ("trainer.precision=64-true", "model.num_layers=1", "model.dropout=0", "model.weight_dropout=0"),
    ("optimizer.name=sgd", "optimizer.momentum=0.9", "optimizer.learning_rate=0.1", "guard=false"),
)
"""Options of the optimizer, and others that decide what is learned."""


def combination(number: int, cell: str, kernels: str, threads: str) -> tuple[tuple[str, ...], str, str]:
    """Return settings with one of the options; long enough for two kills, and no longer."""
    options = OPTIONS[number % len(OPTIONS)]
    updates = 150 if kernels == "off" or "trainer.precision=64-true" in options else 600
    return (f"trainer.max_steps={updates}", f"model.cell={cell}", *options), kernels, threads


COMBINATIONS = [
    combination(number, *choice) for number, choice in enumerate(itertools.product(CELLS, ("", "off"), ("1", "2")))
]
EXPERIMENTS = [
    ((f"+experiment={file.stem}", "model.hidden_size=24", "batch_size=4", length), "", "1")
    for file in sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
    if "max_time" not in (settings := file.read_text(encoding="utf-8"))
    for length in ["trainer.max_epochs=8" if "max_epochs" in settings else "trainer.max_steps=1000"]
]
"""The experiments whose length is not given as a time, with less to compute."""

FAST = (3, 5, 8)
"""The combinations in the default suite: one for each of rnn, lstm and gru."""


def case(number: int, words: tuple[str, ...], kernels: str, threads: str) -> Any:
    """Return the parameters of one case; most cases are slow."""
    name = f"{kernels or 'native'} {threads} {' '.join(words)}"
    return pytest.param(words, kernels, threads, id=name, marks=() if number in FAST else pytest.mark.slow)


@pytest.mark.parametrize(
    ("words", "kernels", "threads"),
    [case(number, *one) for number, one in enumerate([*COMBINATIONS, *EXPERIMENTS])],
)
def test_killed_twice_with_any_settings(
    words: tuple[str, ...], kernels: str, threads: str, start: Start, away: Path, figure: Figure
) -> None:
    """Each cell with and without compiled kernels, on one and two threads; each option; each experiment."""
    is_experiment = any(word.startswith("+") for word in words)
    usual = [*SETTINGS[:1], *SETTINGS[-3:]] if is_experiment else SETTINGS
    given = {word.partition("=")[0] for word in words}
    usual = [word for word in usual if word.partition("=")[0] not in given]
    env = {"OMP_NUM_THREADS": threads, "CHARGEN_NATIVE": kernels}
    kill_repeatedly(start, away, Kills(2, loading=0.4), (*usual, *words), **env)
    figure("kills survived", 2)


class SlowServer(ThreadingHTTPServer):
    """Sends a text a little at a time, from where the client asks for it."""

    def __init__(self, text: bytes) -> None:
        super().__init__(("127.0.0.1", 0), SlowHandler)
        self.text = text
        self.offsets: list[int] = []  # where each response began


class SlowHandler(BaseHTTPRequestHandler):
    """Answers a request of `SlowServer`."""

    server: SlowServer

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        begin = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        self.server.offsets.append(begin)
        self.send_response(206 if begin else 200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for place in range(begin, len(self.server.text), 1 << 16):
                self.wfile.write(self.server.text[place : place + (1 << 16)])
                time.sleep(0.02)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow_server() -> Iterator[SlowServer]:
    """A server of a text of seven megabytes."""
    server = SlowServer("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n".encode() * 100_000)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_killed_while_it_downloads_and_encodes(
    start: Start, slow_server: SlowServer, away: Path, figure: Figure
) -> None:
    """The download continues where it was, and the ids are those of a text that was there from the beginning."""
    text, data = slow_server.text, away / "data"
    url, digest = f"http://127.0.0.1:{slow_server.server_port}/p.txt", hashlib.sha256(text).hexdigest()
    corpus = (f"corpus.url={url}", "corpus.file=p.txt", f"corpus.size={len(text)}", f"corpus.sha256={digest}")
    settings = (*TINY, "trainer.limit_val_batches=0", "corpus.validation_fraction=0.01")
    words = ("train", "corpus=text", *corpus, *settings, "run_dir=r")

    def is_downloading() -> bool:
        return any(file.stat().st_size > 0 for file in data.glob("*.part"))

    def is_encoding() -> bool:
        return any(data.glob("encoded/*/.ids.bin.*.tmp"))

    for moment in (is_downloading, is_downloading, is_encoding, is_encoding):
        run = start(*words, CHARGEN_NATIVE="off")  # encodes more slowly
        wait_until(lambda: not (data / "p.txt.part").exists() or is_downloading(), run)
        before = (data / "p.txt.part").stat().st_size if is_downloading() else 0
        wait_until(moment, run)
        if moment is is_downloading:
            wait_until(lambda before=before: (data / "p.txt.part").stat().st_size > before, run)  # type: ignore[misc]
        run.send_signal(signal.SIGKILL)
        run.communicate()
        assert not list(data.glob("encoded/*/manifest.json"))
        assert (data / "p.txt").exists() == (moment is is_encoding)
    require_success(start(*words))
    offsets = slow_server.offsets
    assert len(offsets) == 3
    assert 0 == offsets[0] < offsets[1] < offsets[2] < len(text)
    (away / "there.txt").write_bytes(text)
    require_success(start("train", "there.txt", *settings, "run_dir=s", "data_dir=other"))
    ids = [next((away / name).glob("encoded/*/ids.bin")).read_bytes() for name in ("data", "other")]
    assert ids[0] == ids[1]
    ends = [everything(away / name / "last.ckpt") for name in ("r", "s")]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert not list(data.rglob("*.tmp")) + list(data.rglob("*.part"))
    figure("kills survived", 4)


# ------------------------------------------------------------------------------- interrupted and moved


def test_a_second_interrupt_stops_at_once(start: Start, chargen: Command, away: Path) -> None:
    """The first one waits for the end of the update, which is a whole pass here; the last checkpoint is untouched."""
    write_squares(away, 40_000)
    words = ("batch_size=1", "sequence_length=4", "trainer.limit_val_batches=0", "corpus.validation_fraction=0.01")
    words += ("trainer.accumulate_grad_batches=1000000", "trainer.max_steps=1")
    assert chargen("train", "t.txt", *TINY, *words, "run_dir=r")[::2] == (0, "")
    before, log = (away / "r" / "last.ckpt").read_bytes(), away / "r" / "metrics.csv"
    begins = is_replaced(log)
    run = start("train", "resume=r", "trainer.max_steps=100", PYTHONUNBUFFERED="1")
    wait_until(begins, run)  # rows of later updates are removed when training is about to start
    time.sleep(1.0)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.poll() is None, run.communicate()
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (130, b""), err.decode()
    assert b"stopped at update 1 and saved; continue with" in out
    assert (away / "r" / "last.ckpt").read_bytes() == before
    assert not list((away / "r").glob(".*.tmp"))


def test_a_moved_run_continues(trained: Callable[..., Path], chargen: Command, away: Path) -> None:
    trained("runs/a")
    (away / "elsewhere").mkdir()
    (away / "runs").rename(away / "elsewhere" / "old runs")
    code, out, err = chargen("train", "resume=elsewhere/old runs/a", "trainer.max_steps=9")
    assert (code, err) == (0, "")
    assert "written     elsewhere/old runs/a/model.safetensors" in out
    assert not (away / "runs").exists()


# ------------------------------------------------------------------------------- disks


def test_a_disk_that_is_full_for_a_while(start: Start, away: Path) -> None:
    """The run continues, tries again, and loses nothing once there is room."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    no_limit = resource.RLIM_INFINITY
    full = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (20_000, no_limit))  # a longer write fails
    run = start("train", *SHORT, "trainer.max_steps=1000", prepare=full, PYTHONUNBUFFERED="1")
    said = b""
    while b"the run continues and tries again later" not in said:
        line = run.stdout.readline()
        assert line, run.communicate()
        said += line
    assert not (away / "r" / "last.ckpt").exists()
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (no_limit, no_limit))
    require_success(run)
    assert torch.load(away / "r" / "last.ckpt", weights_only=True)["global_step"] == 1000
    assert ModelFile.load(away / "r" / "model.safetensors").metadata["updates"] > 0
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


def test_a_disk_that_stays_full(start: Start, away: Path, small_disk: Path) -> None:
    """The run says so when it happens, and ends with one line and exit code 2. No incomplete file is left."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    run = start("train", "t.txt", "model=tiny", "trainer.max_steps=40", "sample_length=0", "run_dir=small/r")
    out, err = run.communicate()
    assert run.returncode == 2
    assert "cannot write small/r/last.ckpt: " in out.decode()
    assert err.decode().count("\n") == 1
    assert err.startswith(b"chargen: cannot write small/r/")
    assert b"make room, then write resume=small/r" in err
    assert not list(small_disk.rglob("*.tmp"))
    assert not list(small_disk.rglob("*.ckpt"))


def test_a_folder_that_is_deleted_while_the_run_trains(start: Start, away: Path) -> None:
    """It is created again with the next checkpoint."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    run = start("train", *SHORT, "trainer.max_steps=1000")
    wait_until((away / "r" / "last.ckpt").exists, run)
    shutil.rmtree(away / "r", ignore_errors=True)
    require_success(run)
    assert torch.load(away / "r" / "last.ckpt", weights_only=True)["global_step"] == 1000
    assert ModelFile.load(away / "r" / "model.safetensors").metadata["updates"] > 0


def test_a_folder_that_is_read_only(chargen: Command, away: Path, small_disk: Path) -> None:
    """It is read-only for root, too. One line is printed before anything is computed."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    code, out, err = chargen("train", "t.txt", *TINY, "run_dir=small/r")
    assert (code, err.count("\n")) == (2, 1)
    assert "updates" not in out
    assert "small/r" in err
    assert "Read-only file system" in err


# ------------------------------------------------------------------------------- terminals


def test_a_reader_that_goes_away(start: Start, away: Path) -> None:
    """As in `chargen train | head -1`: the run saves, says on standard error how to continue, and ends.

    It notices that the reader has gone when it prints the score of a validation.
    """
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    words = ("t.txt", "model=tiny", "sequence_length=16", "run_dir=r", "trainer.max_steps=1000000")
    run = start("train", *words, "trainer.val_check_interval=50", "trainer.limit_val_batches=1")
    wait_until((away / "r" / "metrics.csv").exists, run)
    run.stdout.close()
    assert run.wait(timeout=60) == 128 + signal.SIGPIPE
    assert b"and saved; continue with" in run.stderr.read()
    done = torch.load(away / "r" / "last.ckpt", weights_only=True)["global_step"]
    require_success(start("train", "resume=r", f"trainer.max_steps={done + 3}"))


@pytest.mark.parametrize(
    "env",
    [{"LC_ALL": "C", "LANG": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["C locale", "ASCII"],
)
def test_poor_terminals(env: dict[str, str], launch: Launch, away: Path) -> None:
    """The terminal can neither move its cursor nor show the text; the commands succeed all the same."""
    (away / "t.txt").write_text("白日依山尽，黄河入海流。\n" * 200, encoding="utf-8")
    require_success(launch("train", "t.txt", *TINY, "run_dir=r", TERM="dumb", **env))
    out = require_success(launch("sample", "r", "--seed", "1", "--length", "50", TERM="dumb", **env))
    assert len(out) > 50
    assert os.fsencode("\x1b") not in out.encode()
