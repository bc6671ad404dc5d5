"""Kneser-Ney equals its definition, counted with dictionaries; the other baselines have closed forms."""

from __future__ import annotations

import bz2
import lzma
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chargen.evaluation.baselines import MAX_ORDER, baselines, best_order, compressed, kneser_ney, unigram

V = 4


class Naive:
    """The definition: n-grams as tuples, contexts as sets, one character at a time."""

    def __init__(self, text: list[int], order: int) -> None:
        def grams(n: int) -> list[tuple[int, ...]]:
            return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]

        self.order = order
        self.a: list[Counter[tuple[int, ...]]] = []
        for n in range(1, order):
            before: dict[tuple[int, ...], set[int]] = {}
            for gram in grams(n + 1):
                before.setdefault(gram[1:], set()).add(gram[0])
            self.a.append(Counter({gram: len(letters) for gram, letters in before.items()}))
        self.a.append(Counter(grams(order)))
        self.d = [self.discounts(a) for a in self.a]

    @staticmethod
    def discounts(a: Counter[tuple[int, ...]]) -> list[float]:
        one, two, three, four = (sum(count == n for count in a.values()) for n in (1, 2, 3, 4))
        d = [-1.0]
        if one and two and three:
            y = one / (one + 2 * two)
            d = [1 - 2 * y * two / one, 2 - 3 * y * three / two, 3 - 4 * y * four / three]
        return [0.0, *d] if all(x > 0 for x in d) else [0.0, 0.75, 0.75, 0.75]

    def p(self, context: tuple[int, ...], c: int) -> float:
        if not context:
            return self.of_order(0, (), c, 1 / V)
        return self.of_order(len(context), context, c, self.p(context[1:], c))

    def of_order(self, n: int, context: tuple[int, ...], c: int, shorter: float) -> float:
        a, d = self.a[n], self.d[n]
        following = {gram: count for gram, count in a.items() if gram[:-1] == context and count}
        total = sum(following.values())
        if not total:
            return shorter
        count = following.get((*context, c), 0)
        spared = sum(d[min(other, 3)] for other in following.values())
        return (count - d[min(count, 3)] + spared * shorter) / total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_kneser_ney_equals_its_definition(order: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(V) / 3, size=V)
    text = [0]
    for _ in range(rng.integers(order, 300)):
        text.append(int(rng.choice(V, p=weights[text[-1]])))
    scored = rng.integers(V, size=40)
    found = kneser_ney(np.array(text), scored, V, order)[-1]
    naive = Naive(text, order)
    expected = [naive.p(tuple(scored[max(0, i - order + 1) : i]), int(scored[i])) for i in range(1, len(scored))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


letters = st.integers(0, V - 1)


@given(st.lists(letters, min_size=1, max_size=60), st.lists(letters, min_size=1, max_size=6))
@example([3, 3, 3, 3, 0, 1, 0, 1, 2, 3, 2], [0])  # counts that would give a negative discount
def test_kneser_ney_is_a_distribution(text: list[int], context: list[int]) -> None:
    """Over every next character, after any context, seen or not."""
    by_letter = [kneser_ney(np.array(text), np.array([*context, c]), V, MAX_ORDER) for c in range(V)]
    for order in range(len(by_letter[0])):
        p = [ps[order][-1] for ps in by_letter]
        assert min(p) > 0
        assert sum(p) == pytest.approx(1, rel=1e-9)


def test_the_best_order_is_that_of_the_source() -> None:
    """A character that depends on the two before it calls for n-grams of three."""
    rng = np.random.default_rng(0)
    likely = rng.integers(V, size=(V, V))
    text = [0, 1]
    for _ in range(5000):
        text.append(int(likely[text[-2], text[-1]]) if rng.random() < 0.8 else int(rng.integers(V)))
    assert best_order(np.array(text), V) == 3


def test_letter_frequencies() -> None:
    training, scored = np.array([0, 0, 0, 1]), np.array([3, 0, 2])
    assert unigram(training, scored, V) == pytest.approx(-(math.log(4 / 8) + math.log(1 / 8)) / 2, rel=1e-12)


def test_compressors_are_charged_for_what_they_add() -> None:
    assert compressed(b"x" * 100, b"y" * 50, 25, lambda text: text) == pytest.approx(2 * 8 * math.log(2))


def test_all_of_them() -> None:
    """On a text that repeats itself, whatever remembers beats whatever does not; rows say whether they adapt."""
    text = b"the quick brown fox jumps over the lazy dog. " * 400
    ids = np.frombuffer(text, np.uint8)
    told: list[str] = []
    rows = baselines(ids[:15000], ids[14999:], 128, np.ndarray.tobytes, told.append)
    assert [row.adaptive for row in rows] == [False, False, True, True]
    assert told == [row.name for row in rows]
    frequencies, n_grams, *compressors = [row.nats_per_char for row in rows]
    assert n_grams < 0.1 < 2 < frequencies
    added = [len(f(text[:18000])) - len(f(text[:15000])) for f in (lambda t: bz2.compress(t, 9), lzma.compress)]
    assert compressors[0] == pytest.approx(added[0] * 8 * math.log(2) / 3000)
    assert 0 <= compressors[1] < 0.1
