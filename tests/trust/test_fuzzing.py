"""What reads files, fed with damaged ones: refused with a ValueError, or read; nothing else happens."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from chargen.training.callbacks import CheckpointFiles
from hypothesis import given
from hypothesis import strategies as st
from support.environment import Figure
from support.readers import NOTES, READERS, SETTINGS, SHAPE, a_model, a_module, reads_a_checkpoint, the_checkpoint

from chargen import runs
from chargen.cli.overrides import spell
from chargen.config import TrainConfig, read
from chargen.sampling.generator import TextGenerator
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


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every part of a tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def with_another(tree: Any, path: tuple[Any, ...], part: Any) -> Any:
    """A tree like this one but for one part."""
    if not path:
        return part
    key, *rest = path
    if isinstance(tree, dict):
        return {**tree, key: with_another(tree[key], tuple(rest), part)}
    return type(tree)(with_another(inner, tuple(rest), part) if place == key else inner
                      for place, inner in enumerate(tree))  # fmt: skip


def outcome(call: Callable[[], Any]) -> tuple[Any, str]:
    """What it returns, or why it refuses. Any other exception than a ValueError is a find."""
    try:
        return call(), ""
    except ValueError as error:
        assert error.args[0], "refused without a word"  # noqa: PT017
        return None, str(error)


def parts_of(tree: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.sampled_from(places(tree))


@given(parts_of(SETTINGS), anything)
def test_settings_are_read_or_refused_by_name(path: tuple[Any, ...], part: Any) -> None:
    config, why = outcome(lambda: read(with_another(SETTINGS, path, part)))
    if why:
        assert path == () or str(path[0]) in why
    else:
        assert isinstance(config, TrainConfig)


DEFAULTS = {key: value for key, value in vars(TrainConfig()).items() if not hasattr(value, "__dict__")}


@given(st.sampled_from(sorted(DEFAULTS)), anything)
def test_values_of_every_setting(key: str, value: Any) -> None:
    """One that is taken arrives as it is."""
    config, why = outcome(lambda: read({**SETTINGS, key: value}))
    assert key in why if why else repr(getattr(config, key)) == repr(value)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["-m", "seed=1", "'a", "run_dir=[x", "a=${b}"]), max_size=3))
def test_any_words_are_spelled_or_refused(words: list[str]) -> None:
    spelled, why = outcome(lambda: spell([word.replace("\0", "") for word in words]))
    assert why or len(spelled) in (len(words), len(words) + 1, 2)  # bare paths are two: of which kind, and where


@pytest.fixture(scope="module")
def a_portable(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    file = tmp_path_factory.mktemp("m") / "model.safetensors"
    file.write_bytes(a_model())
    return ModelFile.load(file)


@given(parts_of({"settings": {**SHAPE, "vocab_size": 9}, "notes": NOTES}), anything)
def test_what_a_model_says_of_itself_may_be_anything(a_portable: ModelFile, path: tuple[Any, ...], part: Any) -> None:
    """What is taken can write."""
    tree = with_another({"settings": a_portable.settings, "notes": a_portable.notes}, path, part)
    if not isinstance(tree, dict) or tree.keys() != {"settings", "notes"}:
        return
    model = ModelFile(a_portable.weights, tree["settings"], a_portable.tokenizer, tree["notes"])
    _, why = outcome(lambda: model.checked(Path("m")))
    assert "damaged or forged" in why if why else len(TextGenerator(model).generate("ab", max_length=3, seed=1)) == 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@given(parts_of(the_checkpoint(a_module())), anything | tensors)
def test_any_part_of_a_checkpoint_may_be_anything(folder: Path, path: tuple[Any, ...], part: Any) -> None:
    """It is refused, or as good as the one before: nothing is computed with shapes of its own."""
    module = a_module()
    forged = with_another(the_checkpoint(module), path, part)
    if not isinstance(forged, dict):
        return
    CheckpointFiles().save_checkpoint(forged, folder / "last.ckpt")
    outcome(lambda: reads_a_checkpoint(folder / "last.ckpt"))


@given(st.data(), st.integers(1, 5), st.integers(1, 7), st.integers(0, 40))
def test_a_reading_goes_on_from_any_place(data: st.DataObject, batch_size: int, length: int, extra: int) -> None:
    """What comes behind a checkpoint is what would have come, over the end of a pass; other places are refused."""
    lanes = Lanes(torch.arange(batch_size * length + 1 + extra).numpy(), batch_size, length)
    position = data.draw(st.integers(-2, len(lanes) + 2))
    reading = WindowLoader(lanes)
    if not 0 <= position <= len(lanes):
        with pytest.raises(ValueError, match=f"a position of {position} in a pass of {len(lanes)} windows"):
            reading.load_state_dict({"position": position})
        return
    reading.load_state_dict({"position": position})
    expected = (list(lanes) * 2)[position:]
    got = [*list(reading), *(list(reading) if position < len(lanes) else [])][: len(expected)]
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert one[2:] == other[2:]


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_fuzzed(reader: str, tmp_path: Path, figure: Figure) -> None:
    """Twenty seconds of damage, guided by coverage."""
    pytest.importorskip("atheris", reason="the fuzzer is not installed")
    program = Path(__file__).with_name("fuzz.py")
    words = [sys.executable, "-W", "ignore", str(program), reader, "-max_total_time=20"]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[result.stderr.find("=== Uncaught") :]
    done = re.search(r"Done (\d+) runs", result.stderr)
    assert done
    assert int(done[1]) > 100
    figure("fuzz executions", int(done[1]))


def test_sound_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the fuzzer would only see what is behind the first check."""
    monkeypatch.setattr(runs, "checksum_matches", lambda *_: True)
    for reader, sound in READERS.values():
        (tmp_path / "file").write_bytes(sound()[0])
        reader(tmp_path / "file")
