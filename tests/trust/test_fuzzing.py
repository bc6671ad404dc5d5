"""What reads files is given damaged ones: it refuses them with a `UserError`, or reads them. Nothing else happens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import readers
from support.environment import ROOT, Figure
from support.forgery import forge_header

from chargen.cli.overrides import hydra_arguments
from chargen.config import TrainConfig, parse_config
from chargen.errors import UserError
from chargen.sampling.generator import TextGenerator
from chargen.storage.checksum import add_checksum
from chargen.storage.model_file import ModelFile
from chargen.training.windows import Lanes, WindowLoader

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("???"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
"""Plain data."""

tensors = st.builds(
    lambda shape, kind: torch.zeros(shape, dtype=kind),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.complex64]),
)

Place = tuple[Any, ...]
"""The keys that lead to a part of nested data."""


def places(tree: Any, path: Place = ()) -> list[Place]:
    """Return the place of every part of nested data, and of the whole."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def with_part(tree: Any, place: Place, part: Any) -> Any:
    """Return nested data in which one part is replaced."""
    if not place:
        return part
    key, *rest = place
    if isinstance(tree, dict):
        return {**tree, key: with_part(tree[key], tuple(rest), part)}
    return type(tree)(
        with_part(inner, tuple(rest), part) if number == key else inner for number, inner in enumerate(tree)
    )


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return the result of a call and "", or None and the reason of its refusal; any other exception is a defect."""
    try:
        return call(), ""
    except UserError as error:
        assert str(error), "refused without a reason"  # noqa: PT017
        return None, str(error)


def parts_of(tree: Any) -> st.SearchStrategy[Place]:
    """Draw the place of a part of nested data."""
    return st.sampled_from(places(tree))


# ------------------------------------------------------------------------------- settings


@given(parts_of(readers.CONFIG), anything)
def test_settings_are_accepted_or_refused_by_name(place: Place, part: Any) -> None:
    config, reason = outcome(lambda: parse_config(with_part(readers.CONFIG, place, part)))
    if reason:
        assert place == () or str(place[0]) in reason
    else:
        assert isinstance(config, TrainConfig)


DEFAULTS = {key: value for key, value in vars(TrainConfig()).items() if not hasattr(value, "__dict__")}


@given(st.sampled_from(sorted(DEFAULTS)), anything)
def test_an_accepted_value_of_a_setting_is_not_changed(key: str, value: Any) -> None:
    config, reason = outcome(lambda: parse_config({**readers.CONFIG, key: value}))
    assert key in reason if reason else repr(getattr(config, key)) == repr(value)


WORDS = ["-m", "seed=1", "'a", "run_dir=[x", "a=${b}", "seed=" + "1" * 5000, "--resolve"]


@given(st.lists(st.text(max_size=12) | st.sampled_from(WORDS), max_size=3))
def test_words_of_a_command_line_are_translated_or_refused(words: list[str]) -> None:
    """Bare paths become two words: the kind of corpus, and its path."""
    spelled, reason = outcome(lambda: hydra_arguments([word.replace("\0", "") for word in words]))
    assert reason or len(spelled) in (len(words), len(words) + 1, 2)


# ------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzing")


HEADER = {"config": {"vocab_size": 9, **readers.SHAPE}, "metadata": readers.METADATA, "parts": {}}


@given(parts_of(HEADER), anything)
def test_any_part_of_a_model_file_may_be_anything(folder: Path, place: Place, part: Any) -> None:
    """A model that is accepted can generate."""
    parts = with_part(HEADER, place, part)
    if not isinstance(parts, dict):
        return
    file = folder / "model.safetensors"
    file.write_bytes(readers.make_model_file())
    forge_header(file, lambda header: header.update({key: json.dumps(value) for key, value in parts.items()}))
    found, reason = outcome(lambda: ModelFile.load(file))
    if found is None:
        assert "damaged or forged" in reason or "which this chargen does not know" in reason
    else:
        assert len(TextGenerator(found).generate("ab", max_length=3, seed=1)) == 3


CONTENTS = {version: readers.make_checkpoint_content(version) for version in (2, 3)}


@pytest.mark.parametrize("version", CONTENTS)
@given(st.data(), anything | tensors)
def test_any_part_of_a_checkpoint_may_be_anything(version: int, folder: Path, data: st.DataObject, part: Any) -> None:
    """It is refused, or a run can continue from it: nothing is computed with shapes that it invents."""
    forged = with_part(CONTENTS[version], data.draw(parts_of(CONTENTS[version])), part)
    if not isinstance(forged, dict):
        return
    torch.save(forged, folder / "last.ckpt")
    add_checksum(folder / "last.ckpt")
    outcome(lambda: readers.read_checkpoint(folder / "last.ckpt"))


@given(st.data(), st.integers(1, 5), st.integers(1, 7), st.integers(0, 40))
def test_a_pass_continues_from_any_position(
    data: st.DataObject, batch_size: int, sequence_length: int, extra: int
) -> None:
    """The windows after a checkpoint are those that would have followed, also into the next pass."""
    lanes = Lanes(torch.arange(batch_size * sequence_length + 1 + extra).numpy(), batch_size, sequence_length)
    position = data.draw(st.integers(-2, len(lanes) + 2))
    loader = WindowLoader(lanes)
    if not 0 <= position <= len(lanes):
        with pytest.raises(ValueError, match=f"a position of {position} in a pass of {len(lanes)} windows"):
            loader.load_state_dict({"position": position})
        return
    loader.load_state_dict({"position": position})
    expected = (list(lanes) * 2)[position:]
    found = [*list(loader), *(list(loader) if position < len(lanes) else [])][: len(expected)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert one[2:] == other[2:]


# ------------------------------------------------------------------------------- fuzzers


@pytest.mark.parametrize("name", readers.READERS)
def test_readers_accept_sound_files(name: str, tmp_path: Path) -> None:
    """Otherwise the fuzzer would see the first check of a reader only."""
    reader, sound = readers.READERS[name]
    for content in sound() if name in ("model", "checkpoint") else sound()[:1]:
        (tmp_path / "file").write_bytes(content)
        reader(tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize("name", readers.READERS)
def test_fuzzing_finds_nothing_in_thirty_seconds(name: str, tmp_path: Path, figure: Figure) -> None:
    pytest.importorskip("atheris", reason="the fuzzer is not installed")
    program = ROOT / "tests" / "support" / "fuzz.py"
    words = [sys.executable, "-W", "ignore", str(program), name, "-max_total_time=30"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[result.stderr.find("=== Uncaught") :]
    done = re.search(r"Done (\d+) runs", result.stderr)
    assert done
    assert int(done[1]) > 100
    figure("fuzz executions", int(done[1]))
