"""Turn plain data into checked dataclasses.

A field declared with `setting` carries its default, the words that `--help` shows for it, and its bounds. `parse`
builds the dataclass from nested dictionaries and reports the first wrong value with its full key.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from chargen.errors import ArgumentError, ConfigError

MISSING = "???"
"""The value of a setting that has no default. omegaconf uses the same string."""


@dataclass(frozen=True)
class Bound:
    """A condition on the value of a setting.

    Attributes:
        holds: tells whether a value is allowed.
        allowed: the allowed values in words, completing "must be ...".
        choices: the allowed words, if there are only a few; a misspelt one is then recognised.
    """

    holds: Callable[[Any], bool]
    allowed: str
    choices: tuple[str, ...] = ()


MAX_COUNT = 2**31 - 1
"""The largest number of anything that is counted: more than any text or run has."""


def whole_number(least: int, most: int = MAX_COUNT) -> Bound:
    """Allow whole numbers from `least` to `most`."""
    upper = "up" if most == MAX_COUNT else f"up to {most}"
    return Bound(lambda value: least <= value <= most, f"a whole number from {least} {upper}")


def fraction() -> Bound:
    """Allow 0 <= value < 1."""
    return Bound(lambda value: 0 <= value < 1, "from 0 up and below 1")


def number(holds: Callable[[float], bool], allowed: str) -> Bound:
    """Allow numbers for which `holds` is true. `checked` refuses those that are not finite."""
    return Bound(holds, allowed)


def one_of(*choices: str) -> Bound:
    """Allow a few words."""
    return Bound(lambda value: value in choices, ", ".join(choices), choices)


def setting(default: Any, meaning: str, bound: Bound | None = None, *, resumable: bool = False) -> Any:
    """Declare a field of a settings dataclass.

    Args:
        default: its default value.
        meaning: the words that `chargen train --help` shows for it; "" hides it there.
        bound: the values that are allowed besides None.
        resumable: whether a resumed run may change it.
    """
    return field(default=default, metadata={"meaning": meaning, "bound": bound, "resumable": resumable})


def parse(kind: type[Any], container: Any, prefix: str = "", root: type[Any] | None = None) -> Any:
    """Build a dataclass, including nested ones, from nested dictionaries.

    Args:
        kind: the dataclass.
        container: the values by field name. A missing field takes its default.
        prefix: of the keys in messages, such as `model.`.
        root: the dataclass whose keys are suggested for a misspelt one; `kind` itself by default.

    Raises:
        ConfigError: a key is unknown, or a value is missing, of the wrong type or out of bounds.
    """
    root = root or kind
    if not isinstance(container, Mapping) and not prefix:
        example = '{"corpus": {"name": "mine", "path": "a.txt"}, "run_dir": "runs/mine"}'
        raise ConfigError(str(ArgumentError("settings", container, f"a dictionary of settings, such as {example}")))
    if not isinstance(container, Mapping):
        raise ConfigError(f"{prefix.rstrip('.')}={container}: must be a group of settings, {prefix}NAME=VALUE")
    hints = get_type_hints(kind)
    bounds = {f.name: f.metadata.get("bound") for f in fields(kind)}
    values = {}
    for key, value in container.items():
        if key not in hints:
            raise unknown_setting(f"{prefix}{key}", root)
        if isinstance(value, str) and value == MISSING:
            raise ConfigError(f"{prefix}{key}: a value is needed")
        if is_dataclass(hints[key]):
            values[key] = parse(hints[key], value, f"{prefix}{key}.", root)
        else:
            values[key] = checked(hints[key], bounds[key], f"{prefix}{key}", value)
    for f in fields(kind):
        if f.name in values:
            continue
        if is_dataclass(hints[f.name]):
            values[f.name] = parse(hints[f.name], {}, f"{prefix}{f.name}.", root)
        elif f.default == MISSING:
            raise ConfigError(f"{prefix}{f.name}: a value is needed")
    return kind(**values)


_TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a group of settings",
}


def plain_number(value: Any) -> Any:
    """Return a number or truth value of numpy as Python's, and any other value as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def checked(hint: Any, bound: Bound | None, key: str, value: Any) -> Any:
    """Return a value if it has the hinted type and lies within the bound; a float may be given as an int.

    Numbers and truth values of numpy are returned as those of Python.

    Raises:
        ConfigError: it does not.
    """
    value = plain_number(value)
    origin = get_origin(hint)
    kinds = [dict] if origin is dict else [get_origin(kind) or kind for kind in get_args(hint) or (hint,)]
    if value is None and (type(None) in kinds or Any in kinds):
        return value
    if Any not in kinds:
        (kind,) = (kind for kind in kinds if kind is not type(None))
        allowed = (int, float) if kind is float else (kind,)
        is_of_kind = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
        require(key, value, is_of_kind, f"must be {_TYPE_NAMES[kind]}")
        if kind is float and not -1e300 < value < 1e300:
            raise ConfigError(f"{key}={value}: must be a finite number{f', {bound.allowed}' if bound else ''}")
    if bound is not None:
        hint_at = nearest(str(value), bound.choices)
        require(key, value, bound.holds(value), f"must be {bound.allowed}{hint_at}")
    return value


def require(key: str, value: Any, holds: bool, allowed: str) -> None:
    """Raise ConfigError unless `holds`; the message names the key, the value and what is allowed."""
    if not holds:
        raise ConfigError(f"{key}={value}: {allowed}")


def keys_of(kind: type[Any]) -> list[str]:
    """List every key of a settings dataclass in full, such as `model.hidden_size`."""
    hints, keys = get_type_hints(kind), []
    for part in fields(kind):
        inner = hints[part.name]
        keys += [f"{part.name}.{f.name}" for f in fields(inner)] if is_dataclass(inner) else [part.name]
    return keys


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?` with the known word nearest to a wrong one, or "" if none is near."""
    spelled = {word.lower(): word for word in known}
    close = difflib.get_close_matches(wrong.lower(), spelled, n=1, cutoff=0.6)
    return f"; did you mean {spelled[close[0]]}?" if close else ""


def unknown_setting(key: str, root: type[Any]) -> ConfigError:
    """Make the error for a key that does not exist."""
    hint = nearest(key, keys_of(root)) or "; `chargen train --help` lists the settings"
    return ConfigError(f"{key}: there is no such setting{hint}")
