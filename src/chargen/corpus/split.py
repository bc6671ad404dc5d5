"""Where a corpus is cut into a part for training and a held-out part."""

from __future__ import annotations

import numpy as np

from chargen.config import CorpusConfig
from chargen.corpus.tokenizer import END_ID
from chargen.errors import ConfigError, TextError

BLOCK_IDS = 1 << 20
"""Ids that are read at a time."""


def num_train(ids: np.memmap, config: CorpusConfig) -> int:
    """Return how many ids are for training, from the first one on.

    Args:
        ids: (N,) ids, mapped from a file.
        config: `validation_fraction` and `split` say where to cut.

    Raises:
        ConfigError: the corpus has no articles to cut between.
        TextError: it is too short.
    """
    number = int(len(ids) * (1 - config.validation_fraction))
    if config.split == "article":
        end = find_article_end(ids, number)
        if end is None:
            raise ConfigError("corpus.split=article needs several articles, and this corpus is one: write contiguous")
        number = end
    if number < 2 or len(ids) - number < 1:
        raise TextError(
            f"the corpus has {len(ids)} characters, too few to train on and to hold some out: add more text"
        )
    return number


def find_article_end(ids: np.memmap, position: int, *, block_ids: int = BLOCK_IDS) -> int | None:
    """Find the boundary between two articles that is closest to `position` from above, or else the last one below it.

    The ids are read from their file in blocks, because what is read through the map stays in memory.

    Args:
        ids: (N,) ids, mapped from a file.
        position: an index from 0 to N.
        block_ids: how many ids are read at a time.

    Returns:
        The index that follows an `END_ID`; None if there is none.
    """
    first = max(position - 1, 0)  # an END_ID here is followed by `position`
    forward = range(first, len(ids), block_ids)
    backward = (max(stop - block_ids, 0) for stop in range(first, 0, -block_ids))
    for starts, which in ((forward, 0), (backward, -1)):
        for start in starts:
            block = np.fromfile(str(ids.filename), ids.dtype, block_ids, offset=start * ids.itemsize)
            ends = np.flatnonzero(block == END_ID)
            if len(ends):
                return start + int(ends[which]) + 1
    return None
