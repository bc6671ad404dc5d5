"""Choose places of a text that are not too near to each other."""

from __future__ import annotations

from collections.abc import Iterable


def apart(order: Iterable[int], distance: int, number: int) -> list[int]:
    """Take the first `number` places of an order that are at least `distance` from all places taken before.

    Args:
        order: positions in a text, the best first.
        distance: characters.
        number: how many to take at most.
    """
    taken: list[int] = []
    for place in map(int, order):
        if len(taken) == number:
            break
        if all(abs(place - other) >= distance for other in taken):
            taken.append(place)
    return taken
