"""How much each character of a text surprises a model, and what it expected instead.

The surprise of a character is -ln p in nats, or -log2 p in bits; its mean over a text is the score of protocol B.

Dimensions: N characters, V vocabulary, K alternatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from chargen.insight.selection import apart
from chargen.nn.model import CharRNN, States, evaluating
from chargen.nn.threads import compute_threads

PIECE = 2048
"""Characters that are scored at once."""

ALTERNATIVES = 10
"""The most probable characters that are kept at each place."""


class CharacterScores(NamedTuple):
    """What a model says about each character of a text.

    Attributes:
        nats: (N,) -ln p of the character.
        entropy: (N,) the expected surprise, nats.
        ids: (N, K) the most probable characters in its place, the best first.
        probabilities: (N, K) theirs.
    """

    nats: np.ndarray
    entropy: np.ndarray
    ids: np.ndarray
    probabilities: np.ndarray


class Passage(NamedTuple):
    """A part of a text: where it begins and ends, and its mean surprise in nats per character."""

    begin: int
    end: int
    nats_per_char: float


@compute_threads()
@torch.no_grad()
def score_characters(
    model: CharRNN, ids: np.ndarray, advance: Callable[[int], None] = lambda _: None
) -> CharacterScores:
    """Score every character of a text with one carried state that begins at zero.

    Args:
        model: evaluated without dropout.
        ids: (N+1,). The first one is context, the N after it are scored.
        advance: receives the number of characters that were scored since the last call.
    """
    with evaluating(model):
        states: States | None = None
        rows: list[tuple[np.ndarray, ...]] = []
        for begin in range(0, len(ids) - 1, PIECE):
            piece = torch.from_numpy(ids[begin : begin + PIECE + 1].astype(np.int64))
            logits, states = model(piece[None, :-1], states)
            log_p = torch.log_softmax(logits[0].double(), dim=-1)  # (n, V)
            best = log_p.topk(min(ALTERNATIVES, log_p.shape[1]))
            nats = -log_p.gather(1, piece[1:, None])[:, 0]
            entropy = -(log_p.exp() * log_p).sum(1)
            rows.append(tuple(part.numpy() for part in (nats, entropy, best.indices, best.values.exp())))
            advance(len(piece) - 1)
    return CharacterScores(*(np.concatenate(column) for column in zip(*rows, strict=True)))


def surprising_passages(nats: np.ndarray, *, length: int = 40, number: int = 10) -> list[Passage]:
    """Return the passages of `length` characters with the largest mean surprise, which do not overlap; largest first.

    Args:
        nats: (N,) the surprise of each character.
        length: characters of a passage; a shorter text is one passage.
        number: how many to return at most.
    """
    length = min(length, len(nats))
    if length < 1:
        return []
    sums = np.concatenate(([0.0], np.cumsum(nats)))
    means = (sums[length:] - sums[:-length]) / length  # (N - length + 1,)
    begins = apart(np.argsort(-means, kind="stable"), length, number)
    return [Passage(begin, begin + length, float(means[begin])) for begin in begins]
