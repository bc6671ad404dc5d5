"""Nats per character of models without a network: letter frequencies, Kneser-Ney n-grams and compressors.

They show how much of a network's score is due to the network. Letter frequencies and n-grams are static: they are
counted on the training text and do not learn from the text that is scored, as in protocol B. Compressors adapt while
they read, as in protocol C: a text costs the bytes that it adds to the compressed training text.

Dimensions: N characters of the training text, M characters that are scored, V vocabulary.
"""

from __future__ import annotations

import bz2
import lzma
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from chargen.ngrams.kneser_ney import best_order, kneser_ney_probabilities

MAX_TRAINING_SIZE = 4_000_000
"""The number of characters at the end of the training text that are used, at most. They take about 1 GB of memory."""


class Baseline(NamedTuple):
    """The score of one baseline.

    Attributes:
        name: a description for the table.
        adaptive: whether the baseline learns from the text that is scored.
        nats_per_char: the mean of -ln p over the characters that are scored.
    """

    name: str
    adaptive: bool
    nats_per_char: float

    @property
    def label(self) -> str:
        """The name, and whether the baseline is adaptive or static."""
        return f"{self.name}, {'adaptive' if self.adaptive else 'static'}"


def score_baselines(
    training: np.ndarray,
    scored: np.ndarray,
    vocab_size: int,
    to_bytes: Callable[[np.ndarray], bytes],
    advance: Callable[[str], None] = lambda _: None,
) -> list[Baseline]:
    """Score a text with all baselines.

    Args:
        training: (N,) ids of the training text.
        scored: (M+1,) ids. The first character is context, the M after it are scored.
        vocab_size: V; all ids are below it.
        to_bytes: turns ids into the bytes of their text, for the compressors.
        advance: progress callback. It receives the name of each baseline that is done.

    Returns:
        Letter frequencies, Kneser-Ney, bzip2 and xz, in this order.
    """
    suffix = f", from the last {MAX_TRAINING_SIZE:,} characters" if len(training) > MAX_TRAINING_SIZE else ""
    training = training[-MAX_TRAINING_SIZE:]
    rows = []

    def add(name: str, adaptive: bool, nats_per_char: float) -> None:
        rows.append(Baseline(name + suffix, adaptive, nats_per_char))
        advance(name)

    add("letter frequencies", False, score_letter_frequencies(training, scored, vocab_size))
    order = best_order(training, vocab_size)
    p = kneser_ney_probabilities(training, scored, vocab_size, order)[-1]
    add(f"Kneser-Ney n-grams, order {order}", False, float(-np.log(p).mean()))
    for name, compress in (("bzip2 -9", _bzip2), ("xz -9e", _xz)):
        add(name, True, score_compressor(to_bytes(training), to_bytes(scored[1:]), len(scored) - 1, compress))
    return rows


def score_letter_frequencies(training: np.ndarray, scored: np.ndarray, vocab_size: int) -> float:
    """Return the nats per character of `scored[1:]` under letter frequencies, with one added to each count.

    Args:
        training: (N,) ids of the training text.
        scored: (M+1,) ids. The first character is context.
        vocab_size: V; all ids are below it.
    """
    counts = np.bincount(training, minlength=vocab_size) + 1
    return float(-np.log(counts / counts.sum())[scored[1:]].mean())


def score_compressor(training: bytes, scored: bytes, num_characters: int, compress: Callable[[bytes], bytes]) -> float:
    """Return the nats per character that a text adds to the compressed training text.

    Args:
        training: the bytes of the training text.
        scored: the bytes of the text to score.
        num_characters: the number of characters in `scored`.
        compress: returns the compressed form of its argument.
    """
    num_bytes = len(compress(training + scored)) - len(compress(training))
    return 8 * math.log(2) * num_bytes / num_characters


def _bzip2(text: bytes) -> bytes:
    return bz2.compress(text, 9)


def _xz(text: bytes) -> bytes:
    return lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
