"""model.safetensors is complete, and what is not one is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from chargen.portable import Portable


def portable() -> Portable:
    weights = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, dtype=np.float32)}
    return Portable(weights, {"cell": "gru", "hidden_size": 2}, '{"some": "json"}', {"first_id": 1, "name": "文章"})


def test_there_and_back(tmp_path: Path) -> None:
    portable().save(tmp_path / "m.safetensors")
    again = Portable.load(tmp_path / "m.safetensors")
    assert (again.settings, again.tokenizer, again.notes) == (
        portable().settings,
        portable().tokenizer,
        portable().notes,
    )
    for name, value in portable().weights.items():
        np.testing.assert_array_equal(again.weights[name], value)


def test_the_safetensors_package_alone_reads_it(tmp_path: Path) -> None:
    portable().save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="numpy") as opened:
        assert json.loads(opened.metadata()["settings"]) == portable().settings
        np.testing.assert_array_equal(opened.get_tensor("a"), portable().weights["a"])


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    portable().save(tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    for length in range(len(content)):
        (tmp_path / "m.safetensors").write_bytes(content[:length])
        with pytest.raises(ValueError, match="truncated or not a safetensors file"):
            Portable.load(tmp_path / "m.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_file({"a": np.ones(2, dtype=np.float32)}, file)
    with pytest.raises(ValueError, match="another program"):
        Portable.load(file)
    save_file({"a": np.ones(2, dtype=np.float32)}, file, {"format": "chargen", "format_version": "99"})
    with pytest.raises(ValueError, match="later chargen"):
        Portable.load(file)
