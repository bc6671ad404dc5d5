"""The numpy network is the torch one; the choice is a distribution; generation is the naive loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import CELLS as NAMES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer
from chargen.nn.model import CharRNN
from chargen.sampling.generator import NumpyNetwork, SamplingParams, TextGenerator, generate

V = 9


def pair(cell: str = "gru", **changes) -> tuple[CharRNN, NumpyNetwork]:
    torch.manual_seed(6)
    settings = dict(vocab_size=V, cell=cell, hidden_size=12, num_layers=2, embedding_size=5, **changes)
    model = CharRNN(ModelConfig(**settings)).eval()
    for weight in model.parameters():  # biases too, and large enough to matter
        torch.nn.init.normal_(weight, std=0.7)
    return model, NumpyNetwork(model.to_model_file("", {}))


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("cell", NAMES)
def test_equals_torch(cell: str, residual: bool) -> None:
    model, twin = pair(cell, residual=residual)
    ids = torch.randint(V, (1, 30))
    with torch.no_grad():
        expected = model(ids)[0][0]
    states = twin.zero_state()
    for tick, id in enumerate(ids[0].tolist()):
        logits, states = twin.tick(id, states)
        # float32: products of 12 terms, summed in another order, through 30 ticks
        np.testing.assert_allclose(logits, expected[tick].numpy(), rtol=1e-4, atol=1e-5)


logit_vectors = arrays(np.float32, st.integers(2, 20), elements=st.floats(-30, 30, width=32))
choices = st.builds(
    SamplingParams,
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 25),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
)


@given(logit_vectors, choices)
def test_it_is_a_distribution(logits: np.ndarray, choice: SamplingParams) -> None:
    p = choice.probabilities(logits)
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)
    full = SamplingParams(choice.temperature).probabilities(logits)
    assert full[p > 0].max() == full.max()  # the likeliest is never cut


@given(arrays(np.float32, st.integers(2, 20), elements=st.integers(-2, 2).map(float)), choices)
def test_of_equals_those_that_come_first_are_kept(logits: np.ndarray, choice: SamplingParams) -> None:
    """So that a choice does not depend on how a sort happens to end: whatever is kept, all equals before it are."""
    p = choice.probabilities(logits)
    for value in set(logits.tolist()):
        equals = p[logits == value]
        assert (equals > 0).tolist() == sorted((equals > 0).tolist(), reverse=True)
        assert len(set(equals[equals > 0].tolist())) <= 1


largest = float(np.finfo(np.float32).max)


@given(arrays(np.float32, 9, elements=st.sampled_from([-np.inf, -largest, -1.0, 0.0, largest])), choices)
def test_it_is_a_distribution_at_the_ends(logits: np.ndarray, choice: SamplingParams) -> None:
    """Characters that are not to be written, and a network that is very sure."""
    logits[3] = 0.0
    p = choice.probabilities(logits)
    assert p.sum() == pytest.approx(1)
    assert not p[np.isneginf(logits)].any()
    assert p[choice.draw(logits, np.random.default_rng(0))] > 0


@given(logit_vectors, st.floats(0.05, 5))
def test_temperature_is_the_closed_form(logits: np.ndarray, temperature: float) -> None:
    expected = torch.softmax(torch.tensor(logits, dtype=torch.double) / temperature, 0)
    np.testing.assert_allclose(
        SamplingParams(temperature).probabilities(logits), expected.numpy(), rtol=1e-9, atol=1e-12
    )


@given(logit_vectors, st.floats(0.01, 0.999))
def test_the_nucleus_is_minimal(logits: np.ndarray, top_p: float) -> None:
    """It holds top_p, and without its least likely member it would not."""
    full = SamplingParams(1.0).probabilities(logits)
    kept = SamplingParams(1.0, top_p=top_p).probabilities(logits) > 0
    assert full[kept].sum() >= top_p - 1e-9
    assert full[kept].sum() - full[kept].min() < top_p + 1e-9
    assert not kept.all() or full[kept].sum() == pytest.approx(1)
    assert full[kept].min() >= full[~kept].max(initial=0)


@given(logit_vectors, st.integers(1, 25))
def test_top_k_keeps_k(logits: np.ndarray, top_k: int) -> None:
    full = SamplingParams(1.0).probabilities(logits)
    cut = SamplingParams(1.0, top_k=top_k).probabilities(logits)
    assert (cut > 0).sum() <= top_k
    assert np.sort(full)[-top_k:].sum() == pytest.approx(full[cut > 0].sum(), abs=1e-9)
    np.testing.assert_allclose(cut[cut > 0], full[cut > 0] / full[cut > 0].sum())


@given(logit_vectors, st.floats(0, 1))
def test_min_p_is_its_definition(logits: np.ndarray, min_p: float) -> None:
    full = SamplingParams(1.0).probabilities(logits)
    wanted = np.where(full >= min_p * full.max(), full, 0)
    np.testing.assert_allclose(
        SamplingParams(1.0, min_p=min_p).probabilities(logits), wanted / wanted.sum(), atol=1e-12
    )


@given(logit_vectors)
def test_temperature_zero_is_argmax(logits: np.ndarray) -> None:
    random = np.random.default_rng(0)
    assert SamplingParams(0.0).draw(logits, random) == logits.argmax()


def test_draws_follow_the_distribution() -> None:
    """20,000 draws; five standard deviations of a frequency are at most 0.018."""
    logits = np.array([1.0, 0.0, -1.0, 2.0, -np.inf])
    choice, random = SamplingParams(1.0), np.random.default_rng(8)
    frequencies = np.bincount([choice.draw(logits, random) for _ in range(20_000)], minlength=5) / 20_000
    np.testing.assert_allclose(frequencies, choice.probabilities(logits), atol=0.018)
    assert frequencies[4] == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": -1.0}, "--temperature -1.0"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"top_k": -1}, "--top-k -1"),
        ({"top_p": 0.0}, "--top-p 0.0"),
        ({"top_p": 1.5}, "--top-p 1.5"),
        ({"min_p": 2.0}, "--min-p 2.0"),
    ],
)
def test_values_out_of_range_are_named(settings: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SamplingParams(**settings)


@pytest.mark.parametrize("cell", NAMES)
def test_the_likeliest_text_is_the_naive_loops(cell: str) -> None:
    """Temperature 0 against torch reading the whole text anew for every character."""
    model, twin = pair(cell)
    with torch.no_grad():
        model.head.bias[END_ID] = -100.0
        twin = NumpyNetwork(model.to_model_file("", {}))
        text = [3, 4, 5]
        for _ in range(25):
            logits = model(torch.tensor([text]))[0][0, -1]
            logits[UNKNOWN_ID] = -torch.inf
            text.append(int(logits.argmax()))
    assert list(generate(twin, [3, 4, 5], 25, SamplingParams(0.0), np.random.default_rng())) == text[3:]


def writer_for(notes: dict, symbols: str = "abcdefg") -> TextGenerator:
    model, _ = pair()
    return TextGenerator(model.to_model_file(Tokenizer(symbols).to_json(), notes))


def test_a_seed_is_a_text_and_the_end_stops_it() -> None:
    writer = writer_for({"start_id": END_ID})

    def text(seed: int, **settings) -> str:
        return "".join(writer.write("ab", 300, SamplingParams(1.0), seed, **settings))

    assert text(1, through=True) == text(1, through=True)
    assert text(1, through=True) != text(2, through=True)
    through, stopped = text(1, through=True), text(1)
    assert len(through) == 300  # an end is written as a line's
    assert "\n" in through
    assert stopped == through[: through.index("\n")]
    assert "\ufffd" not in through


def test_a_model_that_met_no_end_writes_none() -> None:
    """And what it writes instead is the same as if the end had no probability."""
    writer = writer_for({"start_id": 2})
    assert len("".join(writer.write(length=300, seed=1))) == 300
    ids = list(generate(pair()[1], [2], 300, SamplingParams(), np.random.default_rng(1), [UNKNOWN_ID, END_ID]))
    assert writer.tokenizer.decode(ids) == "".join(writer.write(length=300, seed=1))


def test_a_prompt_is_read_as_the_corpus_was() -> None:
    learned = {"normalize_newlines": True, "normalize_unicode": True, "min_count": 2}
    writer = writer_for({"start_id": 2, "config": {"corpus": learned}}, "abcd\n\u00e9 ")
    assert writer.read("a\r\ne\u0301x") == (writer.tokenizer.encode("a\n\u00e9x").tolist(), ["x"])
    assert UNKNOWN_ID in writer.read("axb")[0]  # it has met the unknown
    assert writer_for({"start_id": 2}).read("axb") == ([2, 3], ["x"])  # it has not


def test_a_writer_of_bytes_writes_characters() -> None:
    """However the bytes fall: nothing but whole characters and U+FFFD comes out."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(map(chr, range(256)), "byte")
    model = CharRNN(ModelConfig(tokenizer.vocab_size, "gru", 8, 1, 4))
    portable = model.to_model_file(tokenizer.to_json(), {"start_id": 2})
    writer = TextGenerator(portable)
    ids = list(
        generate(NumpyNetwork(portable), [2], 400, SamplingParams(1.5), np.random.default_rng(3), [UNKNOWN_ID, END_ID])
    )
    expected = bytes(id - 2 for id in ids).decode("utf-8", "replace")
    pieces = list(writer.write(length=400, choice=SamplingParams(1.5), seed=3))
    assert "".join(pieces) == expected
    assert all(pieces)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit its tokenizer"):
        writer_for({"start_id": 2}, "abc")


def test_nothing_to_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one id"):
        next(generate(pair()[1], [], 5, SamplingParams(), np.random.default_rng()))


def test_weights_that_do_not_fit_are_refused() -> None:
    model, _ = pair()
    portable = model.to_model_file("", {})
    del portable.weights["recurrence.weight_hh_l1"]
    with pytest.raises(ValueError, match="do not fit"):
        NumpyNetwork(portable)
