"""SamplingParams gives a distribution: temperature, top-k, top-p and min-p follow their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.sampling import extreme_params, sampling_params

from chargen.errors import ArgumentError
from chargen.sampling.params import SamplingParams

logit_vectors = arrays(np.float32, st.integers(2, 20), elements=st.floats(-30, 30, width=32))
LARGEST = float(np.finfo(np.float32).max)


@given(logit_vectors, sampling_params)
def test_probabilities_are_a_distribution_that_keeps_the_likeliest(logits: np.ndarray, params: SamplingParams) -> None:
    p = params.probabilities(logits)
    assert (p >= 0).all()
    assert p.sum() == pytest.approx(1)
    full = SamplingParams(params.temperature).probabilities(logits)
    assert full[p > 0].max() == full.max()


@given(arrays(np.float32, st.integers(2, 20), elements=st.integers(-2, 2).map(float)), sampling_params)
def test_of_equally_likely_ids_the_lower_ones_are_kept(logits: np.ndarray, params: SamplingParams) -> None:
    p = params.probabilities(logits)
    for value in set(logits.tolist()):
        equal = p[logits == value]
        assert (equal > 0).tolist() == sorted((equal > 0).tolist(), reverse=True)
        assert len(set(equal[equal > 0].tolist())) <= 1


@given(arrays(np.float32, 9, elements=st.sampled_from([-np.inf, -LARGEST, -1.0, 0.0, LARGEST])), sampling_params)
def test_extreme_logits_give_a_distribution(logits: np.ndarray, params: SamplingParams) -> None:
    """Banned characters have logit -inf."""
    logits[3] = 0.0
    p = params.probabilities(logits)
    assert p.sum() == pytest.approx(1)
    assert not p[np.isneginf(logits)].any()
    assert p[params.draw(logits, np.random.default_rng(0))] > 0


@given(logit_vectors, extreme_params)
def test_extreme_params_give_a_distribution(logits: np.ndarray, params: SamplingParams) -> None:
    p = params.probabilities(logits)
    assert p.sum() == pytest.approx(1)
    assert p[logits.argmax()] == p.max()


@given(logit_vectors, extreme_params)
def test_top_k_one_takes_the_likeliest_at_any_temperature(logits: np.ndarray, params: SamplingParams) -> None:
    params = SamplingParams(params.temperature, 1, params.top_p, params.min_p)
    assert params.draw(logits, np.random.default_rng(0)) == logits.argmax()


@given(logit_vectors, st.floats(0.05, 5))
def test_temperature_equals_torch_softmax(logits: np.ndarray, temperature: float) -> None:
    expected = torch.softmax(torch.tensor(logits, dtype=torch.double) / temperature, 0)
    p = SamplingParams(temperature).probabilities(logits)
    np.testing.assert_allclose(p, expected.numpy(), rtol=1e-9, atol=1e-12)


@given(logit_vectors, st.floats(0.01, 0.999))
def test_top_p_keeps_the_smallest_set_that_holds_it(logits: np.ndarray, top_p: float) -> None:
    full = SamplingParams(1.0).probabilities(logits)
    kept = SamplingParams(1.0, top_p=top_p).probabilities(logits) > 0
    assert full[kept].sum() >= top_p - 1e-9
    assert full[kept].sum() - full[kept].min() < top_p + 1e-9
    assert not kept.all() or full[kept].sum() == pytest.approx(1)
    assert full[kept].min() >= full[~kept].max(initial=0)


@given(logit_vectors, st.integers(1, 25))
def test_top_k_keeps_the_k_likeliest(logits: np.ndarray, top_k: int) -> None:
    full = SamplingParams(1.0).probabilities(logits)
    cut = SamplingParams(1.0, top_k=top_k).probabilities(logits)
    assert (cut > 0).sum() <= top_k
    assert np.sort(full)[-top_k:].sum() == pytest.approx(full[cut > 0].sum(), abs=1e-9)
    np.testing.assert_allclose(cut[cut > 0], full[cut > 0] / full[cut > 0].sum())


@given(logit_vectors, st.floats(0, 1))
def test_min_p_keeps_a_fraction_of_the_likeliest(logits: np.ndarray, min_p: float) -> None:
    full = SamplingParams(1.0).probabilities(logits)
    border = np.isclose(full, min_p * full.max(), rtol=1e-12, atol=0) & (logits < logits.max())
    assume(not border.any())  # rounding decides there
    wanted = np.where(full >= min_p * full.max(), full, 0)
    p = SamplingParams(1.0, min_p=min_p).probabilities(logits)
    np.testing.assert_allclose(p, wanted / wanted.sum(), atol=1e-12)


@given(logit_vectors)
def test_temperature_zero_takes_the_likeliest(logits: np.ndarray) -> None:
    assert SamplingParams(0.0).draw(logits, np.random.default_rng(0)) == logits.argmax()


def test_draws_follow_the_probabilities() -> None:
    """20,000 draws; five standard deviations of a frequency are at most 0.018."""
    logits = np.array([1.0, 0.0, -1.0, 2.0, -np.inf])
    params, rng = SamplingParams(1.0), np.random.default_rng(8)
    frequencies = np.bincount([params.draw(logits, rng) for _ in range(20_000)], minlength=5) / 20_000
    np.testing.assert_allclose(frequencies, params.probabilities(logits), atol=0.018)
    assert frequencies[4] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "warm"),
        ("temperature", True),
        ("temperature", 10**400),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_k", True),
        ("top_k", "3"),
        ("top_k", float("nan")),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("top_p", True),
        ("min_p", 2.0),
        ("min_p", None),
        ("min_p", [0.1]),
    ],
)
def test_a_value_out_of_range_is_an_argument_error(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=rf"^{name}=.*: must be ") as caught:
        SamplingParams(**{name: value})
    assert (caught.value.name, caught.value.value) == (name, value) or value != value


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p"])
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan"), np.float32("inf")])
def test_a_value_that_is_not_finite_is_told_to_be_so(name: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=rf"^{name}={value}: must be a finite number, "):
        SamplingParams(**{name: value})


def test_numbers_of_numpy_are_numbers() -> None:
    params = SamplingParams(np.float32(0.5), np.int64(3), np.float64(0.75), np.float16(0.25))
    assert params == SamplingParams(0.5, 3, 0.75, 0.25)
    assert [type(value) for value in vars(params).values()] == [float, int, float, float]
