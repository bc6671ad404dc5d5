"""Kneser-Ney probabilities equal a naive evaluation of their definition, and sum to 1."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chargen.ngrams.kneser_ney import MAX_ORDER, NGramCounts, best_order, kneser_ney_probabilities

V = 4


class Naive:
    """The definition: n-grams as tuples, the characters before them as sets, one prediction at a time."""

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
        n1, n2, n3, n4 = (sum(count == n for count in a.values()) for n in (1, 2, 3, 4))
        d = [-1.0]
        if n1 and n2 and n3:
            y = n1 / (n1 + 2 * n2)
            d = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
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
        discounted = sum(d[min(other, 3)] for other in following.values())
        return (count - d[min(count, 3)] + discounted * shorter) / total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_equal_the_definition(order: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(V) / 3, size=V)
    text = [0]
    for _ in range(rng.integers(order, 300)):
        text.append(int(rng.choice(V, p=weights[text[-1]])))
    scored = rng.integers(V, size=40)
    found = kneser_ney_probabilities(np.array(text), scored, V, order)[-1]
    naive = Naive(text, order)
    expected = [naive.p(tuple(scored[max(0, i - order + 1) : i]), int(scored[i])) for i in range(1, len(scored))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


letters = st.integers(0, V - 1)


@given(st.lists(letters, min_size=1, max_size=60), st.lists(letters, min_size=1, max_size=6))
@example([3, 3, 3, 3, 0, 1, 0, 1, 2, 3, 2], [0])  # counts that would give a negative discount
def test_probabilities_are_positive_and_sum_to_one(text: list[int], context: list[int]) -> None:
    """Over every next character, after any context, whether it occurs in the text or not."""
    by_letter = [kneser_ney_probabilities(np.array(text), np.array([*context, c]), V, MAX_ORDER) for c in range(V)]
    for order in range(len(by_letter[0])):
        p = [ps[order][-1] for ps in by_letter]
        assert min(p) > 0
        assert sum(p) == pytest.approx(1, rel=1e-9)


@given(st.lists(letters, min_size=3, max_size=40))
def test_counts_equal_those_of_a_naive_loop(text: list[int]) -> None:
    """Every possible n-gram of orders 1 to 3: its occurrences, and the different characters before it."""
    counts = NGramCounts(np.array(text), V, 3)
    numbers: dict[tuple[int, ...], int] = {(): 0}
    for order in (1, 2, 3):
        occurrences = Counter(tuple(text[i : i + order]) for i in range(len(text) - order + 1))
        before = {gram: {text[i - 1] for i in range(1, len(text)) if tuple(text[i : i + order]) == gram}
                  for gram in occurrences}  # fmt: skip
        contexts = [gram for gram in numbers if len(gram) == order - 1]
        for context in contexts:
            for c in range(V):
                gram = (*context, c)
                (number,) = counts.find(order, np.array([numbers[context]]), np.array([c]))
                assert (number >= 0) == (gram in occurrences)
                if number >= 0:
                    numbers[gram] = int(number)
                    assert counts.contexts(order)[number] == numbers[context]
                    assert counts.counts[order - 1][number] == occurrences[gram]
                    expected = occurrences[gram] if order == 3 else len(before[gram])
                    assert counts.continuation_counts[order - 1][number] == expected
        assert len(counts.keys[order - 1]) == len(occurrences)


def test_best_order_is_that_of_the_source() -> None:
    """Each character of the text depends on the two before it, which needs order 3."""
    rng = np.random.default_rng(0)
    likely = rng.integers(V, size=(V, V))
    text = [0, 1]
    for _ in range(5000):
        text.append(int(likely[text[-2], text[-1]]) if rng.random() < 0.8 else int(rng.integers(V)))
    assert best_order(np.array(text), V) == 3
