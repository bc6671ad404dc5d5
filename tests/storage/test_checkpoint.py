"""A checkpoint is read once, checked, and falls back to the one before it; those of version 0.1 continue."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chargen.errors import FileError
from chargen.storage.atomic import previous_path
from chargen.storage.checkpoint import CHECKPOINT, Checkpoint, write_checkpoint
from chargen.storage.checksum import add_checksum
from chargen.storage.model_file import ModelFile
from chargen.storage.plain_data import load_plain

FILES = Path(__file__).parent / "files"
OLD_CHECKPOINT, OLD_MODEL = FILES / "chargen-0.1.0.ckpt", FILES / "chargen-0.1.0.safetensors"
"""A run of chargen 0.1.0 at update 30 of 60, and the weights of the same run, undisturbed, at its end."""


def rewrite(file: Path, content: dict[str, Any]) -> None:
    torch.save(content, file)
    add_checksum(file)


def test_values_of_a_checkpoint_of_version_0_1() -> None:
    checkpoint = Checkpoint.read(OLD_CHECKPOINT)
    assert (checkpoint.update, checkpoint.total_updates) == (30, 60)
    assert 0 < checkpoint.seconds < 1
    assert checkpoint.model.vocab_size == 16
    assert checkpoint.config.model.hidden_size == checkpoint.model.hidden_size == 8
    assert checkpoint.config.save_every_updates == 30
    assert len(checkpoint.corpus_sha256) == 64
    assert checkpoint.model_file().weights["head.weight"].shape == (16, 8)
    assert checkpoint.content["chargen"]["detector"]["num_losses"] == 30
    assert checkpoint.content["callbacks"]["BestModelWriter"].keys() == {"best"}


def test_a_run_of_version_0_1_continues_to_the_same_weights(
    chargen: Any, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 further updates give the weights that chargen 0.1.0 gave without interruption.

    The two differ by what other instruction sets make of float32 in 30 updates of AdamW; on the machine that wrote the
    files they are equal to the bit.
    """
    (away / "t.txt").write_text("".join(chr(97 + (k * k) % 26) for k in range(4000)))
    (away / "stopped").mkdir()
    content = load_plain(OLD_CHECKPOINT)
    content["hyper_parameters"]["run"]["config"]["corpus"]["path"] = str(away / "t.txt")
    rewrite(away / "stopped" / CHECKPOINT, content)
    code, _, err = chargen("train", "resume=stopped", "save_every_updates=60")
    assert (code, err) == (0, "")
    ended = Checkpoint.read(away / "stopped" / CHECKPOINT)
    assert ended.update == 60
    expected = ModelFile.load(OLD_MODEL).weights
    for name, weights in ended.model_file().weights.items():
        np.testing.assert_allclose(weights, expected[name], rtol=1e-3, atol=1e-5)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / CHECKPOINT
    content = Checkpoint.read(OLD_CHECKPOINT).content
    content["chargen"]["format_version"] = 3
    write_checkpoint({**content, "global_step": 31}, file)
    write_checkpoint({**content, "global_step": 32}, file)
    assert Checkpoint.read_or_previous(file)[0].update == 32
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    checkpoint, problem = Checkpoint.read_or_previous(file)
    assert (checkpoint.update, checkpoint.file) == (31, previous_path(file))
    assert "damaged" in problem
    previous_path(file).unlink()
    with pytest.raises(FileError, match="damaged"):
        Checkpoint.read_or_previous(file)


@pytest.mark.parametrize(
    ("version", "message"),
    [(1, "by an earlier chargen, in format 1"), (4, "by a later chargen"), ("3", "of another program")],
)
def test_other_versions_are_refused(version: Any, message: str, tmp_path: Path) -> None:
    content = load_plain(OLD_CHECKPOINT)
    content["chargen"]["format_version"] = version
    rewrite(tmp_path / CHECKPOINT, content)
    with pytest.raises(FileError, match=message):
        Checkpoint.read(tmp_path / CHECKPOINT)


def test_a_checkpoint_without_its_checksum_is_refused(tmp_path: Path) -> None:
    torch.save(load_plain(OLD_CHECKPOINT), tmp_path / CHECKPOINT)
    with pytest.raises(FileError, match="its checksum does not match"):
        Checkpoint.read(tmp_path / CHECKPOINT)


def test_a_missing_checkpoint_is_named_with_the_runs_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no such checkpoint: .*nowhere; there are a, b"):
        Checkpoint.read(tmp_path / "nowhere", lambda: "; there are a, b")


def test_the_content_is_handed_over_once(tmp_path: Path) -> None:
    shutil.copy(OLD_CHECKPOINT, tmp_path / CHECKPOINT)
    checkpoint = Checkpoint.read(tmp_path / CHECKPOINT)
    assert checkpoint.take()["global_step"] == 30
    assert checkpoint.content == {}
