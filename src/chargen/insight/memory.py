"""How far back a model uses its past: held-out loss against the number of characters that it was given before.

Each of P characters of a text is predicted behind its last n characters, for n = 1, 2, 4, ...: once from zero state,
and once behind a shuffled past, whose characters are those of the text in random order. The loss stops falling with n
where the model uses no more of its past (Khandelwal et al. 2018, who shuffle and drop the context of an LSTM in the
same way).

Dimensions: P predicted characters, n characters of context, B characters predicted side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from chargen.nn.model import CharRNN, evaluating
from chargen.nn.threads import compute_threads

SHUFFLED = 256
"""Characters of the shuffled past."""

SIDE_BY_SIDE = 256
"""Characters that are predicted side by side."""


class MemoryCurve(NamedTuple):
    """Losses by the number of characters of context.

    Attributes:
        lengths: n.
        zero: nats per character behind n characters from the zero state.
        shuffled: the same behind a shuffled past.
        errors: the standard error of `zero` at each n against the longest context: of the mean difference.
    """

    lengths: list[int]
    zero: list[float]
    shuffled: list[float]
    errors: list[float]

    def length_for(self, share: float) -> int:
        """Return the shortest context with this share of what the longest one gains over the shortest."""
        gain = self.zero[0] - self.zero[-1]
        return next(n for n, nats in zip(self.lengths, self.zero, strict=True) if self.zero[0] - nats >= share * gain)


@compute_threads()
@torch.no_grad()
def memory_curve(
    model: CharRNN,
    ids: np.ndarray,
    lengths: Sequence[int],
    *,
    positions: int,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> MemoryCurve:
    """Measure the loss of `positions` characters behind contexts of several lengths.

    Args:
        model: evaluated without dropout.
        ids: (N,) the text. The predicted characters are spread evenly over it.
        lengths: the lengths of context, in ascending order.
        positions: P.
        seed: of the shuffled past.
        advance: receives the number of characters that were read since the last call.

    Raises:
        ValueError: the text is too short.
    """
    longest, generator = lengths[-1], np.random.default_rng(seed)
    if len(ids) <= longest + SHUFFLED + 1:
        raise ValueError(f"{len(ids)} characters are too few for a context of {longest}")
    places = np.unique(np.linspace(longest + SHUFFLED, len(ids) - 1, positions).astype(int))
    with evaluating(model):
        zero, shuffled = [], []
        for n in lengths:
            contexts = ids[places[:, None] + np.arange(-n, 0)]
            past = generator.permuted(ids[places[:, None] + np.arange(-n - SHUFFLED, -n)], axis=1)
            zero.append(_losses(model, contexts, ids[places], advance))
            shuffled.append(_losses(model, np.concatenate([past, contexts], axis=1), ids[places], advance))
    errors = [float(np.std(losses - zero[-1]) / np.sqrt(len(places))) for losses in zero]
    return MemoryCurve(
        list(lengths), [float(one.mean()) for one in zero], [float(one.mean()) for one in shuffled], errors
    )


def _losses(model: CharRNN, contexts: np.ndarray, targets: np.ndarray, advance: Callable[[int], None]) -> np.ndarray:
    """Return -ln p of targets (P,) behind contexts (P, n)."""
    losses = []
    for begin in range(0, len(contexts), SIDE_BY_SIDE):
        rows = slice(begin, begin + SIDE_BY_SIDE)
        inputs = torch.from_numpy(contexts[rows].astype(np.int64))
        states = model(inputs[:, :-1])[1] if inputs.shape[1] > 1 else None
        logits, _ = model(inputs[:, -1:], states)
        row = torch.from_numpy(targets[rows].astype(np.int64))
        losses.append(torch.nn.functional.cross_entropy(logits[:, 0], row, reduction="none"))
        advance(inputs.numel())
    return torch.cat(losses).double().numpy()
