"""Signals that stop a run: it is saved first, and can continue."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from chargen.training.checkpoints import CheckpointWriter


class Interrupted(BaseException):
    """A signal has come while a run does something that can be done again.

    Args:
        signum: the number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def stop_signals(checkpoints: CheckpointWriter) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP stop the run after the present update, and a second SIGINT at once.

    Lightning adds a handler of SIGTERM that ends the run after a validation without a checkpoint. It is replaced when
    training starts.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        if checkpoints.stop_signal is None:
            checkpoints.stop_signal = signum
        elif signum == signal.SIGINT:  # a second SIGTERM may come from the same cause: a reader that went away
            raise KeyboardInterrupt

    checkpoints.before_training = lambda: signal.signal(signal.SIGTERM, stop)
    with _handled_by(stop):
        yield


@contextlib.contextmanager
def raise_signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the block at once.

    Raises:
        Interrupted: one of them has come.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    with _handled_by(stop):
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:  # `nohup` ignores it
        numbers.append(hang_up)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
