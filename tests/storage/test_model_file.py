"""`model.safetensors` is complete, and a file that is not one is refused with a clear message."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from support.environment import Figure

from chargen.config import ModelConfig
from chargen.errors import ArgumentError, FileError
from chargen.sampling.generator import TextGenerator
from chargen.storage.model_file import FORMAT_VERSION, ModelFile, Part, digest_of

CONFIG = ModelConfig(5, "gru", 4, 2, 3, dropout=0.0)
METADATA = {"start_id": 1, "name": "文章"}
OLD = Path(__file__).parent / "files" / "chargen-0.1.0.safetensors"


def model_file(**metadata: Any) -> ModelFile:
    """A small GRU with random weights."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in CONFIG.parameter_shapes().items()}
    return ModelFile(weights, CONFIG, '{"some": "json"}', {**METADATA, **metadata})


def forge(path: Path, **header: Any) -> None:
    """Write a file with a valid checksum whose header has other values; None removes one."""
    good = model_file()
    content = {
        "format": "chargen",
        "format_version": str(FORMAT_VERSION),
        "tokenizer": "",
        "config": json.dumps(asdict(good.config)),
        "metadata": json.dumps(good.metadata),
        "parts": "{}",
        **header,
    }
    content = {key: value for key, value in content.items() if value is not None}
    save_file(good.weights, path, {**content, "sha256": digest_of(content, good.weights)})


def test_a_saved_file_loads_unchanged(tmp_path: Path) -> None:
    model_file().save(tmp_path / "m.safetensors")
    again = ModelFile.load(tmp_path / "m.safetensors")
    assert (again.config, again.tokenizer, again.metadata) == (CONFIG, '{"some": "json"}', METADATA)
    for name, value in model_file().weights.items():
        np.testing.assert_array_equal(again.weights[name], value)


def test_a_path_may_be_a_string_and_begin_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    places = ["a.safetensors", "~/b/c.safetensors", Path("~/d.safetensors"), str(tmp_path / "e.safetensors")]
    for place in places:
        model_file().save(place)
        assert ModelFile.load(place).metadata == METADATA
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.safetensors")) == [
        "a.safetensors", "b/c.safetensors", "d.safetensors", "e.safetensors"
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [None, 5, b"m.safetensors", ["m.safetensors"], True], ids=repr)
def test_what_is_no_path_is_named(wrong: Any) -> None:
    for call in (ModelFile.load, model_file().save):
        with pytest.raises(ArgumentError, match=r"^path=.*: must be a string or a path$"):
            call(wrong)


@pytest.mark.parametrize("wrong", ["", "  ", "a\0b", "\ud800"], ids=repr)
def test_a_name_that_no_file_can_have_is_a_file_error(wrong: str) -> None:
    for call in (ModelFile.load, model_file().save):
        with pytest.raises(FileError, match="is not the name of a file or folder"):
            call(wrong)


def test_the_safetensors_package_alone_reads_a_file(tmp_path: Path) -> None:
    model_file().save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", framework="numpy") as opened:
        assert json.loads(opened.metadata()["config"]) == asdict(CONFIG)
        np.testing.assert_array_equal(opened.get_tensor("head.bias"), model_file().weights["head.bias"])


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    model_file().save(tmp_path / "m.safetensors")
    content = (tmp_path / "m.safetensors").read_bytes()
    for length in range(len(content)):
        (tmp_path / "m.safetensors").write_bytes(content[:length])
        with pytest.raises(FileError, match="truncated or not a safetensors file"):
            ModelFile.load(tmp_path / "m.safetensors")


def test_a_flipped_bit_is_noticed(tmp_path: Path, figure: Figure) -> None:
    """One random bit in each byte of the file."""
    file = tmp_path / "m.safetensors"
    model_file().save(file)
    content, bits = file.read_bytes(), np.random.default_rng(0)
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(bits.integers(8))
        file.write_bytes(flipped)
        with pytest.raises(FileError, match=r"m\.safetensors"):
            ModelFile.load(file)
    figure("bit flips noticed", len(content))


def test_files_of_other_programs_and_later_versions_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_file({"a": np.ones(2, dtype=np.float32)}, file)
    with pytest.raises(FileError, match="another program"):
        ModelFile.load(file)
    save_file({"a": np.ones(2, dtype=np.float32)}, file, {"format": "chargen", "format_version": "99"})
    with pytest.raises(FileError, match="another version of chargen"):
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
        {"vocab_size": None},
        {"_target_": "os.system"},
        {"dropout": 2.0},
        {"residual": 1},
    ],
    ids=str,
)
def test_settings_that_do_not_fit_the_weights_are_refused(forged: dict[str, Any], tmp_path: Path) -> None:
    forge(tmp_path / "m.safetensors", config=json.dumps({**asdict(CONFIG), **forged}))
    with pytest.raises(FileError, match="damaged or forged"):
        ModelFile.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("start_id", [5, -1, None, [1], True, "1"], ids=str)
def test_start_ids_outside_of_the_vocabulary_are_refused(start_id: Any, tmp_path: Path) -> None:
    model_file(start_id=start_id).save(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match="damaged or forged"):
        ModelFile.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("part", ["config", "metadata", "parts"])
@pytest.mark.parametrize("content", ["", "[1]", "null", "{", "[" * 100_000, None])
def test_headers_that_are_not_ours_are_refused(part: str, content: str | None, tmp_path: Path) -> None:
    forge(tmp_path / "m.safetensors", **{part: content})
    with pytest.raises(FileError, match="damaged"):
        ModelFile.load(tmp_path / "m.safetensors")


def test_a_model_file_has_the_permissions_of_any_file(tmp_path: Path) -> None:
    model_file().save(tmp_path / "m.safetensors")
    (tmp_path / "plain").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


# ------------------------------------------------------------------------------- parts and versions


def with_parts(**parts: Part) -> ModelFile:
    good = model_file()
    return ModelFile(good.weights, good.config, good.tokenizer, good.metadata, parts)


def test_a_required_part_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    tables = Part({"order": 3}, {"counts": np.arange(4)})
    with_parts(ngrams=tables).save(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match=r"m\.safetensors needs ngrams, which this chargen does not know"):
        ModelFile.load(tmp_path / "m.safetensors")


def test_an_optional_part_that_is_not_known_is_ignored(tmp_path: Path) -> None:
    with_parts(start_state=Part({}, {"h": np.ones(4)}, required=False)).save(tmp_path / "m.safetensors")
    again = ModelFile.load(tmp_path / "m.safetensors")
    assert again.parts == {}
    assert again.weights.keys() == model_file().weights.keys()


def test_a_known_part_loads_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.storage.model_file.KNOWN_PARTS", frozenset({"ngrams"}))
    with_parts(ngrams=Part({"order": 3}, {"counts": np.arange(4)})).save(tmp_path / "m.safetensors")
    (part,) = ModelFile.load(tmp_path / "m.safetensors").parts.values()
    assert (part.settings, part.required) == ({"order": 3}, True)
    np.testing.assert_array_equal(part.arrays["counts"], np.arange(4))


def test_initial_states_load_unchanged(tmp_path: Path) -> None:
    states = {"beginning": np.full((2, 4), 0.25, np.float32), "within": np.full((2, 4), -0.5, np.float32)}
    model_file().with_initial_states(states).save(tmp_path / "m.safetensors")
    again = ModelFile.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.initial_state(), states["beginning"])
    np.testing.assert_array_equal(again.initial_state(within=True), states["within"])
    assert model_file().initial_state() is None


@pytest.mark.parametrize(
    "forged",
    [
        {"within": np.zeros((1, 4), np.float32)},
        {"within": np.zeros(8, np.float32)},
        {"within": np.zeros((2, 4), np.float64)},
        {"within": np.full((2, 4), np.nan, np.float32)},
        {"behind": np.zeros((2, 4), np.float32)},
    ],
    ids=str,
)
def test_initial_states_that_do_not_fit_the_model_are_refused(forged: dict[str, Any], tmp_path: Path) -> None:
    states = {"beginning": np.zeros((2, 4), np.float32), "within": np.zeros((2, 4), np.float32), **forged}
    model_file().with_initial_states(states).save(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match="damaged or forged"):
        ModelFile.load(tmp_path / "m.safetensors")


def test_arrays_that_belong_to_no_part_are_refused(tmp_path: Path) -> None:
    good = model_file()
    extra = {**good.weights, "ngrams/counts": np.arange(4).astype(np.float32)}
    ModelFile(extra, good.config, good.tokenizer, good.metadata).save(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match="damaged or forged"):
        ModelFile.load(tmp_path / "m.safetensors")


def test_a_model_of_version_0_1_loads_and_writes() -> None:
    model = ModelFile.load(OLD)
    assert model.config == ModelConfig(16, "gru", 8, 2, 4, dropout=0.2, weight_dropout=0.2)
    assert (model.start_id, model.metadata["updates"]) == (3, 60)
    assert model.cleaning == {"normalize_newlines": False, "normalize_unicode": False, "min_count": 1}
    assert len(TextGenerator(model).generate(max_length=20, seed=1)) == 20
