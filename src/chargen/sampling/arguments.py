"""Check what a caller gives: a mistake is an `ArgumentError` that names the argument.

Numbers may be those of Python or of numpy. A truth value is not a number here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from chargen.errors import ArgumentError


def check_type(name: str, value: Any, kind: type | tuple[type, ...], allowed: str) -> None:
    """Check that an argument has a type, or one of several; `allowed` describes it.

    Raises:
        ArgumentError: it has another one.
    """
    if not isinstance(value, kind):
        raise ArgumentError(name, value, allowed)


def is_whole(value: Any, least: int) -> bool:
    """Return whether a value is an integer of Python or numpy from `least` up."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def whole_number(name: str, value: Any, least: int, allowed: str = "") -> int:
    """Return an integer of Python or numpy as an `int`.

    Args:
        name: the argument.
        value: what was given.
        least: the smallest integer that is allowed.
        allowed: what is allowed, in words; by default it follows from `least`.

    Raises:
        ArgumentError: it is not an integer, or too small.
    """
    if not is_whole(value, least):
        raise ArgumentError(name, value, allowed or f"a whole number from {least} up")
    return int(value)


def real_number(name: str, value: Any, is_allowed: Callable[[float], bool], allowed: str) -> float:
    """Return a number of Python or numpy as a `float`.

    Args:
        name: the argument.
        value: what was given.
        is_allowed: tells whether a finite number is in range.
        allowed: what is allowed, in words.

    Raises:
        ArgumentError: it is not a number, not finite, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(name, value, f"a number, {allowed}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ArgumentError(name, value, f"a finite number, {allowed}")
    if not is_allowed(number):
        raise ArgumentError(name, value, allowed)
    return number
