"""The compiled sampler writes what the numpy one writes, whoever is beside it, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import CELLS as NAMES
from conftest import INSTRUCTION_SETS
from hypothesis import given
from hypothesis import strategies as st
from test_sampling import choices

from chargen import native
from chargen.config import ModelConfig
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer
from chargen.nn.model import CharRNN
from chargen.sampling.generator import PRECISIONS, NativeNetwork, NumpyNetwork, SamplingParams, TextGenerator, generate
from chargen.storage.model_file import ModelFile

pytestmark = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")


def portable(cell: str = "gru", H: int = 20, V: int = 13, num_layers: int = 2, residual: bool = True) -> ModelFile:
    torch.manual_seed(H + V)
    model = CharRNN(ModelConfig(V, cell, H, num_layers, 5, residual=residual))
    for name, weight in model.named_parameters():  # biases too, and logits that leave something to choose
        torch.nn.init.normal_(weight, std=0.5 if "head" in name else 0.7 / H**0.5 if "hh" in name else 0.7)
    return model.to_model_file("", {"start_id": END_ID})


def read_slowly(model: NumpyNetwork, ids: list[int]) -> np.ndarray:
    """The logits behind each of the ids."""
    states, all_logits = model.zero_state(), []
    for id in ids:
        logits, states = model.tick(id, states)
        all_logits.append(logits)
    return np.stack(all_logits)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("H", [1, 7, 33, 130])
@pytest.mark.parametrize("cell", NAMES)
def test_reads_as_the_numpy_network(cell: str, H: int, residual: bool, instruction_set: None) -> None:
    given_ = portable(cell, H, residual=residual)
    ids = np.random.default_rng(H).integers(0, 13, 40)
    fast, slow = NativeNetwork(given_), read_slowly(NumpyNetwork(given_), ids.tolist())
    together, _ = fast.read(ids[None])
    # float32: sums of up to 130 terms in another order, through 40 ticks
    np.testing.assert_allclose(together[0], slow[-1], rtol=1e-3, atol=1e-4)
    logits, states = fast.read(ids[None, :17])
    np.testing.assert_allclose(logits[0], slow[16], rtol=1e-3, atol=1e-4)
    again, _ = fast.read(ids[None, 17:], states)
    assert np.array_equal(again, together), "a text read in two parts is the text"


@pytest.mark.parametrize("cell", NAMES)
def test_bytes_read_as_the_numpy_network_of_bytes(cell: str, instruction_set: None) -> None:
    """Whole numbers are summed exactly; what differs is the rounding before, now and then by one in 127."""
    given_ = portable(cell, 33)
    ids = np.random.default_rng(1).integers(0, 13, 12)
    fast, slow = NativeNetwork(given_, "int8"), NumpyNetwork(given_, "int8")
    np.testing.assert_allclose(fast.read(ids[None])[0][0], read_slowly(slow, ids.tolist())[-1], atol=0.02)
    exact = read_slowly(NumpyNetwork(given_), ids.tolist())[-1]
    assert not np.allclose(fast.read(ids[None])[0][0], exact, atol=1e-4), "these are not bytes"


def test_bytes_on_every_instruction_set_are_the_same() -> None:
    """One layer and one tick from a state of zeros: nothing but whole numbers until the gates."""
    results = []
    for name in INSTRUCTION_SETS:
        native.use(name)
        results.append(NativeNetwork(portable("rnn", 50, num_layers=1), "int8").read(np.array([[3, 4, 5]]))[0])
    native.use(None)
    for result in results:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", NAMES)
def test_the_text_does_not_depend_on_who_is_beside_it(cell: str, precision: str, instruction_set: None) -> None:
    """Alone, among three, and among twenty that end at different places: the same ids, bit for bit."""
    model = NativeNetwork(portable(cell, 40), precision)

    def write(seeds: list[int], stop: int | None) -> dict[int, list[int]]:
        texts: dict[int, list[int]] = {seed: [] for seed in seeds}
        randoms = [np.random.default_rng(seed) for seed in seeds]
        for number, ids in model.generate([2, 3], 150, SamplingParams(1.0), randoms, [UNKNOWN_ID], stop):
            texts[seeds[number]] += ids
        return texts

    everyone = list(range(20))
    written = write(everyone, None)
    assert {len(text) for text in written.values()} == {150}
    # The id that would end them at the most different places.
    stop = max(range(13), key=lambda id: len({text.index(id) for text in written.values() if id in text}))
    stopped = write(everyone, stop)
    assert len({len(text) for text in stopped.values()}) > 3
    for seed in everyone:
        assert stopped[seed] == written[seed][: len(stopped[seed])]
    for seeds in ([5], [7, 5, 11], [19, 18]):
        assert write(seeds, None) == {seed: written[seed] for seed in seeds}
        assert write(seeds, stop) == {seed: stopped[seed] for seed in seeds}


@pytest.mark.parametrize("cell", NAMES)
def test_threads_change_nothing(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from chargen import sampling

    model, texts = NativeNetwork(portable(cell)), []
    for threads in (1, 2, 3, 5):
        monkeypatch.setattr(sampling, "_threads", lambda _, threads=threads: threads)
        randoms = [np.random.default_rng(seed) for seed in range(5)]
        texts.append(list(model.generate([2], 60, SamplingParams(1.0, top_p=0.9), randoms)))
    assert texts[1:] == texts[:-1]


@given(choices, st.integers(0, 2**32 - 1))
def test_chooses_as_the_definition(choice: SamplingParams, seed: int) -> None:
    """Every control in every combination. The two round differently: a draw within 1e-5 of an edge may differ."""
    model = NativeNetwork(MODEL)
    logits, _ = model.read(np.array([[2, 5, 3]]))
    logits = logits[0]
    logits[UNKNOWN_ID] = -np.inf
    edges = np.cumsum(choice.probabilities(logits))
    uniform = np.random.default_rng(seed).random()
    (_, (id,)) = next(model.generate([2, 5, 3], 1, choice, [np.random.default_rng(seed)]))
    if choice.temperature > 0 and np.abs(edges - uniform).min() < 1e-5:
        return
    assert id == choice.draw(logits, np.random.default_rng(seed))


MODEL = portable()


@pytest.mark.parametrize(
    ("choice", "allowed"),
    [
        (SamplingParams(0.0), 1),
        (SamplingParams(1.0, top_k=1), 1),
        (SamplingParams(1.0, top_k=3), 3),
        (SamplingParams(1.0, top_p=1e-9), 1),
        (SamplingParams(1.0, min_p=1.0), 1),
        (SamplingParams(1.0, top_k=500), 12),
    ],
)
def test_leaves_out_what_it_should(choice: SamplingParams, allowed: int) -> None:
    """Of 12 writable ids, so many of the likeliest ever come."""
    model = NativeNetwork(MODEL)
    logits = model.read(np.array([[2]]))[0][0]
    logits[UNKNOWN_ID] = -np.inf
    likeliest = set(np.argsort(-logits, kind="stable")[:allowed].tolist())
    randoms = [np.random.default_rng(seed) for seed in range(4000)]
    seen = {ids[0] for _, ids in model.generate([2], 1, choice, randoms)}
    assert seen <= likeliest
    assert len(seen) >= min(allowed, 3)


def test_draws_follow_the_probabilities() -> None:
    """Chi-squared over 20,000 draws: beyond its 1e-4 quantile only if something is wrong."""
    model, choice = NativeNetwork(MODEL), SamplingParams(1.3)
    logits = model.read(np.array([[2]]))[0][0]
    logits[UNKNOWN_ID] = -np.inf
    p = choice.probabilities(logits)
    randoms = [np.random.default_rng([9, seed]) for seed in range(20_000)]
    counts = np.bincount([ids[0] for _, ids in model.generate([2], 1, choice, randoms)], minlength=13)
    assert counts[UNKNOWN_ID] == 0
    seen = p * 20_000 > 5
    statistic = ((counts - 20_000 * p)[seen] ** 2 / (20_000 * p)[seen]).sum()
    assert statistic < 39.1  # the 1e-4 quantile for 12 degrees of freedom


def test_a_writer_writes_the_same_compiled_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same characters for the same seed; a draw within float rounding of an edge is not among these."""
    given_ = portable("lstm", 30, V=9)
    given_ = ModelFile(given_.weights, given_.settings, Tokenizer("abcdefg").to_json(), given_.notes)
    compiled = TextGenerator(given_)
    assert isinstance(compiled.model, NativeNetwork)
    texts = {
        through: "".join(compiled.write("abc", 200, SamplingParams(1.0, top_p=0.95), 4, through))
        for through in (True, False)
    }
    monkeypatch.setattr(native, "library", lambda: None)
    plain = TextGenerator(given_)
    assert isinstance(plain.model, NumpyNetwork)
    for through, text in texts.items():
        assert "".join(plain.write("abc", 200, SamplingParams(1.0, top_p=0.95), 4, through)) == text
    assert len(texts[True]) == 200 > len(texts[False])


def test_several_samples_are_those_written_alone() -> None:
    given_ = portable("gru", 16, V=9)
    writer = TextGenerator(ModelFile(given_.weights, given_.settings, Tokenizer("abcdefg").to_json(), given_.notes))
    texts = ["", "", ""]
    for number, piece in writer.write_several([3, 1, 4], "ab", 120):
        texts[number] += piece
    assert texts == ["".join(writer.write("ab", 120, seed=seed)) for seed in (3, 1, 4)]


def test_the_twin_generates_what_the_kernel_generates() -> None:
    slow = list(generate(NumpyNetwork(MODEL), [2, 3], 100, SamplingParams(1.0), np.random.default_rng(8)))
    fast = [
        ids for _, ids in NativeNetwork(MODEL).generate([2, 3], 100, SamplingParams(1.0), [np.random.default_rng(8)])
    ]
    assert sum(fast, []) == slow


def test_a_network_keeps_the_instruction_set_it_was_packed_for() -> None:
    native.use(INSTRUCTION_SETS[-1])
    model = NativeNetwork(MODEL)
    before, _ = model.read(np.array([[2, 3, 4]]))
    native.use(None)
    after, _ = model.read(np.array([[2, 3, 4]]))
    assert np.array_equal(before, after)


def test_an_id_beyond_the_vocabulary_is_refused() -> None:
    for wrong in (13, -1):
        with pytest.raises(IndexError, match="beyond the vocabulary"):
            NativeNetwork(MODEL).read(np.array([[2, wrong]]))


@pytest.mark.parametrize("name", ["recurrence.weight_hh_l1", "head.weight", "head.bias", "embedding.weight"])
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    given_ = portable()
    for weights in (
        {**given_.weights, name: given_.weights[name][:-1]},
        {key: weight for key, weight in given_.weights.items() if key != name},
    ):
        with pytest.raises(ValueError, match="do not fit"):
            NativeNetwork(ModelFile(weights, given_.settings, "", {}))
