"""`chargen info` names versions and kernels."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import pytest

from chargen.cli import info
from chargen.native.installation import build_command

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
    assert "installed:" not in chargen("info")[1]
    monkeypatch.delenv(native.VARIABLE)
    out = chargen("info")[1]
    assert "none (not built)" in out
    assert out.endswith(f"with g++ or clang++ installed: {build_command()}\n")


def test_info_lists_packages_that_are_not_installed(
    chargen: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(info, "PACKAGES", ("numpy", "no-such-package"))
    code, out, _ = chargen("info")
    assert code == 0
    assert f"numpy        {version('numpy')}\nno-such-package not installed\n" in out
