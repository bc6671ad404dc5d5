"""Scores of Kneser-Ney n-grams of every order, computed in a process of their own beside a training run.

    python ladder.py TASK.json

reads where the ids of a text lie, and prints one JSON list: the nats per character of orders 1, 2, 3, ...
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from chargen.ngrams.kneser_ney import kneser_ney_probabilities


def ladder(training: np.ndarray, scored: np.ndarray, vocab_size: int, max_order: int) -> list[float]:
    """Return the nats per character of n-grams of orders 1 to `max_order`.

    Args:
        training: (N,) ids of the text to count.
        scored: (M+1,) ids of the text to predict; the first one is context.
        vocab_size: V; all ids are below it.
        max_order: the highest order.
    """
    return [float(-np.log(p).mean()) for p in kneser_ney_probabilities(training, scored, vocab_size, max_order)]


def main() -> None:
    """Read the task from the file that is named, and print the scores. The process gives way to all others."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.nice(19)
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ids = np.load(task["ids"], allow_pickle=False)
    begin = task["num_train"]
    print(json.dumps(ladder(ids[:begin], ids[begin - 1 :], task["vocab_size"], task["max_order"])))


if __name__ == "__main__":
    main()
