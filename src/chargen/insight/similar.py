"""Find the places of a text that a model reads like a given phrase, and what its prediction behind a phrase depends on.

Two places are alike if the hidden states of the top layer behind them point in the same direction, as seen from the
mean state: their cosine is near 1 (Mikolov, Yih & Zweig 2013 compare words in this way; Strobelt et al. 2018 search
hidden states of an LSTM).

The influence of an earlier character is the norm of the gradient of the loss with respect to its embedding (Li et al.
2016, Visualizing and understanding neural models in NLP).

Dimensions: N characters, n characters of a phrase, B lanes, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from chargen.insight.selection import apart
from chargen.nn.model import CharRNN, States, evaluating
from chargen.nn.threads import compute_threads

LANES, PIECE = 16, 512
"""Lanes of the text that are read side by side, and characters of a lane that are read at once."""

MEAN_PIECES = 4
"""Pieces of the text over which the mean state is taken."""


class Place(NamedTuple):
    """A place of a text: the position of its last character, and the cosine of its state with that of the phrase."""

    position: int
    similarity: float


@compute_threads()
@torch.no_grad()
def similar_places(
    model: CharRNN,
    ids: np.ndarray,
    phrase: np.ndarray,
    *,
    number: int = 10,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Place]:
    """Return the places of a text whose hidden states are nearest to that behind a phrase, the nearest first.

    Args:
        model: evaluated without dropout.
        ids: (N,) the text to search.
        phrase: (n,) read from the zero state.
        number: how many places to return at most. They are at least n characters apart.
        advance: receives the number of characters that were read since the last call.
    """
    with evaluating(model):
        size = -(-len(ids) // LANES)
        padded = np.concatenate([ids, np.zeros(size * LANES - len(ids), ids.dtype)]).reshape(LANES, size)
        lanes = torch.from_numpy(padded.astype(np.int64))
        mean = torch.cat([outputs for _, outputs in _read(model, lanes[:, : MEAN_PIECES * PIECE])]).mean((0, 1))
        wanted = model.outputs(torch.from_numpy(phrase.astype(np.int64))[None])[0][-1, 0] - mean
        cosines = np.empty((LANES, size), np.float32)
        for begin, outputs in _read(model, lanes):
            cosine = torch.nn.functional.cosine_similarity(outputs - mean, wanted, dim=-1)  # (T, B)
            cosines[:, begin : begin + len(cosine)] = cosine.t().numpy()
            advance(cosine.numel())
    flat = cosines.reshape(-1)[: len(ids)]
    positions = apart(np.argsort(-flat, kind="stable"), len(phrase), number)
    return [Place(position, float(flat[position])) for position in positions]


def _read(model: CharRNN, lanes: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield where each piece of lanes (B, N) begins, and the outputs of the top layer along it, (T, B, H)."""
    states: States | None = None
    for begin in range(0, lanes.shape[1], PIECE):
        outputs, _, states = model.outputs(lanes[:, begin : begin + PIECE], states)
        yield begin, outputs


def influences(model: CharRNN, ids: np.ndarray) -> np.ndarray:
    """Return how much the most probable next character behind a text depends on each character of it.

    Args:
        model: evaluated without dropout.
        ids: (n,) read from the zero state.

    Returns:
        (n,) norms of the gradient of -ln p with respect to the embedding of each character; the largest is 1.
    """
    with evaluating(model):
        embedded = model.embedding(torch.from_numpy(ids.astype(np.int64))[:, None]).detach()  # (n, 1, E)
        embedded.requires_grad_()
        outputs, _ = model.recurrence(embedded)
        features = outputs[-1] if model.projection is None else model.projection(outputs[-1])
        loss = -torch.log_softmax(model.head(features), dim=-1).max()
        (gradient,) = torch.autograd.grad(loss, embedded)
    norms = torch.linalg.vector_norm(gradient[:, 0].double(), dim=-1).numpy()
    return np.asarray(norms / max(norms.max(), 1e-300))
