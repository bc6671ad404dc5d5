"""`chargen info` names versions and kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Chargen = Callable[..., tuple[int, str, str]]


def test_info_names_the_kernels_in_use(
    chargen: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from chargen import native

    code, out, _ = chargen("info")
    assert code == 0
    for word in ("torch", "threads", native.in_use() if native.library() else "none ("):
        assert word in out
    monkeypatch.setattr(native, "library", lambda: None)
    monkeypatch.setenv(native.VARIABLE, native.OFF)
    assert "none (CHARGEN_NATIVE=off)" in chargen("info")[1]
