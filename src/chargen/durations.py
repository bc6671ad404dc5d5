"""Durations as `trainer.max_time` is typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from chargen.schema import require

DEFAULT_MAX_TIME = "00:00:03:00"
"""The length of a run that is given none, DD:HH:MM:SS."""

_WITH_UNITS = r"\s*".join(
    rf"(?:(?P<{name}>\d{{1,9}}(?:\.\d{{1,9}})?)\s*{unit})?"
    for name, unit in (
        ("days", "d(?:ays?)?"),
        ("hours", "h(?:ours?|rs?)?"),
        ("minutes", "m(?:in(?:ute)?s?)?"),
        ("seconds", "s(?:ec(?:ond)?s?)?"),
    )
)


def parse_duration(max_time: Any) -> float:
    """Return Lightning's `max_time` in seconds.

    Args:
        max_time: `DD:HH:MM:SS`; days, hours, minutes and seconds with their units, such as `10m`, `1h30m`, `1.5h` and
            `90 seconds`; or a dictionary of units.

    Raises:
        ConfigError: it is none of these, or not above zero.
    """
    match max_time:
        case str() if found := re.fullmatch(r"(\d{1,9}):(\d\d):(\d\d):(\d\d)", max_time.strip()):
            days, hours, minutes, seconds = map(int, found.groups())
            total = _total_seconds({"days": days, "hours": hours, "minutes": minutes, "seconds": seconds})
        case str() if found := re.fullmatch(_WITH_UNITS, max_time.strip(), re.IGNORECASE):
            total = _total_seconds({unit: float(value) for unit, value in found.groupdict().items() if value})
        case Mapping():
            total = _total_seconds(max_time)
        case _:
            total = 0.0
    allowed = f"write a time such as 90s, 10m or 1h30m, or DD:HH:MM:SS; three minutes are {DEFAULT_MAX_TIME}"
    require("trainer.max_time", max_time, total > 0, allowed)
    return total


def _total_seconds(units: Mapping[str, Any]) -> float:
    """Return a duration in seconds, or 0 if the units are not those of a duration."""
    try:
        return timedelta(**units).total_seconds()
    except (TypeError, OverflowError, ValueError):
        return 0.0


def format_duration(seconds: float) -> str:
    """Write seconds, at least one, as `trainer.max_time` is typed: DD:HH:MM:SS."""
    minutes, rest = divmod(max(1, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:02}:{hours:02}:{minutes:02}:{rest:02}"
