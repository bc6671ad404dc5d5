"""The size of a model is counted from its shape, and the memory of its training is estimated from it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chargen import native
from chargen.config import ModelConfig, TrainConfig
from chargen.errors import ConfigError
from chargen.planning.size import head_size, machine_megabytes, require_memory, training_megabytes
from chargen.storage.checkpoint import Checkpoint

GRU = ModelConfig(vocab_size=11, cell="gru", hidden_size=8, num_layers=1, embedding_size=4)


def test_parameters_are_counted() -> None:
    """A GRU has V E + 3 H (E + H + 2) + V H + V parameters."""
    assert GRU.num_parameters == 11 * 4 + 3 * 8 * (4 + 8 + 2) + 11 * 8 + 11


@pytest.mark.parametrize(("num_vectors", "num_logits", "compiled"), [(8, 1, True), (24, 2, False)])
def test_memory_is_that_of_the_process_the_parameters_and_one_window(
    num_vectors: int, num_logits: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or of the logits of 4096 characters that are scored together, for a short window."""
    monkeypatch.setattr(native, "has_cell", lambda name: compiled)
    fixed = 400e6 + 40 * GRU.num_parameters
    window = 4 * 900 * 60 * (num_vectors * 8 + num_logits * 11)  # one layer of 8 units, and a vocabulary of 11
    assert 1e6 * training_megabytes(GRU, 900, 60) == pytest.approx(fixed + window)
    assert 1e6 * training_megabytes(GRU, 2, 6) == pytest.approx(fixed + 4 * 4096 * num_logits * 11)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory that Linux reports")
@pytest.mark.parametrize("words", [["model=small"], ["model=large"], ["batch_size=64", "sequence_length=256"]])
def test_memory_is_that_of_a_run(words: list[str], away: Path) -> None:
    """Within a third."""
    (away / "t.txt").write_text("abc \n" * 20000, encoding="utf-8")
    code = (
        "import os, sys; from chargen.cli.app import main\n"
        "try: main()\n"
        "finally: os.write(2, next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).encode())"
    )
    command = [sys.executable, "-c", code, "train", "t.txt", *words, "trainer.max_steps=6", "run_dir=r"]
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True)
    measured = 1024e-6 * int(result.stderr.split()[-2])
    config = Checkpoint.read(away / "r" / "last.ckpt").config
    model = replace(config.model, vocab_size=7)
    assert training_megabytes(model, config.batch_size, config.sequence_length) == pytest.approx(measured, rel=1 / 3)


@pytest.mark.parametrize(
    ("vocab_size", "given", "chosen"),
    [(100, None, None), (1999, None, None), (2000, None, 2), (50_000, None, 2), (50_000, 8, 8), (100, 3, 3)],
)
def test_the_head_is_smaller_for_a_large_vocabulary(vocab_size: int, given: int | None, chosen: int | None) -> None:
    """A quarter of H, unless it is set."""
    assert GRU.hidden_size == 8
    assert head_size(replace(GRU, vocab_size=vocab_size, head_size=given)) == chosen


def test_run_beyond_the_memory_of_the_machine_is_refused() -> None:
    config = TrainConfig(model=GRU)
    require_memory(config, 11)
    if machine_megabytes() < 1e9:
        with pytest.raises(ConfigError, match=r"model\.hidden_size=8 with batch_size=1000000 and sequence_length="):
            require_memory(TrainConfig(model=GRU, batch_size=1_000_000, sequence_length=10_000_000), 11)
