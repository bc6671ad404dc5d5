"""What a run says about the machine that computed it."""

from __future__ import annotations

import os
import subprocess

import pytest
from support.environment import ROOT

from chargen.training import machine
from chargen.training.machine import MachineWatch, processor_name


def test_other_processes_are_told_from_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 seconds on all processors, 13 were busy, and 9 of these were our own."""
    seconds = iter([(100.0, 400.0, 5.0), (113.0, 420.0, 14.0)])
    monkeypatch.setattr(machine, "_busy_seconds", lambda: next(seconds))
    assert MachineWatch().report()["busy_with_others"] == pytest.approx(4 / 20)


def test_a_system_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_busy_seconds", lambda: None)
    assert MachineWatch().report()["busy_with_others"] is None


def test_the_commit_is_that_of_git() -> None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True)
    if head.returncode:
        pytest.skip("no checkout of git")
    report = MachineWatch().report()
    assert head.stdout.startswith(report["commit"])
    assert report["processors"] == os.cpu_count()
    assert report["processor"] == processor_name() != ""
