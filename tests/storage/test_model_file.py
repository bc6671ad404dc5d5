"""model.safetensors is complete, and what is not one is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Figure
from safetensors import safe_open
from safetensors.numpy import save_file

from chargen.storage.model_file import FORMAT_VERSION, ModelFile, _digest


def portable(**changes: object) -> ModelFile:
    """A little gru, with things changed in its settings or notes."""
    random = np.random.default_rng(0)
    settings = dict(
        vocab_size=5, embedding_size=3, hidden_size=4, num_layers=2, cell="gru", dropout=0.0, residual=False
    )
    shapes = {"embedding.weight": (5, 3), "head.weight": (5, 4), "head.bias": (5,)}
    for layer, below in enumerate((3, 4)):
        shapes |= {f"recurrence.weight_ih_l{layer}": (12, below), f"recurrence.weight_hh_l{layer}": (12, 4)}
        shapes |= {f"recurrence.bias_ih_l{layer}": (12,), f"recurrence.bias_hh_l{layer}": (12,)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    notes = {"start_id": 1, "name": "文章"}
    notes |= {key: changes.pop(key) for key in list(changes) if key in notes}
    return ModelFile(weights, {**settings, **changes}, '{"some": "json"}', notes)


def test_there_and_back(tmp_path: Path) -> None:
    portable().save(tmp_path / "m.safetensors")
    again = ModelFile.load(tmp_path / "m.safetensors")
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
        np.testing.assert_array_equal(opened.get_tensor("head.bias"), portable().weights["head.bias"])


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    portable().save(tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    for length in range(len(content)):
        (tmp_path / "m.safetensors").write_bytes(content[:length])
        with pytest.raises(ValueError, match="truncated or not a safetensors file"):
            ModelFile.load(tmp_path / "m.safetensors")


def test_a_flipped_bit_is_noticed(tmp_path: Path, figure: Figure) -> None:
    """One in each byte of the file, whichever."""
    file = tmp_path / "m.safetensors"
    portable().save(file)
    content, bits = file.read_bytes(), np.random.default_rng(0)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(bits.integers(8))
        file.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"m\.safetensors"):
            ModelFile.load(file)
    figure("bit flips noticed", len(content))


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_file({"a": np.ones(2, dtype=np.float32)}, file)
    with pytest.raises(ValueError, match="another program"):
        ModelFile.load(file)
    save_file({"a": np.ones(2, dtype=np.float32)}, file, {"format": "chargen", "format_version": "99"})
    with pytest.raises(ValueError, match="another version of chargen"):
        ModelFile.load(file)


@pytest.mark.parametrize(
    "forged",
    [
        {"hidden_size": 5},
        {"hidden_size": 10**13},
        {"hidden_size": "4"},
        {"hidden_size": True},
        {"num_layers": 1},
        {"num_layers": 3},
        {"num_layers": 2**30},
        {"num_layers": -1},
        {"cell": "lstm"},
        {"cell": ["gru"]},
        {"cell": "os.system"},
        {"vocab_size": 6},
        {"_target_": "os.system"},
        {"start_id": 5},
        {"start_id": -1},
        {"start_id": None},
        {"start_id": [1]},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_weights_are_refused(forged: dict, tmp_path: Path) -> None:
    portable(**forged).save(tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="damaged or forged"):
        ModelFile.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("part", ["settings", "notes"])
@pytest.mark.parametrize("content", ["", "[1]", "null", "{", "[" * 100_000])
def test_headers_that_are_not_ours_are_refused(part: str, content: str, tmp_path: Path) -> None:
    good = portable()
    header = {"format": "chargen", "tokenizer": "", "settings": json.dumps(good.settings)}
    header |= {"notes": json.dumps(good.notes), "format_version": str(FORMAT_VERSION), part: content}
    header["sha256"] = _digest(header, good.weights)
    save_file(good.weights, tmp_path / "m.safetensors", header)
    with pytest.raises(ValueError, match="damaged"):
        ModelFile.load(tmp_path / "m.safetensors")


def test_others_may_read_what_they_may_read_of_any_file(tmp_path: Path) -> None:
    portable().save(tmp_path / "m.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
