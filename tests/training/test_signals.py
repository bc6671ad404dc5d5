"""A signal stops a run where it can continue."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.environment import Command
from support.models import TEXT, TINY

from chargen.training import run
from chargen.training.signals import Interrupted, raise_signals

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_ends_the_block_and_the_handlers_return(number: int) -> None:
    before = [signal.getsignal(one) for one in NUMBERS]
    with pytest.raises(Interrupted) as interrupted, raise_signals():
        signal.raise_signal(number)
    assert interrupted.value.signum == number
    assert [signal.getsignal(one) for one in NUMBERS] == before


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_while_the_end_is_scored_is_answered(
    chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has no summary yet, and `resume` scores it."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(run, "finish", lambda *_: signal.raise_signal(signal.SIGTERM))
    code, out, err = chargen("train", "t.txt", *TINY, "run_dir=r")
    assert (code, err) == (143, "")
    assert "stopped while the end was scored; the run is saved; continue with\n" in out
    assert out.endswith("train resume=r\n")
    monkeypatch.undo()
    monkeypatch.chdir(away)
    assert chargen("train", "resume=r")[0] == 0
    assert (away / "r" / "summary.json").is_file()
