"""A text is cut where it should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from chargen.corpus.split import find_article_end
from chargen.corpus.tokenizer import END_ID


@pytest.mark.parametrize("block_ids", [1, 2, 5, 100])
def test_end_of_an_article_is_found_in_blocks(block_ids: int, tmp_path: Path) -> None:
    """It is the first one from a position on, or else the last one, as in an array of all ids."""
    random = np.random.default_rng(3)
    for case in range(40):
        content = np.where(random.random(23) < case / 100, END_ID, 7).astype(np.uint16)
        content.tofile(tmp_path / "ids.bin")
        ids = np.memmap(tmp_path / "ids.bin", dtype=np.uint16, mode="r")
        boundaries = [index + 1 for index, id in enumerate(content) if id == END_ID]
        for position in range(24):
            last = boundaries[-1] if boundaries else None
            expected = next((boundary for boundary in boundaries if boundary >= position), last)
            assert find_article_end(ids, position, block_ids=block_ids) == expected
