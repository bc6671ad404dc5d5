"""Character n-grams with interpolated modified Kneser-Ney smoothing.

An n-gram model of order n predicts a character c from its context h, the n-1 characters before it. Let h' be h without
its oldest character. Then

    p(c | h) = (a(hc) - D(a(hc))) / A(h)  +  S(h) / A(h) * p(c | h')

    A(h) = sum over characters x of a(hx)
    S(h) = sum over characters x of D(a(hx))

where a(hc) is the number of occurrences of hc in the training text if hc has the full order n, and the number of
different characters that occur before hc if it is shorter. D takes a discount off each a, and S gives the sum of the
discounts to the shorter context. For a context that never occurs, p(c | h) = p(c | h'). Below order 1, p(c) = 1 / V.

With n_i the number of n-grams of the order that have a = i, and Y = n_1 / (n_1 + 2 n_2), the discounts are

    D(0) = 0    D(1) = 1 - 2 Y n_2 / n_1    D(2) = 2 - 3 Y n_3 / n_2    D(a >= 3) = 3 - 4 Y n_4 / n_3

Sources: Kneser & Ney 1995; Chen & Goodman 1999 for the three discounts and the interpolation.
Dimensions: N characters of the training text, M characters to predict, V vocabulary, K orders.
"""

from __future__ import annotations

import numpy as np

MAX_ORDER = 12
"""The highest order that `best_order` tries."""


class NGramCounts:
    """The different n-grams of a text, and their counts.

    The n-grams of one order are numbered from 0. The n-gram of order n with number i is described by its key,

        keys[n - 1][i] = number of its first n-1 characters among the n-grams of order n-1  *  V  +  its last character

    so that a text of N characters needs at most N keys per order. For order 1, the number of the empty context is 0.

    Args:
        ids: (N,) the text, integers from 0 to V-1, at least max_order of them.
        vocab_size: V.
        max_order: K.

    Attributes:
        keys: one array for each order, ascending.
        counts: one array for each order: the number of occurrences of each n-gram.
        continuation_counts: one array for each order: the number of different characters that occur before each n-gram.
            For order K, which has none, the number of occurrences.
    """

    def __init__(self, ids: np.ndarray, vocab_size: int, max_order: int) -> None:
        self.vocab_size = vocab_size
        self.keys: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []
        self.continuation_counts: list[np.ndarray] = []
        ids = ids.astype(np.int64)
        context = np.zeros(len(ids), np.int64)  # by position: the number of the n-gram that ends just before it
        ending = context  # by position: the number of the n-gram that ends with it
        for order in range(1, max_order + 1):
            positions = np.arange(order - 1, len(ids))  # where an n-gram of this order can end
            keys, first, number, counts = np.unique(
                context[positions] * vocab_size + ids[positions],
                return_index=True, return_inverse=True, return_counts=True,
            )  # fmt: skip
            if order > 1:  # each different n-gram adds one character before the n-gram without its oldest character
                suffix = ending[positions[first]]
                self.continuation_counts.append(np.bincount(suffix, minlength=len(self.keys[-1])))
            self.keys.append(keys)
            self.counts.append(counts)
            ending = np.zeros(len(ids), np.int64)
            ending[positions] = number
            context[1:] = ending[:-1]
        self.continuation_counts.append(counts)

    def find(self, order: int, contexts: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return the numbers of n-grams of one order, -1 for those that do not occur in the text.

        Args:
            order: n, from 1 to K.
            contexts: the numbers of their first n-1 characters among the n-grams of order n-1.
            last: the ids of their last characters.
        """
        keys = self.keys[order - 1]
        wanted = contexts * self.vocab_size + last
        index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[index] == wanted, index, -1)

    def contexts(self, order: int) -> np.ndarray:
        """Return, for each n-gram of one order, the number of its first n-1 characters."""
        return self.keys[order - 1] // self.vocab_size


def kneser_ney_probabilities(
    training: np.ndarray, scored: np.ndarray, vocab_size: int, max_order: int
) -> list[np.ndarray]:
    """Predict every character of a text from those before it, with n-grams of every order up to `max_order`.

    Args:
        training: (N,) ids of the text to count, at least one.
        scored: (M+1,) ids of the text to predict. The first character is context only.
        vocab_size: V; all ids are below it.
        max_order: K, at least 1. At most N orders are used.

    Returns:
        One array (M,) for each order, the lowest first: the probabilities of the characters `scored[1:]`.
    """
    max_order = min(max_order, len(training))
    grams = NGramCounts(training, vocab_size, max_order)
    shorter = np.full(len(scored) - 1, 1 / vocab_size)
    context = np.zeros(len(scored) - 1, np.int64)  # the number of each character's context; -1 if it does not occur
    ending, results = np.zeros(len(scored), np.int64), []
    for order in range(1, max_order + 1):
        gram = np.where(context >= 0, grams.find(order, context, scored[1:]), -1)
        place = {"contexts": grams.contexts(order), "context": context, "gram": gram, "shorter": shorter}
        results.append(_interpolate(grams.counts[order - 1], **place))
        shorter = _interpolate(grams.continuation_counts[order - 1], **place)
        ending[1:] = gram
        # An n-gram that ends with the first character and is longer than it would begin before the text.
        ending[0] = grams.find(1, np.zeros(1, np.int64), scored[:1])[0] if order == 1 else -1
        context = ending[:-1].copy()
    return results


def best_order(training: np.ndarray, vocab_size: int) -> int:
    """Return the order, up to `MAX_ORDER`, that predicts the last tenth of a text best from counts of the first nine.

    Args:
        training: (N,) ids, at least one.
        vocab_size: V; all ids are below it.
    """
    cut = max(1, len(training) * 9 // 10)
    if len(training) - cut < 2:
        return 1
    probabilities = kneser_ney_probabilities(training[:cut], training[cut - 1 :], vocab_size, MAX_ORDER)
    return 1 + int(np.argmin([-np.log(p).mean() for p in probabilities]))


def _interpolate(
    a: np.ndarray, *, contexts: np.ndarray, context: np.ndarray, gram: np.ndarray, shorter: np.ndarray
) -> np.ndarray:
    """Evaluate the equation for one order.

    Args:
        a: the count of each n-gram of the order.
        contexts: the number of the context of each n-gram of the order.
        context: (M,) the number of the context of each character to predict, -1 if it does not occur.
        gram: (M,) the number of each context with its character, -1 if it does not occur.
        shorter: (M,) p(c | h').

    Returns:
        (M,) p(c | h).
    """
    discounts = _discounts(a)[np.minimum(a, 3)]
    num_contexts = int(contexts[-1]) + 1
    total = np.bincount(contexts, weights=a, minlength=num_contexts)  # A(h)
    discounted = np.bincount(contexts, weights=discounts, minlength=num_contexts)  # S(h)
    known = (context >= 0) & (context < num_contexts)
    known[known] = total[context[known]] > 0
    context = np.where(known, context, 0)
    seen = np.where(gram >= 0, (a - discounts)[gram], 0.0)
    p = (seen + discounted[context] * shorter) / np.maximum(total[context], 1)
    return np.where(known, p, shorter)


def _discounts(a: np.ndarray) -> np.ndarray:
    """Return D(0), D(1), D(2) and D(3 or more). They are 0.75 if the text is too short for the estimate."""
    n_1, n_2, n_3, n_4 = (int((a == n).sum()) for n in (1, 2, 3, 4))
    if n_1 and n_2 and n_3:
        Y = n_1 / (n_1 + 2 * n_2)
        d = [1 - 2 * Y * n_2 / n_1, 2 - 3 * Y * n_3 / n_2, 3 - 4 * Y * n_4 / n_3]
        if min(d) > 0:  # with D <= 0, an unseen character could get probability 0
            return np.array([0.0, *d])
    return np.array([0.0, 0.75, 0.75, 0.75])
