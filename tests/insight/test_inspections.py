"""What is computed about a trained model, each against a plain computation on a small random model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.environment import CELLS
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.evaluation.score import score_streaming
from chargen.insight.memory import SHUFFLED, memory_curve
from chargen.insight.neurons import UnitName, activations, match_units
from chargen.insight.selection import apart
from chargen.insight.similar import LANES, influences, similar_places
from chargen.insight.surprise import score_characters, surprising_passages
from chargen.insight.text_features import ARTICLE_END, text_features
from chargen.insight.truncation import truncation_bias
from chargen.nn.model import CharRNN, evaluating

V, H = 9, 6


def model_of(cell: str = "gru") -> CharRNN:
    torch.manual_seed(0)
    model = CharRNN(ModelConfig(V, cell, H, 2, 4, dropout=0.5, recurrent_gain=1.5))
    torch.nn.init.normal_(model.head.weight)
    return model


def ids_of(number: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, V, number)


def test_places_apart_are_the_first_of_their_order() -> None:
    assert apart([5, 6, 9, 1, 20], 4, 3) == [5, 9, 1]
    assert apart([5, 6, 9, 1, 20], 4, 0) == []


def test_the_training_mode_comes_back_also_after_an_error() -> None:
    model = model_of()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert not model.training
        raise ZeroDivisionError
    assert model.training


def test_the_mean_surprise_is_the_score_of_protocol_b() -> None:
    model, ids = model_of(), ids_of(5000)
    scores = score_characters(model, ids)
    assert scores.nats.mean() == pytest.approx(score_streaming(model, ids).nats_per_char, rel=1e-5)
    with evaluating(model), torch.no_grad():
        p = torch.softmax(model(torch.from_numpy(ids[None, :-1]))[0][0].double(), -1).numpy()
    np.testing.assert_allclose(scores.probabilities, -np.sort(-p, axis=1), rtol=1e-4)  # V is below ten
    np.testing.assert_allclose(scores.entropy, -(p * np.log(p)).sum(1), rtol=1e-4)


def test_the_most_surprising_passage_is_the_one_with_the_largest_mean() -> None:
    nats = np.random.default_rng(0).random(60)
    first, second = surprising_passages(nats, length=7, number=2)
    assert first.nats_per_char == pytest.approx(max(nats[i : i + 7].mean() for i in range(54)))
    assert abs(first.begin - second.begin) >= 7


def test_loss_by_length_of_context() -> None:
    model, ids = model_of(), ids_of(SHUFFLED + 80)
    curve = memory_curve(model, ids, [1, 4, 16], positions=5)
    places = np.linspace(16 + SHUFFLED, len(ids) - 1, 5).astype(int)
    with evaluating(model), torch.no_grad():
        for n, nats in zip(curve.lengths, curve.zero, strict=True):
            losses = [
                F.cross_entropy(model(torch.from_numpy(ids[None, s - n : s]))[0][0, -1], torch.tensor(ids[s]))
                for s in places
            ]
            assert nats == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    assert curve.errors[-1] == 0


@pytest.mark.parametrize("cell", CELLS)
def test_bias_of_short_windows_by_its_definition(cell: str) -> None:
    """Two groups: |d|^2 is d_1 . d_2, with gradients from whole windows in plain PyTorch."""
    model = model_of(cell)
    groups = [ids_of(2 * 17).reshape(2, 17), ids_of(2 * 17).reshape(2, 17)]
    groups[1][:, 5] = 3  # much like the first group, so that their gradients have a positive product

    def gradient(ids: np.ndarray, T: int) -> torch.Tensor:
        states, total, tensor = None, torch.zeros(()), torch.from_numpy(ids)
        for begin in range(0, 16, T):
            logits, states = model(tensor[:, begin : begin + T], states)
            states = tuple(tuple(part.detach() for part in state) for state in states)
            targets = tensor[:, begin + 1 : begin + T + 1]
            total = total + F.cross_entropy(logits.transpose(1, 2), targets, reduction="sum")
        return torch.cat([g.flatten() for g in torch.autograd.grad(total / 32, list(model.parameters()))]).double()

    with evaluating(model):
        whole = [gradient(ids, 16) for ids in groups]
        differences = [gradient(ids, 4) - exact for ids, exact in zip(groups, whole, strict=True)]
    square, product = float(whole[0] @ whole[1]), float(differences[0] @ differences[1])
    measured = truncation_bias(model, groups, [4], 16).biases[4]
    assert square > 0
    assert product > 0
    assert measured == pytest.approx(math.sqrt(product / square), rel=1e-3)


def test_the_phrase_itself_is_its_nearest_place() -> None:
    model, phrase = model_of(), ids_of(12)
    text = np.random.default_rng(2).integers(0, V, LANES * 40)
    text[5 * 40 : 5 * 40 + 12] = phrase  # a lane begins here, from the zero state
    best = similar_places(model, text, phrase, number=3)[0]
    assert (best.position, best.similarity) == (5 * 40 + 11, pytest.approx(1.0, abs=1e-5))


def test_influence_is_the_size_of_a_small_change() -> None:
    model, ids = model_of().double(), ids_of(8)
    with evaluating(model), torch.no_grad():
        embedded = model.embedding(torch.from_numpy(ids))[:, None]

        def loss(change: torch.Tensor) -> float:
            outputs, _ = model.recurrence(embedded + change)
            return float(-torch.log_softmax(model.head(outputs[-1, 0]), -1)[best])

        best = int(model.head(model.recurrence(embedded)[0][-1, 0]).argmax())
        norms = []
        for place in range(8):
            slopes = []
            for element in range(4):
                change = torch.zeros_like(embedded)
                change[place, 0, element] = 1e-5
                slopes.append((loss(change) - loss(-change)) / 2e-5)
            norms.append(np.linalg.norm(slopes))
    np.testing.assert_allclose(influences(model, ids), np.array(norms) / max(norms), rtol=1e-4, atol=1e-8)


def test_a_unit_that_follows_a_feature_is_found_and_chance_is_not() -> None:
    generator = np.random.default_rng(0)
    feature = (np.arange(4000) % 37).astype(float)
    values = generator.normal(size=(4000, 20))
    values[:, 13] = -feature + generator.normal(size=4000)
    names = [UnitName("h", 0, number) for number in range(20)]
    best, noise = match_units(values, names, {"saw": feature, "noise": generator.normal(size=4000)})
    assert (best.feature, best.unit.number, best.is_found) == ("saw", 13, True)
    assert best.correlation == pytest.approx(np.corrcoef(values[2000:, 13], feature[2000:])[0, 1])
    assert abs(noise.correlation) < 0.1


def test_activations_are_the_states_after_each_character() -> None:
    model, ids = model_of("lstm"), ids_of(700)
    values, names = activations(model, ids)
    with evaluating(model), torch.no_grad():
        _, states = model(torch.from_numpy(ids[None]))
    assert len(names) == values.shape[1] == 4 * H
    flat = torch.cat([part[0] for state in states for part in state]).numpy()
    np.testing.assert_allclose(values[-1], flat, rtol=1e-3, atol=1e-4)


def test_features_of_a_text() -> None:
    features = text_features(f'  ab("c")\nd{ARTICLE_END}e')
    assert features["position in the line"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 0, 1]
    assert features["indentation"].tolist() == [1, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0]
    assert features["inside quotes"].tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert features["bracket depth"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert features["position in the word"].tolist() == [0, 0, 1, 2, 0, 0, 1, 0, 0, 0, 1, 0, 1]
    assert features["position in the article"][-2:] == pytest.approx(np.log([2, 3]))
