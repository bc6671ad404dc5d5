"""Turn ids into windows: contiguous lanes that continue at the exact window.

The text is cut into B lanes of equal length, to within one character. A window is the next T characters of every lane,
and the target of each character is the character after it. The last target of a window is the first input of the next
one, so every character but the very first is predicted exactly once in a pass. The windows of a pass follow each other
without a gap: truncated backpropagation through time (Williams & Peng 1990) can carry its state from one to the next.

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
from chargen.errors import ConfigError, TextError
from chargen.nn.loss import IGNORE_INDEX
from chargen.nn.model import States
from chargen.planning.length import limited

VALIDATION_LANES = 64
VALIDATION_WINDOW = 64
VALIDATION_CHARACTERS = 300_000
"""The most characters of the held-out text that a validation during training reads."""


class Batch(NamedTuple):
    """One window of every lane.

    Attributes:
        inputs: (B, T) ids.
        targets: (B, T) ids, each the character after its input.
        starts: whether this window begins the text, so that its state is zero.
        num_targets: characters to predict in this window, over the lanes of all processes.
    """

    inputs: Tensor
    targets: Tensor
    starts: bool
    num_targets: int

    def to(self, device: torch.device) -> Batch:
        """Return the same window on another device."""
        inputs, targets = (ids.to(device, non_blocking=device.type == "cuda") for ids in (self.inputs, self.targets))
        return self._replace(inputs=inputs, targets=targets)


class ReadWindow(NamedTuple):
    """A window of the present update.

    Attributes:
        batch: the window.
        carry: the state before it; None for zero.
        loss: its loss, nats per character, without a gradient.
    """

    batch: Batch
    carry: States | None
    loss: Tensor


class Lanes:
    """The windows of one pass over a text, in order.

    Args:
        ids: (N,) the text.
        batch_size: B, lanes of the whole run.
        sequence_length: T.
        rank: which of `num_ranks` processes this is; it reads its share of the B lanes.
        num_ranks: how many processes read together.

    Raises:
        TextError: the text is too short for this many lanes.
        ConfigError: the lanes cannot be divided evenly among the processes.
    """

    def __init__(
        self, ids: np.ndarray, batch_size: int, sequence_length: int, rank: int = 0, num_ranks: int = 1
    ) -> None:
        num_targets = len(ids) - 1
        if num_targets < batch_size * sequence_length:
            raise TextError(
                f"too little text: {len(ids):,} characters cannot fill batch_size={batch_size} lanes of "
                f"sequence_length={sequence_length}; write {_settings_that_fit(num_targets, sequence_length)}"
            )
        if batch_size % num_ranks:
            raise ConfigError(f"batch_size={batch_size}: must be a multiple of the {num_ranks} processes")
        self.ids = np.asarray(ids)  # a plain view: each access to a memory map would create another one
        self.sequence_length = sequence_length
        lane_sizes = np.full(batch_size, num_targets // batch_size)
        lane_sizes[: num_targets % batch_size] += 1
        starts = np.concatenate(([0], np.cumsum(lane_sizes)[:-1]))
        own = slice(rank * batch_size // num_ranks, (rank + 1) * batch_size // num_ranks)
        self._first = starts[own, None] + np.arange(sequence_length + 1)  # (B, T+1), positions of the first window
        self._sizes = lane_sizes[own]
        self._longest = int(lane_sizes[0])
        self._num_shorter = int((lane_sizes < self._longest).sum())
        self._batch_size = batch_size

    @property
    def characters_per_window(self) -> int:
        """Characters that a full window predicts, over the lanes of all processes."""
        return self._batch_size * self.sequence_length

    def __len__(self) -> int:
        """Return the number of windows in one pass."""
        return math.ceil(self._longest / self.sequence_length)

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over all windows from the start of the text."""
        return map(self.window, range(len(self)))

    def window(self, position: int) -> Batch:
        """Return the window at `position`, counted from the start of the text."""
        begin = position * self.sequence_length
        end = min(begin + self.sequence_length, self._longest)
        positions = self._first[:, : end - begin + 1] + begin  # (B, T+1)
        is_last = end == self._longest
        if is_last:
            positions = np.minimum(positions, len(self.ids) - 1)
        ids = torch.from_numpy(self.ids[positions].astype(np.int64))
        targets = ids[:, 1:]
        if is_last:  # lanes that are one character shorter have no last target
            targets = targets.clone()
            targets[torch.from_numpy(np.arange(begin, end) >= self._sizes[:, None])] = IGNORE_INDEX
        missing = self._num_shorter if is_last else 0
        return Batch(ids[:, :-1], targets, position == 0, self._batch_size * (end - begin) - missing)


class WindowLoader:
    """An iterator over the windows of a pass that can be saved and restored.

    Lightning needs `__len__`: without it, it fetches one window ahead, and the saved position is one too far.

    Args:
        lanes: the text.
        windows_per_pass: windows after which a pass ends and begins again; None for all of the text.
    """

    def __init__(self, lanes: Lanes, windows_per_pass: int | None = None) -> None:
        self.lanes = lanes
        self.windows_per_pass = min(len(lanes), windows_per_pass or len(lanes))
        self.position = 0  # windows of this pass that have been returned

    def __len__(self) -> int:
        """Return the number of windows in one pass."""
        return self.windows_per_pass

    def __iter__(self) -> Iterator[Batch]:
        """Continue at `position`, or start the text again if the pass is over."""
        if self.position >= len(self):
            self.position = 0
        while self.position < len(self):
            self.position += 1  # before the window is used: a checkpoint written then resumes after it
            yield self.lanes.window(self.position - 1)

    def state_dict(self) -> dict[str, int]:
        """Return the position, for a checkpoint."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the position.

        Raises:
            ValueError: it lies outside of this text.
        """
        if not 0 <= state["position"] <= len(self):
            raise ValueError(f"a position of {state['position']} in a pass of {len(self)} windows")
        self.position = state["position"]


class HeldOutWindows:
    """The windows of a validation: the first ones of many lanes, so that they come from all parts of the text.

    Args:
        lanes: the held-out text.
        limit: the number of windows that may be read, at least one, or a fraction of them.

    Attributes:
        num_windows: windows that a validation reads; None for all that may be read.
    """

    def __init__(self, lanes: Lanes, limit: float = 1.0) -> None:
        self.lanes = lanes
        self.num_windows: int | None = None
        self._most = max(1, limited(len(lanes), limit))

    def __len__(self) -> int:
        """Return the number of windows that may be read."""
        return self._most

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the windows that a validation reads, counted when the first one is asked for."""
        for position in range(min(len(self), self.num_windows or len(self))):
            yield self.lanes.window(position)

    def windows_of(self, num_characters: int) -> int:
        """Return how many windows hold at most this many characters, at least 1."""
        return max(1, num_characters // self.lanes.characters_per_window)

    def characters_in(self, num_windows: int) -> int:
        """Return how many characters this many windows predict."""
        return min(num_windows * self.lanes.characters_per_window, len(self.lanes.ids) - 1)


def _settings_that_fit(num_targets: int, sequence_length: int) -> str:
    """Return the settings to write for a text of this length."""
    if num_targets >= sequence_length:
        return f"batch_size={num_targets // sequence_length} or less"
    if num_targets >= 8:
        return f"batch_size=1 sequence_length={num_targets // 2}"
    return "more text: a few thousand characters at the least"


class TextDataModule(LightningDataModule):
    """The lanes of a corpus as Lightning asks for them."""

    def __init__(
        self,
        corpus: Corpus,
        batch_size: int,
        sequence_length: int,
        *,
        windows_per_pass: int | None = None,
        validation_limit: float = 1.0,
    ) -> None:
        super().__init__()
        self.corpus = corpus
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self.windows_per_pass = windows_per_pass
        self.validation_limit = validation_limit

    def train_dataloader(self) -> WindowLoader:
        """Return the B lanes of the training split; each of W processes reads B/W of them."""
        assert self.trainer is not None
        rank, num_ranks = self.trainer.global_rank, self.trainer.world_size
        lanes = Lanes(self.corpus.train, self.batch_size, self.sequence_length, rank, num_ranks)
        return WindowLoader(lanes, self.windows_per_pass)

    def val_dataloader(self) -> HeldOutWindows:
        """Return many lanes of the held-out split, the same in every process, for a quick estimate."""
        ids = self.corpus.validation[: VALIDATION_CHARACTERS + 1]
        num_targets = len(ids) - 1
        sequence_length = min(VALIDATION_WINDOW, num_targets)
        lanes = Lanes(ids, min(VALIDATION_LANES, num_targets // sequence_length), sequence_length)
        return HeldOutWindows(lanes, self.validation_limit)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to a device; Lightning's own version searches the batch for tensors on every step."""
        return batch.to(device)
