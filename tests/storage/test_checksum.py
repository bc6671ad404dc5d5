"""A checksum notices every flipped bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from support.environment import Figure

from chargen.storage.atomic import previous_path
from chargen.storage.checkpoint import write_checkpoint
from chargen.storage.checksum import checksum_matches, sha256_of
from chargen.storage.plain_data import load_plain


def test_the_digest_is_that_of_all_bytes(tmp_path: Path) -> None:
    content, advanced = bytes(range(256)) * 10_000, []
    (tmp_path / "f").write_bytes(content)
    assert sha256_of(tmp_path / "f", advanced.append) == hashlib.sha256(content).hexdigest()
    assert sum(advanced) == len(content)


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path, figure: Figure) -> None:
    """Every single bit; and the checkpoint before stays beside the new one."""
    file = tmp_path / "last.ckpt"
    for number in (1, 2):
        write_checkpoint({"a": torch.arange(3), "number": number, "text": "a" * 64}, file)
    assert checksum_matches(file)
    assert load_plain(previous_path(file))["number"] == 1
    content = file.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert not checksum_matches(file), bit
    figure("bit flips noticed", 8 * len(content))
    file.write_bytes(b"short")
    assert not checksum_matches(file)
