"""Ids become windows: contiguous lanes that resume at the exact window.

The text is cut into B lanes of equal length (to within one character). A window is the next T
characters of every lane, with the character after each as its target; the last target of a window
is the first input of the next one, so every character but the very first is predicted exactly once
in a pass. Windows of one pass follow each other without a gap, which is what truncated
backpropagation through time (Williams & Peng 1990) needs to carry its state along.

Dimensions: B lanes, T ticks, N characters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from chargen.corpus.encoded import Corpus
from chargen.nn.loss import IGNORED

VALIDATION_LANES = 64
VALIDATION_WINDOW = 256
VALIDATION_CHARACTERS = 300_000
"""Of a longer held-out split, training looks at no more than this."""


class Batch(NamedTuple):
    """One window of every lane.

    Attributes:
        inputs: (B, T) ids.
        targets: (B, T) ids, each the character after its input.
        starts: this window begins the text, so there is nothing to carry into it.
        num_targets: characters to predict in this window, over the lanes of all processes.
    """

    inputs: Tensor
    targets: Tensor
    starts: bool
    num_targets: int

    def to(self, device: torch.device) -> Batch:
        """The same window on another device."""
        inputs, targets = (ids.to(device, non_blocking=device.type == "cuda") for ids in (self.inputs, self.targets))
        return self._replace(inputs=inputs, targets=targets)


class Lanes:
    """The windows of one pass over a text, in order.

    Args:
        ids: (N,) the text.
        batch_size: B, lanes of the whole run.
        sequence_length: T.
        rank: which of `num_ranks` processes this is; it reads its own share of the B lanes.
        num_ranks: how many processes read together.

    Raises:
        ValueError: the text is too short for so many lanes, or they cannot be shared out evenly.
    """

    def __init__(
        self, ids: np.ndarray, batch_size: int, sequence_length: int, rank: int = 0, num_ranks: int = 1
    ) -> None:
        num_targets = len(ids) - 1
        if num_targets < batch_size * sequence_length:
            raise ValueError(
                f"too little text: {len(ids):,} characters cannot fill batch_size={batch_size} lanes of "
                f"sequence_length={sequence_length}; write {_that_fits(num_targets, batch_size, sequence_length)}"
            )
        if batch_size % num_ranks:
            raise ValueError(f"batch_size={batch_size}: must be a multiple of the {num_ranks} processes")
        self.ids = np.asarray(ids)  # a plain view: every access to a memory map makes another one
        self.sequence_length = sequence_length
        lane_sizes = np.full(batch_size, num_targets // batch_size)
        lane_sizes[: num_targets % batch_size] += 1
        starts = np.concatenate(([0], np.cumsum(lane_sizes)[:-1]))
        mine = slice(rank * batch_size // num_ranks, (rank + 1) * batch_size // num_ranks)
        self._first = starts[mine, None] + np.arange(sequence_length + 1)  # (B, T+1), places of the first window
        self._sizes = lane_sizes[mine]
        self._longest = int(lane_sizes[0])
        self._num_shorter = int((lane_sizes < self._longest).sum())
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Windows in one pass."""
        return math.ceil(self._longest / self.sequence_length)

    def __iter__(self) -> Iterator[Batch]:
        """All of them, from the start of the text."""
        return map(self.window, range(len(self)))

    def window(self, position: int) -> Batch:
        """The window at `position`, counted from the start of the text."""
        begin = position * self.sequence_length
        end = min(begin + self.sequence_length, self._longest)
        places = self._first[:, : end - begin + 1] + begin  # (B, T+1)
        last = end == self._longest
        if last:
            places = np.minimum(places, len(self.ids) - 1)
        ids = torch.from_numpy(self.ids[places].astype(np.int64))
        targets = ids[:, 1:]
        if last:
            targets = targets.clone()
            targets[torch.from_numpy(np.arange(begin, end) >= self._sizes[:, None])] = IGNORED  # of a shorter lane
        missing = self._num_shorter if last else 0
        return Batch(ids[:, :-1], targets, position == 0, self._batch_size * (end - begin) - missing)


class WindowLoader:
    """Lanes being read for training: knows where it stands, and goes on from there.

    Lightning asks for `__len__` too: without it, it would fetch one window ahead, and the saved
    position would be one too far.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.position = 0  # windows of this pass that have been handed out

    def __len__(self) -> int:
        """Windows in one pass."""
        return len(self.lanes)

    def __iter__(self) -> Iterator[Batch]:
        """Goes on from `position`, or begins the text again where a pass is over."""
        if self.position >= len(self):
            self.position = 0
        while self.position < len(self):
            self.position += 1  # before the window is used: a checkpoint written then resumes behind it
            yield self.lanes.window(self.position - 1)

    def state_dict(self) -> dict[str, int]:
        """Where it stands, for a checkpoint."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state_dict` was taken.

        Raises:
            ValueError: that was in another text.
        """
        if not 0 <= state["position"] <= len(self):
            raise ValueError(f"a position of {state['position']} in a pass of {len(self)} windows")
        self.position = state["position"]


def _that_fits(num_targets: int, batch_size: int, sequence_length: int) -> str:
    """Settings to write instead."""
    if num_targets >= sequence_length:
        return f"batch_size={num_targets // sequence_length} or less"
    if num_targets >= 8:
        return f"batch_size=1 sequence_length={num_targets // 2}"
    return "more text: a few thousand characters at the least"


class TextDataModule(LightningDataModule):
    """The lanes of a corpus, as Lightning asks for them."""

    def __init__(self, corpus: Corpus, batch_size: int, sequence_length: int) -> None:
        super().__init__()
        self.corpus = corpus
        self.batch_size = batch_size
        self.sequence_length = sequence_length

    def train_dataloader(self) -> WindowLoader:
        """B lanes of the training split; under W processes each reads B/W of them."""
        assert self.trainer is not None
        rank, num_ranks = self.trainer.global_rank, self.trainer.world_size
        return WindowLoader(Lanes(self.corpus.train, self.batch_size, self.sequence_length, rank, num_ranks))

    def val_dataloader(self) -> Lanes:
        """Many lanes of the held-out split, the same in every process: a quick estimate while training."""
        ids = self.corpus.validation[: VALIDATION_CHARACTERS + 1]
        num_targets = len(ids) - 1
        sequence_length = min(VALIDATION_WINDOW, num_targets)
        return Lanes(ids, min(VALIDATION_LANES, num_targets // sequence_length), sequence_length)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning's own looks for tensors in whatever a batch may be; this one is known."""
        return batch.to(device)
