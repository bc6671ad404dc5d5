"""The claims of docs/rnn-explained.md as numbers, each beside a computation of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from chargen.config import ModelConfig
from chargen.evaluation.score import score_streaming, score_windowed
from chargen.insight.carry import carry_effect
from chargen.insight.lessons.clipping import clip_by_norm, compare_clipping
from chargen.insight.lessons.copying import DISTRACTORS, SYMBOLS, copy_task, examples
from chargen.insight.lessons.recurrence import RADII, matrix_recurrence, scalar_recurrence
from chargen.insight.lessons.unrolling import WARM_UP, gradient_of, lines_of, one_by_one
from chargen.nn.loss import IGNORE_INDEX
from chargen.nn.model import CharRNN, detached

# ------------------------------------------------------------------------------- (a) memory


def test_a_reset_carry_costs_most_at_the_beginning_of_a_window() -> None:
    """With one lane, the means are those of protocols B and A."""
    torch.manual_seed(0)
    model = CharRNN(ModelConfig(40, "gru", 16, 1, 8, dropout=0.0))
    torch.nn.init.normal_(model.head.weight)
    ids = lines_of(1, 2 * 256 + 1)[0].numpy()
    effect = carry_effect(model, np.asarray(ids), 256)
    assert effect.kept.shape == effect.reset.shape == (256,)
    lanes = carry_effect(model, np.asarray(ids), 512)
    assert lanes.kept.mean() == pytest.approx(score_streaming(model, ids).nats_per_char, rel=1e-5)
    assert np.array_equal(lanes.kept, lanes.reset)  # a single window: there is nothing to carry
    assert effect.reset.mean() == pytest.approx(score_windowed(model, ids).nats_per_char, rel=1e-5)


# ------------------------------------------------------------------------------- (b) unrolling


@pytest.fixture
def small() -> tuple[CharRNN, torch.Tensor, tuple]:
    """A vanilla network in float64, a text, and the state behind its beginning."""
    torch.manual_seed(0)
    model = CharRNN(ModelConfig(40, "rnn", 9, 1, 5, dropout=0.0)).double()
    ids = lines_of(3, WARM_UP + 9)
    return model, ids[:, WARM_UP:], detached(model(ids[:, :WARM_UP])[1])


def naive_gradient(model: CharRNN, window: torch.Tensor, states: tuple, *, cut: bool) -> torch.Tensor:
    """A loop over ticks with h_t = tanh(W x_t + U h_{t-1} + b), whose state is cut off at each tick if asked for."""
    ((h,),) = states
    weight_ih, weight_hh, bias_ih, bias_hh = model.recurrence.weights(0)
    loss = torch.zeros((), dtype=torch.float64)
    for tick in range(window.shape[1] - 1):
        h = h.detach() if cut else h
        x = model.embedding(window[:, tick])
        h = torch.tanh(x @ weight_ih.t() + bias_ih + h @ weight_hh.t() + bias_hh)
        loss = loss + torch.nn.functional.cross_entropy(model.head(h), window[:, tick + 1])
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def test_one_update_of_four_ticks_is_the_gradient_of_the_unrolled_network(small: tuple) -> None:
    model, ids, states = small
    found, _ = gradient_of(model, ids[:, :5], states)
    torch.testing.assert_close(found, naive_gradient(model, ids[:, :5], states, cut=False))


def test_four_updates_of_one_tick_send_nothing_back_through_time(small: tuple) -> None:
    """Their sum is the gradient of a loop whose state is cut off at each tick, and differs from the unrolled one."""
    model, ids, states = small
    summed = one_by_one(model, ids[:, :5], states, moving=False).double()
    torch.testing.assert_close(summed, naive_gradient(model, ids[:, :5], states, cut=True), rtol=1e-5, atol=1e-6)
    unrolled = naive_gradient(model, ids[:, :5], states, cut=False)
    assert (summed - unrolled).norm() > 0.05 * unrolled.norm()


def test_weights_that_move_between_ticks_give_other_gradients(small: tuple) -> None:
    model, ids, states = small
    before = [parameter.clone() for parameter in model.parameters()]
    still = one_by_one(model, ids[:, :5], states, moving=False)
    moved = one_by_one(model, ids[:, :5], states, moving=True)
    assert (moved - still).norm() > 0.01 * still.norm()
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    one_tick = one_by_one(model, ids[:, :2], states, moving=True)  # nothing moves before the first gradient
    torch.testing.assert_close(one_tick, one_by_one(model, ids[:, :2], states, moving=False))


# ------------------------------------------------------------------------------- (c) one weight over time


def test_linear_recurrences_have_the_gradient_of_the_closed_form() -> None:
    for gradients in (scalar_recurrence(), matrix_recurrence()):
        for radius in RADII:
            expected = radius ** np.arange(101)
            np.testing.assert_allclose(gradients.linear[radius], expected, rtol=1e-9)
            np.testing.assert_allclose(gradients.closed_form[radius], expected, rtol=1e-12)
        assert gradients.linear[1.1][-1] > 1e4
        assert gradients.linear[0.9][-1] < 1e-4


def test_tanh_makes_gradients_smaller_and_never_larger() -> None:
    for gradients in (scalar_recurrence(), matrix_recurrence()):
        for radius in RADII:
            assert (gradients.squashed[radius] <= gradients.linear[radius] * (1 + 1e-12)).all()
            assert gradients.squashed[radius][-1] < 0.2


# ------------------------------------------------------------------------------- (d) clipping


def test_clipping_by_norm_is_that_of_torch() -> None:
    """The second of the three steps; torch adds 1e-6 to the norm."""
    gradient = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for limit in (0.5, 100.0):
        weight = torch.nn.Parameter(torch.zeros(50, dtype=torch.float64))
        weight.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_([weight], limit)
        torch.testing.assert_close(clip_by_norm(gradient, limit), weight.grad, rtol=1e-5, atol=0)


def test_clipping_by_norm_keeps_the_direction_and_by_value_does_not() -> None:
    explodes, tame = compare_clipping((2.0, 1.0))
    assert explodes.norm > 100
    assert explodes.clipped_norm == pytest.approx(1.0)
    assert explodes.cosine == pytest.approx(1.0)
    assert explodes.value_norm == pytest.approx(1.0)  # as long, and in another direction
    assert explodes.value_cosine < 0.9
    assert tame.norm == tame.clipped_norm < 1  # nothing to clip


# ------------------------------------------------------------------------------- (e) rnn, gru and lstm


def test_examples_of_the_copy_task_ask_for_their_first_symbol() -> None:
    ids, targets = examples(20, 7, torch.Generator().manual_seed(0))
    assert ids.shape == targets.shape == (20, 8)
    assert torch.equal(targets[:, -1], ids[:, 0])
    assert (targets[:, :-1] == IGNORE_INDEX).all()
    assert (ids[:, 0] < SYMBOLS).all()
    assert (ids[:, 1:-1] >= SYMBOLS).all()
    assert (ids[:, -1] == SYMBOLS + DISTRACTORS).all()


@pytest.mark.starts
def test_gated_cells_learn_to_remember_where_the_vanilla_one_does_not() -> None:
    """Over 20 ticks the rnn guesses one of eight symbols; over 5 it has learned."""
    assert copy_task("rnn", 5).is_solved
    assert copy_task("rnn", 20).accuracy < 0.3
    assert copy_task("gru", 20).is_solved
    assert copy_task("lstm", 20).is_solved
