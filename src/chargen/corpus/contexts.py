"""Find contexts of a text: pieces that end where an article begins, and pieces that end anywhere.

A model that has read such a piece is in a state in which the text goes on: with a new article, or within one. The mean
over many pieces does not depend on the content of a single one.

Dimensions: N contexts, n ids of each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from chargen.corpus.encoded import Corpus
from chargen.corpus.tokenizer import END_ID

NUM_CONTEXTS = 32
CONTEXT_LENGTH = 128
"""Ids of a context. Contexts of 64 to 256 ids, and 8 to 128 of them, gave states of the same quality."""

_FEW = 8
"""With fewer blank lines, a text is not divided by them."""

_BLOCKS, _BLOCK_IDS = 64, 1 << 16
"""The parts of a long text in which beginnings are searched."""


class Contexts(NamedTuple):
    """What a model reads to get into the state in which it begins to write.

    Attributes:
        beginning: (N, n) ids that stand before the `start_id` of an article.
        within: (N, n) ids that end at random places of the text.
    """

    beginning: np.ndarray
    within: np.ndarray


def find_contexts(corpus: Corpus) -> Contexts:
    """Choose contexts from the training text, the same ones each time.

    An article begins behind an `END_ID`. A text of one article is divided by blank lines or, if it has few of them, by
    line ends. Fewer contexts are returned if the text has fewer beginnings.
    """
    ids, rng = corpus.train, np.random.default_rng(0)
    places = find_beginnings(ids, corpus)
    anywhere = rng.integers(len(ids), size=NUM_CONTEXTS)
    if len(places) > NUM_CONTEXTS:
        places = rng.choice(places, NUM_CONTEXTS, replace=False)
    return Contexts(_contexts(ids, places if len(places) else anywhere), _contexts(ids, anywhere))


def find_beginnings(ids: np.ndarray, corpus: Corpus) -> np.ndarray:
    """Find where articles begin; in a long text, in 64 parts of it.

    Args:
        ids: (N,) of the corpus or of a part of it.
        corpus: the corpus.

    Returns:
        (M,) the positions of the `start_id` in front of each article, in order.
    """
    start_id, found = corpus.start_id, []
    stride = max(_BLOCK_IDS, len(ids) // _BLOCKS)
    for begin in range(0, len(ids), stride):
        found.append(begin + np.flatnonzero(ids[begin : begin + _BLOCK_IDS] == start_id))
    places = np.concatenate(found)
    places = places[(places > 0) & (places < len(ids) - 1)]
    if start_id == END_ID:
        return places
    newline, carriage_return = (int(id) for id in corpus.tokenizer.encode("\n\r"))
    if start_id != newline:
        return places[:0]
    before, earlier = ids[places - 1], ids[places - 2]
    blank = places[(before == newline) | ((before == carriage_return) & (earlier == newline))]
    return blank if len(blank) >= _FEW else places


def _contexts(ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the ids before each end, (N, n). The text is read as a ring: before its beginning stands its end."""
    return np.asarray(ids[(ends[:, None] - np.arange(CONTEXT_LENGTH, 0, -1)) % len(ids)]).astype(np.int64)
