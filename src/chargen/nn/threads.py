"""The threads that compute on the CPU: the kernels' own if they are there, and otherwise one.

Torch's threads wait for each other at the end of every operation, and a window has thousands of them. One busy process
beside them is enough to stop all of them most of the time. Torch therefore computes on one thread, here and wherever
chargen trains or scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from chargen import native


def num_threads() -> int:
    """Return how many threads compute within `compute_threads`: torch's number, or one without kernels."""
    return native.num_threads(torch.get_num_threads()) if native.library() else 1


@contextmanager
def compute_threads() -> Iterator[None]:
    """Give torch's threads to the compiled kernels, and one to torch. Without kernels, torch computes on that one.

    The function may also be used as a decorator. Within itself it changes nothing.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        with native.kernel_threads(threads) if native.library() else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)
