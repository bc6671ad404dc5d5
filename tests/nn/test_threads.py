"""The kernels get torch's threads, and torch one; without kernels one thread computes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.model_configs import small_config
from support.threads import seconds_of_other_threads

from chargen import native
from chargen.evaluation.dynamic import SGD, gradient_mean_squares, score_dynamic
from chargen.evaluation.score import score_streaming, score_windowed
from chargen.nn.model import CharRNN
from chargen.nn.threads import compute_threads, num_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
def test_the_kernels_get_the_threads_of_torch() -> None:
    assert num_threads() == 3
    with compute_threads():
        for _ in range(2):
            assert (torch.get_num_threads(), native.num_threads(torch.get_num_threads()), num_threads()) == (1, 3, 3)
            with compute_threads():
                assert (torch.get_num_threads(), native.num_threads(torch.get_num_threads())) == (1, 3)
    assert (torch.get_num_threads(), native.num_threads(torch.get_num_threads())) == (3, 3)


def test_without_kernels_one_thread_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_kernels(monkeypatch)
    assert num_threads() == 1
    with pytest.raises(KeyError), compute_threads():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    "score",
    [
        score_streaming,
        score_windowed,
        lambda model, ids, advance: score_dynamic(model, ids, SGD, None, advance),
        lambda model, ids, advance: gradient_mean_squares(model, ids, 20, advance),
    ],
    ids=["streaming", "windowed", "dynamic", "gradients"],
)
def test_scores_are_computed_on_one_thread_of_torch(score) -> None:
    used: set[int] = set()
    score(CharRNN(small_config()), np.zeros(50, dtype=np.int64), lambda _: used.add(torch.get_num_threads()))
    assert used == {1}
    assert torch.get_num_threads() == 3


@pytest.mark.starts
def test_training_without_kernels_uses_one_thread() -> None:
    prepare = """
import torch
from chargen.config import ModelConfig
from chargen.nn.speed import measure_speed
"""
    assert seconds_of_other_threads(prepare, "measure_speed(ModelConfig(vocab_size=9, hidden_size=512), 16, 16)") < 0.1
