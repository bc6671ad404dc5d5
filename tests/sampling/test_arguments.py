"""Wrong arguments are refused when the call is made, by their names in Python; numbers of numpy are welcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.sampling import random_model_file

from chargen.errors import ArgumentError
from chargen.sampling.generator import TextGenerator, load
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork
from chargen.sampling.params import SamplingParams

GENERATOR = TextGenerator(random_model_file())
NOT_WHOLE = [0, -5, True, 2.0, float("nan"), "7", None, [3]]
NOT_SEEDS = [-5, True, 1.5, float("nan"), "7", b"7", [], [1, -1], [1.5], [True], np.array([0.5]), np.array(-1), {1: 2}]
WRONG = [
    *(("max_length", value) for value in NOT_WHOLE),
    *(("seed", value) for value in NOT_SEEDS),
    *(("params", value) for value in (None, {"temperature": 1.0}, 0.8, SamplingParams)),
    *(("prompt", value) for value in (None, 5, ["ab"])),
    *(("ignore_eos", value) for value in (None, 1, "no")),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_arguments_out_of_range_are_named_at_once(name: str, value: object) -> None:
    """Before the first piece is asked for, by their names in Python."""
    for method in (GENERATOR.stream, GENERATOR.generate):
        with pytest.raises(ArgumentError, match=rf"^{name}=.*: must be ") as caught:
            method(**{name: value})
        assert caught.value.name == name
    many = {"seeds": [1, value] if name == "seed" else [1], **({} if name == "seed" else {name: value})}
    with pytest.raises(ArgumentError, match=rf"^{'seeds' if name == 'seed' else name}=.*: must be "):
        GENERATOR.stream_many(**many)


@pytest.mark.parametrize("seeds", [5, None, "12", b"12", [None, "1"]])
def test_seeds_that_are_not_several_are_refused(seeds: object) -> None:
    with pytest.raises(ArgumentError, match=r"^seeds=.*: must be "):
        GENERATOR.stream_many(seeds)


@pytest.mark.parametrize("precision", ["fp16", "int4", "INT8", None, 8, ["int8"]])
def test_a_precision_that_does_not_exist_is_refused(precision: object, tmp_path: Path) -> None:
    file = random_model_file()
    for make in (NumpyNetwork, NativeNetwork, TextGenerator, lambda _, precision: load(tmp_path, precision)):
        with pytest.raises(ArgumentError, match=r"^precision=.*: must be float32 or int8"):
            make(file, precision)


@pytest.mark.parametrize("num_threads", [0, -1, 1.5, True])
def test_a_number_of_threads_below_one_is_refused(num_threads: object) -> None:
    with pytest.raises(ArgumentError, match=r"^num_threads=.*: must be a whole number from 1 up"):
        NativeNetwork(random_model_file(), num_threads=num_threads)


def test_other_objects_than_models_texts_and_paths_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"^model_file='runs/x': must be a ModelFile; chargen.load takes a path"):
        TextGenerator("runs/x")
    for path in (5, b"runs/x", ["runs/x"]):
        with pytest.raises(ArgumentError, match=r"^path=.*: must be a string, a path or None"):
            load(path)
    for method in (GENERATOR.score, GENERATOR.clean):
        for text in (b"ab", 5, None, ["ab"], np.array("ab")):
            with pytest.raises(ArgumentError, match=r"^text=.*: must be a string"):
                method(text)
    with pytest.raises(ArgumentError, match=r"^prompt=.*: must be a string"):
        GENERATOR.encode_prompt(None)


def test_a_mistake_that_is_long_is_told_in_a_short_line() -> None:
    with pytest.raises(ArgumentError) as caught:
        GENERATOR.generate([b"a\n"] * 10_000)
    assert len(str(caught.value)) < 150
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_welcome() -> None:

    def text(max_length: object, seed: object) -> str:
        return GENERATOR.generate("ab", max_length=max_length, seed=seed)

    assert text(np.int32(30), np.int64(7)) == text(30, 7) == text(np.uint8(30), np.array(7))
    assert text(30, np.array([1, 2])) == text(30, [1, 2]) == text(30, (np.int8(1), 2))
    numbers = [number for number, _ in GENERATOR.stream_many(np.arange(3), max_length=1)]
    assert numbers == [0, 1, 2]
