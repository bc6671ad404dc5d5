"""Nats and bits per character of a text under a model, by protocols A and B.

- Protocol A, windowed: the text is cut into windows of 256 characters, and the state is zero at the start of each one.
- Protocol B, streaming: one lane reads the text from the first character to the last and carries the state all the
  way. The score does not depend on a batch size. It is the score that chargen reports first.

Both protocols score every character once.

Dimensions: B windows side by side, T ticks, N characters.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from chargen.errors import TextError
from chargen.nn.model import CharRNN, States, evaluating
from chargen.nn.threads import compute_threads

WINDOW_SIZE = 256
"""The number of characters in a window of protocol A."""

_WINDOWS_PER_CALL = 16  # protocol A scores them side by side, protocol B one after the other

Advance = Callable[[int], None]
"""A progress callback. It receives the number of characters that were scored since the last call."""


@dataclass(frozen=True)
class Score:
    """The mean loss over the characters of a text.

    Attributes:
        nats_per_char: the mean of -ln p.
        characters: the number of characters that were scored.
    """

    nats_per_char: float
    characters: int

    @property
    def bits_per_char(self) -> float:
        """The mean of -log2 p."""
        return self.nats_per_char / math.log(2)


def num_utf8_characters(data: bytes) -> int | None:
    """Count the characters of UTF-8 bytes, which may begin and end within one; None if they are not UTF-8."""
    begin = next((place for place, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
    try:
        text, _ = codecs.utf_8_decode(data[begin:], "strict", False)
    except UnicodeDecodeError:
        return None
    return len(text)


@compute_threads()
def score_streaming(model: CharRNN, ids: np.ndarray, advance: Advance = lambda _: None) -> Score:
    """Score a text by protocol B.

    Args:
        model: evaluated without dropout; its training mode is left as it is.
        ids: (N+1,) integer. The first character is context, the N after it are scored.
        advance: progress callback.

    Raises:
        TextError: there is no character to score.
    """
    require_text(ids)
    size = WINDOW_SIZE * _WINDOWS_PER_CALL
    nats, states = 0.0, None
    for begin in range(0, len(ids) - 1, size):
        piece = ids[begin : begin + size + 1]
        piece_nats, states = _sum_nats(model, piece[None, :-1], piece[None, 1:], states)
        nats += piece_nats
        advance(len(piece) - 1)
    return Score(nats / (len(ids) - 1), len(ids) - 1)


@compute_threads()
def score_windowed(model: CharRNN, ids: np.ndarray, advance: Advance = lambda _: None) -> Score:
    """Score a text by protocol A.

    Arguments, result and errors are those of `score_streaming`. A last, shorter window is scored as well.
    """
    require_text(ids)
    end = (len(ids) - 1) // WINDOW_SIZE * WINDOW_SIZE  # of the last full window
    inputs, targets = ids[:end].reshape(-1, WINDOW_SIZE), ids[1 : end + 1].reshape(-1, WINDOW_SIZE)
    nats = 0.0
    for begin in range(0, len(inputs), _WINDOWS_PER_CALL):
        rows = slice(begin, begin + _WINDOWS_PER_CALL)
        nats += _sum_nats(model, inputs[rows], targets[rows], None)[0]
        advance(inputs[rows].size)
    if end < len(ids) - 1:
        nats += _sum_nats(model, ids[None, end:-1], ids[None, end + 1 :], None)[0]
        advance(len(ids) - 1 - end)
    return Score(nats / (len(ids) - 1), len(ids) - 1)


def require_text(ids: np.ndarray) -> None:
    """Check that there is a character to score after the one of context.

    Raises:
        TextError: there is none.
    """
    if len(ids) < 2:
        raise TextError("there is no text to score: give at least one character")


@torch.no_grad()
def _sum_nats(model: CharRNN, inputs: np.ndarray, targets: np.ndarray, states: States | None) -> tuple[float, States]:
    """Return the sum of -ln p over targets (B, T), and the states after them."""
    device = model.head.weight.device
    ids, target_ids = (torch.from_numpy(part.astype(np.int64)).to(device) for part in (inputs, targets))
    with evaluating(model):
        nats, states = model.cross_entropy(ids, target_ids, states)
    return nats.item(), states
