"""What a text costs models that need no network: letter frequencies, Kneser-Ney n-grams, compressors.

They say what a network is worth. Frequencies and n-grams are static: counted on the training text, they
read the held-out one without learning from it, as protocol B does. Compressors adapt while they read, as
protocol C does: a text costs what it adds to the compressed training text.

Interpolated modified Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999). With h' the context h without its
oldest character, and a(hc) how often c followed h (in the longest order) or how many characters stood before hc
(in the shorter ones):

    p(c | h) = (a(hc) - D(a(hc)) + sum_x D(a(hx)) p(c | h')) / sum_x a(hx),    p(c | nothing known) = 1 / V

D(0) = 0, and D(1), D(2), D(3 and more) follow from how many a are 1, 2, 3 and 4.

Dimensions: N characters, V vocabulary, K orders.
"""

from __future__ import annotations

import bz2
import lzma
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

MAX_ORDER = 12
"""The longest n-grams that are tried."""

MAX_TRAINING = 4_000_000
"""Of a longer training text, only so many characters at its end are counted, or compressed: a gigabyte of memory."""


class Baseline(NamedTuple):
    """One row of the table.

    Attributes:
        name: for a person.
        adaptive: whether it learns from the text that is scored.
        nats_per_char: mean over its characters.
    """

    name: str
    adaptive: bool
    nats_per_char: float


def baselines(
    training: np.ndarray,
    scored: np.ndarray,
    vocab_size: int,
    to_bytes: Callable[[np.ndarray], bytes],
    advance: Callable[[str], None] = lambda _: None,
) -> list[Baseline]:
    """All of them.

    Args:
        training: (N,) ids.
        scored: (M+1,) ids: the first is context, the M behind it are scored.
        vocab_size: V; ids are below it.
        to_bytes: the text of some ids, as its file has it.
        advance: told what is done, for a progress bar; as often as there are rows.

    Returns:
        Rows from the simplest on.
    """
    of = f", from the last {MAX_TRAINING:,} characters" if len(training) > MAX_TRAINING else ""
    training = training[-MAX_TRAINING:]
    rows = []

    def add(name: str, adaptive: bool, nats_per_char: float) -> None:
        rows.append(Baseline(name + of, adaptive, nats_per_char))
        advance(name)

    add("letter frequencies", False, unigram(training, scored, vocab_size))
    order = best_order(training, vocab_size)
    score = kneser_ney(training, scored, vocab_size, order)[-1]
    add(f"Kneser-Ney n-grams, order {order}", False, float(-np.log(score).mean()))
    for name, compress in (("bzip2 -9", _bzip2), ("xz -9e", _xz)):
        add(name, True, compressed(to_bytes(training), to_bytes(scored[1:]), len(scored) - 1, compress))
    return rows


def unigram(training: np.ndarray, scored: np.ndarray, vocab_size: int) -> float:
    """Nats per character of letter frequencies, one added to each count."""
    counts = np.bincount(training, minlength=vocab_size) + 1
    return float(-np.log(counts / counts.sum())[scored[1:]].mean())


def best_order(training: np.ndarray, vocab_size: int) -> int:
    """The order that reads the last tenth of the training text best, knowing the nine before it."""
    cut = max(1, len(training) * 9 // 10)
    if len(training) - cut < 2:
        return 1
    scores = kneser_ney(training[:cut], training[cut - 1 :], vocab_size, MAX_ORDER)
    return 1 + int(np.argmin([-np.log(p).mean() for p in scores]))


def kneser_ney(training: np.ndarray, scored: np.ndarray, vocab_size: int, max_order: int) -> list[np.ndarray]:
    """Probabilities under n-grams of every order up to `max_order`.

    Args:
        training: (N,) ids, at least one.
        scored: (M+1,) ids; the first is context.
        vocab_size: V.
        max_order: K, at least 1.

    Returns:
        K arrays (M,), or N if that is less: of each character behind the first, given those before it in `scored`.
    """
    max_order = min(max_order, len(training))
    counts = _Grams(training, vocab_size, max_order)
    p = np.full(len(scored) - 1, 1 / vocab_size)
    context = np.zeros(len(scored) - 1, np.int64)  # number of the k-1 characters before; -1 where they are unknown
    whole, results = np.zeros(len(scored), np.int64), []
    for k in range(max_order):
        gram = np.where(context >= 0, counts.find(k, context, scored[1:]), -1)
        results.append(_interpolated(counts, k, counts.often[k], context, gram, p))
        p = _interpolated(counts, k, counts.contexts[k], context, gram, p)
        whole[1:] = gram
        # The scored text's first character is context alone, and what would reach beyond it is not known.
        whole[0] = counts.find(0, np.zeros(1, np.int64), scored[:1])[0] if k == 0 else -1
        context = whole[:-1].copy()
    return results


class _Grams:
    """The n-grams of a text, numbered: those of order k+1 by the number of their first k characters and the last.

    Attributes, one for each order:
        keys: ascending, context * V + last character.
        often: how often each n-gram stands in the text.
        contexts: how many different characters stand before it.
    """

    def __init__(self, ids: np.ndarray, vocab_size: int, max_order: int) -> None:
        self.vocab_size = vocab_size
        self.keys: list[np.ndarray] = []
        self.often: list[np.ndarray] = []
        self.contexts: list[np.ndarray] = []
        ids = ids.astype(np.int64)
        before = np.zeros(len(ids), np.int64)  # by place: the number of the k-gram that ends before it
        ending = before  # by place: the number of the k-gram that ends with it
        for k in range(max_order):
            places = np.arange(k, len(ids))  # of last characters
            keys, first, number, often = np.unique(
                before[places] * vocab_size + ids[places], return_index=True, return_inverse=True, return_counts=True
            )
            if k:  # each different k+1-gram is one more context of the k-gram that it ends with
                inner = ending[places[first]]
                self.contexts.append(np.bincount(inner, minlength=len(self.keys[-1])))
            self.keys.append(keys)
            self.often.append(often)
            ending = np.zeros(len(ids), np.int64)
            ending[places] = number
            before[1:] = ending[:-1]
        self.contexts.append(often)  # nothing is known of what stands before the longest

    def find(self, k: int, context: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Numbers of the n-grams of order k+1, -1 for those that the text does not have."""
        wanted = context * self.vocab_size + last
        at = np.minimum(np.searchsorted(self.keys[k], wanted), len(self.keys[k]) - 1)
        return np.where(self.keys[k][at] == wanted, at, -1)


def _interpolated(
    grams: _Grams, k: int, counts: np.ndarray, context: np.ndarray, gram: np.ndarray, shorter: np.ndarray
) -> np.ndarray:
    """The equation above for order k+1, where `shorter` is p(c | h')."""
    discounts = _discounts(counts)
    off = discounts[np.minimum(counts, 3)]
    of = grams.keys[k] // grams.vocab_size  # each n-gram's context
    num_contexts = int(of[-1]) + 1
    total = np.bincount(of, weights=counts, minlength=num_contexts)
    spared = np.bincount(of, weights=off, minlength=num_contexts)
    known = (context >= 0) & (context < num_contexts)
    known[known] = total[context[known]] > 0
    here = np.where(known, context, 0)
    seen = np.where(gram >= 0, (counts - off)[gram], 0.0)
    return np.where(known, (seen + spared[here] * shorter) / np.maximum(total[here], 1), shorter)


def _discounts(counts: np.ndarray) -> np.ndarray:
    """D(0), D(1), D(2), D(3 and more); three quarters where a text is too short to give them a sense."""
    one, two, three, four = (int((counts == n).sum()) for n in (1, 2, 3, 4))
    if one and two and three:
        y = one / (one + 2 * two)
        d = [1 - 2 * y * two / one, 2 - 3 * y * three / two, 3 - 4 * y * four / three]
        if min(d) > 0:  # or else a character that was never seen might have no probability at all
            return np.array([0.0, *d])
    return np.array([0.0, 0.75, 0.75, 0.75])


def compressed(training: bytes, scored: bytes, characters: int, compress: Callable[[bytes], bytes]) -> float:
    """Nats per character that a text adds to the compressed training text."""
    more = len(compress(training + scored)) - len(compress(training))
    return 8 * math.log(2) * more / characters


def _bzip2(text: bytes) -> bytes:
    return bz2.compress(text, 9)


def _xz(text: bytes) -> bytes:
    return lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
