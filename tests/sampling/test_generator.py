"""TextGenerator: text in, text out, compiled or not; scores equal those of CharRNN."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import get_origin, get_type_hints

import numpy as np
import pytest
import torch
from support.models import write_model
from support.sampling import SYMBOLS, random_model, random_model_file, texts_of

import chargen
from chargen import native
from chargen.config import ModelConfig
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer
from chargen.errors import ArgumentError, FileError
from chargen.nn.model import CharRNN
from chargen.sampling.generator import TextGenerator, load
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork, generate
from chargen.sampling.params import SamplingParams
from chargen.sampling.weights import Precision
from chargen.storage.model_file import ModelFile

compiled = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
BOLD = SamplingParams(1.0)


def generator_for(metadata: dict, symbols: str = SYMBOLS) -> TextGenerator:
    return TextGenerator(random_model().to_model_file(Tokenizer(symbols).to_json(), metadata))


def write_byte_model(folder: Path) -> Path:
    torch.manual_seed(0)
    tokenizer = Tokenizer(map(chr, range(256)), "byte")
    model = CharRNN(ModelConfig(tokenizer.vocab_size, "gru", 8, 1, 4))
    model.to_model_file(tokenizer.to_json(), {"start_id": 2}).save(folder / "model.safetensors")
    return folder / "model.safetensors"


# ------------------------------------------------------------------------------- writing


def test_a_seed_determines_the_text_and_the_end_of_an_article_stops_it() -> None:
    model = random_model()
    with torch.no_grad():
        model.head.bias[END_ID] += 5
    generator = TextGenerator(model.to_model_file(Tokenizer(SYMBOLS).to_json(), {"start_id": END_ID}))

    def text(seed: int, ignore_eos: bool = False) -> str:
        return generator.generate("ab", max_length=300, params=BOLD, seed=seed, ignore_eos=ignore_eos)

    assert text(1, ignore_eos=True) == text(1, ignore_eos=True)
    assert text(1, ignore_eos=True) != text(2, ignore_eos=True)
    whole, stopped = text(1, ignore_eos=True), text(1)
    assert len(whole) == 300  # the end of an article is written as the end of a line
    assert "\n" in whole
    assert stopped == whole[: whole.index("\n")]
    assert "\ufffd" not in whole


def test_without_a_seed_texts_differ() -> None:
    generator = generator_for({"start_id": 2})
    assert generator.generate(max_length=100) != generator.generate(max_length=100)


def test_generate_joins_the_pieces_of_stream() -> None:
    generator = generator_for({"start_id": 2})
    pieces = list(generator.stream("ab", max_length=100, params=BOLD, seed=3))
    assert len(pieces) > 1
    assert len(pieces[0]) == 1, "the first character must not wait for others"
    assert all(pieces)
    assert "".join(pieces) == generator.generate("ab", max_length=100, params=BOLD, seed=3)


def test_a_model_that_has_read_no_end_writes_none() -> None:
    """It writes the same as if the end of an article had no probability."""
    generator = generator_for({"start_id": 2})
    text = generator.generate(max_length=300, seed=1)
    assert len(text) == 300
    ids = generate(
        NumpyNetwork(random_model_file()), [2], SamplingParams(),
        rng=np.random.default_rng(1), max_length=300, banned=[UNKNOWN_ID, END_ID],
    )  # fmt: skip
    assert generator.tokenizer.decode(ids) == text


def test_stream_many_equals_stream_with_each_seed() -> None:
    generator = generator_for({"start_id": END_ID})
    texts = ["", "", ""]
    for number, piece in generator.stream_many([3, 1, 4], "ab", max_length=120):
        texts[number] += piece
    assert texts == [generator.generate("ab", max_length=120, seed=seed) for seed in (3, 1, 4)]
    assert list(generator.stream_many([], "ab")) == []


@compiled
def test_the_text_is_the_same_compiled_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same characters for the same seed. No draw of these is within float rounding of an edge."""
    file = random_model_file("lstm", 30)
    params, fast = SamplingParams(1.0, top_p=0.95), TextGenerator(file)
    assert isinstance(fast.network, NativeNetwork)
    monkeypatch.setattr(native, "library", lambda: None)
    slow = TextGenerator(file)
    assert isinstance(slow.network, NumpyNetwork)
    lengths = {}
    for ignore_eos in (True, False):
        texts = [
            generator.generate("abc", max_length=200, params=params, seed=4, ignore_eos=ignore_eos)
            for generator in (fast, slow)
        ]
        assert texts[0] == texts[1]
        lengths[ignore_eos] = len(texts[0])
    assert lengths[True] == 200 > lengths[False]


@compiled
def test_a_cell_without_a_kernel_runs_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "has_cell", lambda name: name != "gru")
    assert isinstance(TextGenerator(random_model_file("gru")).network, NumpyNetwork)
    assert isinstance(TextGenerator(random_model_file("lstm")).network, NativeNetwork)


def test_a_model_of_bytes_writes_whole_characters(tmp_path: Path) -> None:
    """Only whole characters and U+FFFD are written, however the bytes fall."""
    file = ModelFile.load(write_byte_model(tmp_path))
    params = SamplingParams(1.5)
    ids = generate(
        NumpyNetwork(file), [2], params, rng=np.random.default_rng(3), max_length=400, banned=[UNKNOWN_ID, END_ID]
    )
    expected = bytes(id - 2 for id in ids).decode("utf-8", "replace")
    pieces = list(TextGenerator(file).stream(max_length=400, params=params, seed=3))
    assert "".join(pieces) == expected
    assert all(pieces)


def test_bytes_give_bytes(tmp_path: Path) -> None:
    """Every byte that the model draws is returned as it is; a string has U+FFFD for bytes that are not UTF-8."""
    generator = load(write_byte_model(tmp_path))
    session = generator.network.open([2, *(byte + 2 for byte in b"\xff\x00a")], SamplingParams(1.5), seed=3,
                                     max_length=300, banned=(UNKNOWN_ID, END_ID))  # fmt: skip
    drawn = bytes(id - 2 for id in generator.network.step([session], 300)[0])
    options = {"max_length": 300, "params": SamplingParams(1.5), "seed": 3}
    assert generator.generate(b"\xff\x00a", **options) == drawn
    assert b"".join(generator.stream(b"\xff\x00a", **options)) == drawn
    assert generator.generate("\udcff\0a", **options) == drawn.decode("utf-8", "replace")
    assert generator.encode_prompt(b"\xff\x00a")[1] == []


def test_bytes_of_a_model_of_characters_are_utf_8() -> None:
    generator = generator_for({"start_id": 2})
    assert generator.generate(b"ab", max_length=50, seed=1) == generator.generate("ab", max_length=50, seed=1).encode()
    with pytest.raises(ArgumentError, match="must be UTF-8; byte 1 is not"):
        generator.generate(b"a\xff")


def test_a_prompt_has_the_line_ends_of_the_training_text() -> None:
    plain, crlf = (
        TextGenerator(CharRNN(ModelConfig(6, "gru", 8, 1, 4)).to_model_file(Tokenizer("a\r\nb").to_json(), metadata))
        for metadata in ({"start_id": 2}, {"start_id": 2, "corpus": {"line_end": "\r\n"}})
    )
    for prompt in ("a\nb\r\na\r", "\r\n"):
        assert plain.clean(prompt) == prompt
        assert crlf.clean(prompt) == "\r\n".join(part.removesuffix("\r") for part in prompt.split("\n")[:-1]) + (
            "\r\n" + prompt.split("\n")[-1]
        )


def test_a_stream_is_a_generator_that_can_be_closed() -> None:
    generator = generator_for({"start_id": 2})
    for method in (TextGenerator.stream, TextGenerator.stream_many):
        assert get_origin(get_type_hints(method)["return"]) is Generator
    for stream in (generator.stream(max_length=100), generator.stream_many([1, 2], max_length=100)):
        assert isinstance(stream, Generator)
        assert next(stream)
        stream.close()
        assert list(stream) == []


def test_a_prompt_is_read_when_the_first_piece_is_asked_for() -> None:
    """A generator of random numbers is used from then on."""
    generator, rng = generator_for({"start_id": 2}), np.random.default_rng(3)
    stream = generator.stream("ab", max_length=40, seed=rng)
    rng.random(5)
    again = np.random.default_rng(3)
    again.random(5)
    assert "".join(stream) == generator.generate("ab", max_length=40, seed=again)


# ------------------------------------------------------------------------------- prompts


def test_a_prompt_is_cleaned_and_encoded_like_the_corpus() -> None:
    corpus = {"normalize_newlines": True, "normalize_unicode": True, "min_count": 2}
    generator = generator_for({"start_id": 2, "config": {"corpus": corpus}}, "abcdefgh\n\u00e9 ")
    ids, unknown = generator.encode_prompt("a\r\ne\u0301x")
    assert (ids, unknown) == (generator.tokenizer.encode("a\n\u00e9x").tolist(), ["x"])
    assert UNKNOWN_ID in generator.encode_prompt("axb")[0]  # min_count 2: the training text had unknown characters
    assert generator_for({"start_id": 2}).encode_prompt("axb") == ([2, 3], ["x"])  # min_count 1: it had none


@pytest.mark.parametrize("prompt", ["\ud800", "a\udfff", "\ud83d\ude00b", "ab\udcff"])
def test_a_lone_surrogate_is_an_unknown_character(prompt: str) -> None:
    kept = "".join(character for character in prompt if character < "\ud800")
    surrogates = [character for character in prompt if character >= "\ud800"]
    generator = generator_for({"start_id": 2})
    assert generator.encode_prompt(prompt) == (generator.encode_prompt(kept)[0], surrogates)
    assert generator.generate(prompt, max_length=20, seed=1) == generator.generate(kept, max_length=20, seed=1)
    assert len(generator.score(prompt)) == len(prompt)


def test_a_lone_surrogate_is_unknown_to_a_model_of_bytes_unless_it_stands_for_a_byte(tmp_path: Path) -> None:
    generator = load(write_byte_model(tmp_path))
    assert generator.encode_prompt("\ud800a\u00e9\udfff") == (
        generator.encode_prompt("a\u00e9")[0],
        ["\ud800", "\udfff"],
    )
    assert generator.encode_prompt("\udcff") == ([0xFF + 2], [])
    assert len(generator.score("\ud800a\udcff")) == 3
    assert generator.generate("\ud800a", max_length=9, seed=1) == generator.generate("a", max_length=9, seed=1)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(FileError, match="do not fit its tokenizer"):
        generator_for({"start_id": 2}, "abc")


# ------------------------------------------------------------------------------- beginnings


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_text_begins_behind_an_article_and_a_passage_goes_on_within_one(precision: Precision) -> None:
    """Without initial states, a model writes the same if it reads what leads to them."""
    plain = random_model_file("lstm", metadata={"start_id": 4})
    reader = TextGenerator(plain, precision)

    def behind(passage: str) -> np.ndarray:
        return reader.network.read(reader.tokenizer.encode(passage)[None])[1][:, 0]

    model = TextGenerator(
        plain.with_initial_states({"beginning": behind("kjihg"), "within": behind("abab")}), precision
    )
    start = SYMBOLS[4 - 2]  # the first two ids are special
    passages = {False: "kjihg" + start, True: "abab"}
    for prompt, within in (("ca", False), ("", False), ("ca", True)):
        led = reader.network.open(
            reader.tokenizer.encode(passages[within] + prompt), SamplingParams(0.8), seed=5, max_length=60,
            banned=(UNKNOWN_ID, END_ID),
        )  # fmt: skip
        want = reader.tokenizer.decode(reader.network.step([led], 60)[0])
        assert model.generate(prompt, max_length=60, seed=5, within=within) == want
    first = reader.tokenizer.encode("kjihg" + start + "abcabc")
    logits, _ = reader.network.predict(first[None])
    p = [SamplingParams(1.0).probabilities(row)[id] for row, id in zip(logits[0, 5:-1], first[6:], strict=True)]
    np.testing.assert_allclose(model.score("abcabc"), -np.log(p), rtol=1e-5)


def test_a_model_without_initial_states_reads_a_passage_from_the_zero_state() -> None:
    generator = generator_for({"start_id": 4})
    session = generator.network.open(
        generator.tokenizer.encode("ca"), SamplingParams(0.8), seed=5, max_length=60, banned=(UNKNOWN_ID, END_ID)
    )
    want = generator.tokenizer.decode(generator.network.step([session], 60)[0])
    assert generator.generate("ca", max_length=60, seed=5, within=True) == want
    assert generator.generate("ca", max_length=60, seed=5) != want


@pytest.mark.parametrize("prompt", ["", "?!"])
def test_within_an_article_there_must_be_something_to_continue(prompt: str) -> None:
    with pytest.raises(ArgumentError, match="within=True: must be False, unless the prompt has a character"):
        generator_for({"start_id": 4}).stream(prompt, within=True)


# ------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("with_kernels", [pytest.param(True, marks=compiled), False])
@pytest.mark.parametrize("start_id", [END_ID, 3])
def test_scores_equal_torch(start_id: int, with_kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """CharRNN.cross_entropy returns the sum over the first n characters. A score is the difference of two such sums."""
    if not with_kernels:
        monkeypatch.setattr(native, "library", lambda: None)
    model = random_model("lstm")
    generator = TextGenerator(model.to_model_file(Tokenizer(SYMBOLS).to_json(), {"start_id": start_id}))
    text = "abcabcx" + "kjihgfedcba" * 4
    scores = generator.score(text)
    assert scores.shape == (len(text),)
    targets = torch.from_numpy(generator.tokenizer.encode(text))[None]
    ids = torch.cat((torch.tensor([[start_id]]), targets[:, :-1]), dim=1)
    with torch.no_grad():
        sums = [0.0, *(model.cross_entropy(ids[:, :n], targets[:, :n])[0].item() for n in range(1, len(text) + 1))]
    # float32: torch's sums have an error of about 1e-6 of their size
    np.testing.assert_allclose(scores, np.diff(sums), rtol=1e-4, atol=2e-4)
    assert scores.sum() == pytest.approx(sums[-1], rel=1e-5)


def test_a_long_text_is_scored_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from chargen.sampling import generator as module

    generator = generator_for({"start_id": 2})
    whole = generator.score("abcdefg" * 10)
    monkeypatch.setattr(module, "LOGITS_PER_STEP", 100)
    assert np.array_equal(generator.score("abcdefg" * 10), whole)


def test_the_probabilities_of_all_continuations_sum_to_one() -> None:
    """One character behind a prefix; the two special ids take the rest."""
    generator = generator_for({"start_id": 2})
    prefix = "abcab"
    scores = [generator.score(prefix + symbol)[-1] for symbol in SYMBOLS]
    logits, _ = generator.network.read(np.array([[2, *generator.tokenizer.encode(prefix)]]))
    p = SamplingParams(1.0).probabilities(logits[0])
    assert np.exp(-np.array(scores)).sum() == pytest.approx(1 - p[UNKNOWN_ID] - p[END_ID], rel=1e-6)


def test_an_empty_text_has_no_scores() -> None:
    assert generator_for({"start_id": 2}).score("").shape == (0,)


# ------------------------------------------------------------------------------- loading


def test_load_takes_a_folder_or_a_file(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "run")
    texts = {
        load(path).generate(seed=1, max_length=50)
        for path in (folder, str(folder), f"{folder}/", folder / "model.safetensors", str(folder / "model.safetensors"))
    }  # fmt: skip
    assert len(texts) == 1
    assert chargen.load is load


def test_loading_nothing_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="nowhere"):
        load(tmp_path / "nowhere")


# ------------------------------------------------------------------------------- copies, threads, processes

KINDS = [pytest.param((True, "float32"), marks=compiled), pytest.param((True, "int8"), marks=compiled), (False, "int8")]
SEEDS = list(range(24))  # for two threads of the kernels, where there are two processors


@pytest.fixture(params=KINDS)
def generator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> TextGenerator:
    """A generator in either precision, with and without kernels."""
    has_kernels, precision = request.param
    if not has_kernels:
        monkeypatch.setattr(native, "library", lambda: None)
    return TextGenerator(random_model_file("lstm"), precision)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_a_generator_writes_the_same(copied, generator: TextGenerator) -> None:
    other = copied(generator)
    assert (other.precision, type(other.network)) == (generator.precision, type(generator.network))
    assert texts_of(other, SEEDS) == texts_of(generator, SEEDS)
    del generator.network
    assert texts_of(other, SEEDS[:1])  # it does not use the memory of the first one


def test_threads_share_a_generator(generator: TextGenerator) -> None:
    expected = texts_of(generator, SEEDS)
    with ThreadPoolExecutor(4) as pool:
        together = [pool.submit(texts_of, generator, SEEDS) for _ in range(4)]
    assert all(texts.result() == expected for texts in together)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_the_generator(generator: TextGenerator) -> None:
    expected = texts_of(generator, SEEDS)  # the threads of the kernels run before the fork
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(texts_of, generator, SEEDS).result() == expected
    assert texts_of(generator, SEEDS) == expected


@compiled
def test_a_spawned_process_receives_a_generator_and_returns_its_mistakes() -> None:
    """Through concurrent.futures and through multiprocessing; a mistake comes back as the same error."""
    generator = TextGenerator(random_model_file("gru"), "int8")
    expected, spawn = texts_of(generator, SEEDS), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as executor:
        written, mistaken = executor.submit(texts_of, generator, SEEDS), executor.submit(texts_of, generator, [-1])
        assert written.result() == expected
        with pytest.raises(ArgumentError, match=r"^seeds=-1: must be ") as caught:
            mistaken.result()
    assert (caught.value.name, caught.value.value) == ("seeds", -1)
    with spawn.Pool(1) as pool:
        assert pool.apply(texts_of, (generator, SEEDS)) == expected


def test_sampling_imports_no_heavy_package(tmp_path: Path) -> None:
    """Loading a model and writing a text, as a program would."""
    folder = write_model(tmp_path / "run")
    code = f"""
import sys, chargen
chargen.load({str(folder)!r}).generate("ab", max_length=20, params=chargen.SamplingParams(1.0))
print(sorted({{"torch", "lightning", "hydra", "omegaconf", "matplotlib"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
