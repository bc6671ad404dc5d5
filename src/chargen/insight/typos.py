"""Find places of a text where a small change makes the text much more probable: what a typing error looks like.

At the most surprising characters, four edits are tried: another character, one character less, one more, and two
characters swapped (Damerau 1964). Each variant is scored together with the characters behind it, because what follows
shows whether an edit was right. The gain is the difference in nats, less ln V where the edit removes a character: a
writer who hits a wrong key hits one of V, which is the noisy channel of Kernighan, Church & Gale 1990 in its simplest
form. Without it, leaving characters out would always seem right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from chargen.insight.selection import apart
from chargen.insight.surprise import CharacterScores
from chargen.nn.loss import IGNORE_INDEX
from chargen.nn.model import CharRNN, evaluating

CONTEXT, BEHIND = 100, 12
"""Characters before a place that are read, and characters behind it that are scored."""

MIN_NATS = 4.0
"""The least surprise of a character that is looked at."""

MIN_GAIN = 3.5
"""The least gain of an edit that is reported, nats: the text becomes 33 times as probable, as the channel counts."""

TRIED = 3
"""Other characters that are tried at a place."""

EARLIER = 1
"""How many characters before a surprising one are looked at, too."""

ROWS = 64
"""Variants that are scored side by side."""


class Typo(NamedTuple):
    """A place that looks like a typing error.

    Attributes:
        position: of the first character that changes.
        removed: ids that are replaced.
        added: ids in their place.
        gain: how much smaller the surprise of the text becomes, nats, less ln V for a character that goes.
    """

    position: int
    removed: tuple[int, ...]
    added: tuple[int, ...]
    gain: float


def find_typos(model: CharRNN, ids: np.ndarray, scores: CharacterScores, *, number: int = 20) -> list[Typo]:
    """Return the edits with the largest gains, at most one within `BEHIND` characters.

    Args:
        model: evaluated without dropout.
        ids: (N+1,) the text behind one character of context.
        scores: of the N characters.
        number: how many to return at most; five times as many places are looked at.
    """
    places = np.argsort(-scores.nats, kind="stable")[: 5 * number]
    edits = [
        (place + 1, removed, added)
        for surprising in map(int, places)
        if scores.nats[surprising] >= MIN_NATS
        for place in range(max(0, surprising - EARLIER), surprising + 1)  # what is wrong may stand earlier
        for removed, added in _edits_at(ids, place + 1, scores.ids[place][:TRIED])
    ]
    if not edits:
        return []
    nats, channel = _scores(model, ids, edits), math.log(model.config.num_symbols)
    found = [
        Typo(place - 1, removed, added, float(before - after) - channel * (len(removed) == 1))
        for (place, removed, added), (before, after) in zip(edits, nats, strict=True)
    ]
    best: dict[int, Typo] = {}  # of each position, in descending order of gain
    for typo in sorted(found, key=lambda typo: -typo.gain):
        if typo.gain >= MIN_GAIN:
            best.setdefault(typo.position, typo)
    return [best[position] for position in apart(best, BEHIND + 1, number)]


def _edits_at(ids: np.ndarray, place: int, likely: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the ids that an edit removes at a place, and those that it adds."""
    here = int(ids[place])
    edits: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((here,), ())]
    for other in map(int, likely):
        if other != here:
            edits += [((here,), (other,)), ((), (other,))]
    if place + 1 < len(ids) and ids[place + 1] != here:
        edits.append(((here, int(ids[place + 1])), (int(ids[place + 1]), here)))
    return edits


@torch.no_grad()
def _scores(
    model: CharRNN, ids: np.ndarray, edits: Sequence[tuple[int, tuple[int, ...], tuple[int, ...]]]
) -> list[tuple[float, float]]:
    """Return the surprise of the text around each place, without and with its edit, nats."""
    rows, begins = [], []
    for place, removed, added in edits:
        before = ids[max(0, place - CONTEXT) : place].tolist()
        behind = ids[place + len(removed) : place + len(removed) + BEHIND].tolist()
        for middle in (removed, added):
            rows.append([*before, *middle, *behind])
            begins.append(len(before))
    width = max(map(len, rows))
    nats = np.zeros(len(rows))
    with evaluating(model):
        for first in range(0, len(rows), ROWS):
            part = slice(first, first + ROWS)
            inputs = torch.zeros(len(rows[part]), width, dtype=torch.int64)
            targets = torch.full_like(inputs, IGNORE_INDEX)
            for number, (row, begin) in enumerate(zip(rows[part], begins[part], strict=True)):
                inputs[number, : len(row)] = torch.tensor(row)
                targets[number, begin - 1 : len(row) - 1] = torch.tensor(row[begin:])
            logits, _ = model(inputs)
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), targets, ignore_index=IGNORE_INDEX, reduction="none"
            )
            nats[part] = losses.double().sum(1).numpy()
    return [(float(nats[row]), float(nats[row + 1])) for row in range(0, len(rows), 2)]
