"""NumpyNetwork equals CharRNN, and `generate` equals a naive loop over torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.environment import CELLS
from support.sampling import VOCAB_SIZE, random_model, random_model_file
from support.threads import seconds_of_other_threads

from chargen.cell_types import CELL_TYPES
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID
from chargen.errors import FileError
from chargen.sampling import numpy_network
from chargen.sampling.numpy_network import TICKS, NumpyNetwork, generate
from chargen.sampling.params import SamplingParams
from chargen.storage.model_file import ModelFile


@pytest.mark.parametrize("head_size", [None, 5])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_logits_equal_torch(cell: str, residual: bool, head_size: int | None) -> None:
    model = random_model(cell, 12, residual=residual, head_size=head_size)
    network = NumpyNetwork(model.to_model_file("", {}))
    ids = torch.randint(VOCAB_SIZE, (1, 30))
    with torch.no_grad():
        expected = model(ids)[0][0].numpy()
    states = network.zero_state()
    for place, id in enumerate(ids[0].tolist()):
        logits, states = network.tick(id, states)
        # float32: products of 12 terms, summed in another order, through 30 ticks
        np.testing.assert_allclose(logits, expected[place], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_read_and_predict_equal_ticks(cell: str) -> None:
    """Two streams, read in two parts."""
    network = NumpyNetwork(random_model_file(cell))
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, (2, 9))
    expected = []
    for row in ids.tolist():
        states = network.zero_state()
        for id in row:
            logits, states = network.tick(id, states)
            expected.append(logits)
    every, after = network.predict(ids)
    assert np.array_equal(every.reshape(-1, VOCAB_SIZE), expected)
    last, half = network.read(ids[:, :4])
    assert np.array_equal(last, every[:, 3])
    last, end = network.read(ids[:, 4:], half)
    assert np.array_equal(last, every[:, -1])
    assert np.array_equal(end, after)


@pytest.mark.parametrize("cell", CELLS)
def test_the_likeliest_text_equals_a_naive_loop(cell: str) -> None:
    """Temperature 0, against torch reading the whole text anew for every character."""
    model = random_model(cell, 12)
    with torch.no_grad():
        model.head.bias[END_ID] = -100.0
        network = NumpyNetwork(model.to_model_file("", {}))
        text = [3, 4, 5]
        for _ in range(25):
            logits = model(torch.tensor([text]))[0][0, -1]
            logits[UNKNOWN_ID] = -torch.inf
            text.append(int(logits.argmax()))
    written = generate(network, [3, 4, 5], SamplingParams(0.0), rng=np.random.default_rng(), max_length=25)
    assert list(written) == text[3:]


def test_generate_refuses_an_empty_prompt() -> None:
    network = NumpyNetwork(random_model_file())
    with pytest.raises(ValueError, match="at least one id"):
        next(generate(network, [], SamplingParams(), rng=np.random.default_rng(), max_length=5))


@pytest.mark.parametrize("name", ["recurrence.weight_hh_l1", "head.weight", "head.bias", "embedding.weight"])
def test_weights_that_do_not_fit_are_refused(name: str) -> None:
    file = random_model_file()
    for weights in (
        {**file.weights, name: file.weights[name][:-1]},
        {key: weight for key, weight in file.weights.items() if key != name},
    ):
        with pytest.raises(FileError, match="do not fit"):
            NumpyNetwork(ModelFile(weights, file.config, "", {}))


def test_every_cell_has_a_tick() -> None:
    assert TICKS.keys() == CELL_TYPES.keys()


def test_a_cell_without_a_tick_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_network, "TICKS", {"rnn": TICKS["rnn"]})
    with pytest.raises(ValueError, match="no tick for the cell 'gru'; it has rnn"):
        NumpyNetwork(random_model_file("gru"))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_one_thread_computes(precision: str) -> None:
    """Threads of a matrix product would wait for each other whenever another process takes a processor."""
    prepare = f"""
from chargen.config import ModelConfig
from chargen.nn.model import CharRNN
from chargen.sampling.numpy_network import NumpyNetwork
network = NumpyNetwork(CharRNN(ModelConfig(9, "gru", 512, 1, 4)).to_model_file("", {{}}), "{precision}")
states = network.zero_state()
"""
    work = """
for _ in range(1000):
    states = network.tick(3, states)[1]
"""
    assert seconds_of_other_threads(prepare, work) < 0.1
