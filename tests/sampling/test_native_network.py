"""NativeNetwork reads and chooses like NumpyNetwork, on every instruction set."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.environment import INSTRUCTION_SETS, NATIVE_CELLS
from support.sampling import VOCAB_SIZE, extreme_params, next_logits, random_model_file, sampling_params, write

from chargen import native
from chargen.corpus.tokenizer import UNKNOWN_ID
from chargen.errors import FileError
from chargen.sampling import native_network
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork
from chargen.sampling.params import SamplingParams
from chargen.storage.model_file import ModelFile

pytestmark = pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
FILE = random_model_file()


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("hidden_size", [1, 7, 33, 130])
@pytest.mark.parametrize("cell", NATIVE_CELLS)
def test_reads_like_the_numpy_network(cell: str, hidden_size: int, residual: bool, instruction_set: str) -> None:
    file = random_model_file(cell, hidden_size, residual=residual)
    ids = np.random.default_rng(hidden_size).integers(0, VOCAB_SIZE, 40)
    network, expected = NativeNetwork(file), NumpyNetwork(file).predict(ids[None])[0][0]
    together, _ = network.read(ids[None])
    # float32: sums of up to 130 terms in another order, through 40 ticks
    np.testing.assert_allclose(together[0], expected[-1], rtol=1e-3, atol=1e-4)
    logits, states = network.read(ids[None, :17])
    np.testing.assert_allclose(logits[0], expected[16], rtol=1e-3, atol=1e-4)
    again, _ = network.read(ids[None, 17:], states)
    assert np.array_equal(again, together), "reading a text in two parts has changed the logits"


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("cell", NATIVE_CELLS)
def test_predict_equals_read_behind_every_id(cell: str, precision: str, instruction_set: str) -> None:
    network = NativeNetwork(random_model_file(cell), precision)
    ids = np.random.default_rng(3).integers(0, VOCAB_SIZE, (5, 6))
    every, states = network.predict(ids)
    for n in range(1, 7):
        logits, after = network.read(ids[:, :n])
        assert np.array_equal(every[:, n - 1], logits)
    assert np.array_equal(states, after)


@pytest.mark.parametrize("hidden_size", [1, 7, 33, 130])
@pytest.mark.parametrize("cell", NATIVE_CELLS)
def test_int8_reads_like_the_numpy_network_to_the_bit(cell: str, hidden_size: int, instruction_set: str) -> None:
    """So a seed writes the same text on every instruction set."""
    file = random_model_file(cell, hidden_size)
    ids = np.random.default_rng(1).integers(0, VOCAB_SIZE, (5, 20))
    logits, states = NativeNetwork(file, "int8").predict(ids)
    expected, expected_states = NumpyNetwork(file, "int8").predict(ids)
    assert np.array_equal(logits, expected)
    assert np.array_equal(states, expected_states)
    exact = NumpyNetwork(file).predict(ids)[0]  # int8 holds a matrix of one column exactly
    assert np.allclose(logits, exact, atol=1e-5) == (hidden_size == 1), "these are not int8 weights"


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("num_streams", [1, 3])
def test_long_texts_are_read_and_written_in_bounded_pieces(
    num_streams: int, precision: str, instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of one, two and all characters give the same logits, states and texts."""
    network = NativeNetwork(random_model_file("lstm"), precision)
    ids = np.random.default_rng(2).integers(0, VOCAB_SIZE, (num_streams, 11))

    def results() -> list[np.ndarray]:
        first = network.open(ids[0], SamplingParams(1.0), seed=0, max_length=30)
        texts = network.step([first, *(first.fork(seed) for seed in range(1, num_streams))], 30)
        return [*network.read(ids), *network.predict(ids), np.array(texts), first.state, first.logits]

    assert network.characters_per_call(num_streams) >= 30
    together = results()
    for size in (1, 2):
        monkeypatch.setattr(native_network, "PRODUCTS_PER_CALL", size * num_streams * network._products)
        assert network.characters_per_call(num_streams) == size
        for result, expected in zip(results(), together, strict=True):
            assert np.array_equal(result, expected)


def test_signals_are_handled_while_a_long_prompt_is_read() -> None:
    """Python runs the handler of a signal between two calls of the kernels. One call would run it once."""
    network, seen = NativeNetwork(random_model_file("gru", 64)), []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
    try:
        network.open(np.ones(200_000, dtype=np.int64), SamplingParams())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) >= 5


@given(st.one_of(sampling_params, extreme_params), st.integers(0, 2**32 - 1))
def test_chooses_like_sampling_params(params: SamplingParams, seed: int) -> None:
    """All controls in combination. Both sides round differently, so a draw within 1e-5 of an edge may differ."""
    network = NativeNetwork(FILE)
    logits = next_logits(network, [2, 5, 3])
    logits[UNKNOWN_ID] = -np.inf
    edges = np.cumsum(params.probabilities(logits))
    uniform = np.random.default_rng(seed).random()
    (id,) = write(network, [2, 5, 3], params, seed=seed, max_length=1)
    if params.temperature > 0 and np.abs(edges - uniform).min() < 1e-5:
        return
    assert id == params.draw(logits, np.random.default_rng(seed))


@pytest.mark.parametrize("temperature", [1e12, 1e46, 1.7e308])
def test_a_high_temperature_draws_all_ids_alike(temperature: float) -> None:
    """4,000 draws of 12 ids; five standard deviations of a count are 88."""
    counts = np.bincount(first_ids(NativeNetwork(FILE), SamplingParams(temperature), list(range(4000))))
    assert counts[UNKNOWN_ID] == 0
    np.testing.assert_allclose(counts[1:], 4000 / 12, atol=88)


def first_ids(network: NativeNetwork, params: SamplingParams, seeds: list) -> list[int]:
    """The first id of one session for each seed, all drawn in one step."""
    first = network.open([2], params)
    return [ids[0] for ids in network.step([first.fork(seed) for seed in seeds], 1)]


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(0.0), 1),
        (SamplingParams(1.0, top_k=1), 1),
        (SamplingParams(1.0, top_k=3), 3),
        (SamplingParams(1.0, top_p=1e-9), 1),
        (SamplingParams(1.0, min_p=1.0), 1),
        (SamplingParams(1.0, top_k=500), 12),
        (SamplingParams(1.0, top_k=2**63), 12),
        (SamplingParams(1.0, top_k=2**64 + 1), 12),
        (SamplingParams(1e46), 12),
        (SamplingParams(1e46, top_k=2), 2),
        (SamplingParams(1e12, min_p=1.0), 1),
        (SamplingParams(1e-320), 1),
    ],
)
def test_excludes_what_the_params_exclude(params: SamplingParams, allowed: int) -> None:
    """Of the 12 ids that can be written, only the likeliest `allowed` ever come."""
    network = NativeNetwork(FILE)
    logits = next_logits(network, [2])
    logits[UNKNOWN_ID] = -np.inf
    likeliest = set(np.argsort(-logits, kind="stable")[:allowed].tolist())
    seen = set(first_ids(network, params, list(range(4000))))
    assert seen <= likeliest
    assert len(seen) >= min(allowed, 3)


def test_draws_follow_the_probabilities() -> None:
    """Chi-squared over 20,000 draws; its 1e-4 quantile is exceeded only if something is wrong."""
    network, params = NativeNetwork(FILE), SamplingParams(1.3)
    logits = next_logits(network, [2])
    logits[UNKNOWN_ID] = -np.inf
    p = params.probabilities(logits)
    counts = np.bincount(first_ids(network, params, [[9, seed] for seed in range(20_000)]), minlength=VOCAB_SIZE)
    assert counts[UNKNOWN_ID] == 0
    seen = p * 20_000 > 5
    statistic = ((counts - 20_000 * p)[seen] ** 2 / (20_000 * p)[seen]).sum()
    assert statistic < 39.1  # the 1e-4 quantile for 12 degrees of freedom


def test_a_network_keeps_the_instruction_set_it_was_packed_for() -> None:
    native.use(INSTRUCTION_SETS[-1])
    network = NativeNetwork(FILE)
    before, _ = network.read(np.array([[2, 3, 4]]))
    native.use(None)
    after, _ = network.read(np.array([[2, 3, 4]]))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("name", ["recurrence.weight_hh_l1", "head.weight", "head.bias", "embedding.weight"])
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    for weights in (
        {**FILE.weights, name: FILE.weights[name][:-1]},
        {key: weight for key, weight in FILE.weights.items() if key != name},
    ):
        with pytest.raises(FileError, match="do not fit"):
            NativeNetwork(ModelFile(weights, FILE.config, "", {}))
