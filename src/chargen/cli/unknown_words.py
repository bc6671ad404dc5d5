"""Refuse unknown settings before `chargen train` reads them, and say what to write instead."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from chargen.cli.synonyms import TRAIN, Advice, filled, message, normalized, path_exists
from chargen.config import TrainConfig, parse_config
from chargen.errors import ConfigError
from chargen.schema import keys_of
from chargen.trainer_settings import TRAINER_SETTINGS

OPTIONS_WITH_A_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn")
OPTIONS = (*OPTIONS_WITH_A_VALUE, "--multirun", "-m", "--resolve", "--info", "-i", "--hydra-help", "--version")
"""Hydra's own options."""

INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""The values of `--info`, which may have none."""

_CHOICES = {**dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")), **dict.fromkeys(("--info", "-i"), INFO)}

_GROUPS = ("corpus", "model", "trainer")
"""Settings whose value is the name of a file in conf/."""

_KEYS = {*keys_of(TrainConfig), *(f"trainer.{name}" for name in TRAINER_SETTINGS)}
_SHORT = {key.rpartition(".")[2]: key for key in keys_of(TrainConfig)}
_SHORT |= {
    name: f"trainer.{name}" for name, one in TRAINER_SETTINGS.items() if name not in _SHORT and not one.is_refused
}


def require_known_settings(words: Sequence[str]) -> None:
    """Refuse settings of other programs after `chargen train`, such as `--epochs 3` or `lr=0.1`.

    A misspelt `KEY=VALUE` without dashes is left to Hydra.

    Raises:
        ConfigError: there are some, or an option of Hydra is used wrongly. The message says what to write.
    """
    if found := advice_about_settings(words):
        dashes = "settings have no dashes; " if any(one.typed.startswith("-") for one in found) else ""
        raise ConfigError(dashes + message(found))


def advice_about_settings(words: Sequence[str]) -> list[Advice]:
    """Return what to tell about each word that is no setting.

    Raises:
        ConfigError: an option of Hydra is used wrongly, or there is a word alone such as `-` or `=`.
    """
    found, rest, options, before = [], list(words), [], ""
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if key in OPTIONS:
            options.append(key)
            if not equals and (key in OPTIONS_WITH_A_VALUE or (key in _CHOICES and rest and rest[0] in INFO)):
                value = rest.pop(0) if rest and not looks_like_option(rest[0]) else ""
            _require_value_of_option(key, value, word)
            continue
        if word == "-":
            raise ConfigError("-: a text is read more than once, so write it into a file: chargen train FILE")
        if word.startswith("-") and path_exists(word):
            raise ConfigError(f"{word}: looks like an option; write ./{word} for the file")
        if word == "=" and before and rest:
            raise ConfigError(f"{before} = {rest[0]}: a setting has no blanks; write {before}={rest[0]}")
        before = word
        name, is_dashed = normalized(key.strip().lstrip("+")), word.startswith("-")
        if not is_dashed and (not equals or is_setting(key.strip(), value.strip()) or path_exists(word)):
            continue
        if is_dashed and not equals and rest and _takes_value(name, rest[0]):
            value = rest.pop(0)
        typed = f"{key}={value}" if equals else f"{key} {value}".strip()
        if advice := advice_about_setting(typed, name, value.strip(), is_dashed):
            found.append(advice)
    if {"--package", "-p", "--resolve"} & set(options) and not {"--cfg", "-c"} & set(options):
        raise ConfigError(f"{' '.join(options)}: works with --cfg job alone, which shows the settings")
    return found


def _require_value_of_option(option: str, value: str, word: str) -> None:
    choices = _CHOICES.get(option)
    if option not in OPTIONS_WITH_A_VALUE and not choices and "=" in word:
        raise ConfigError(f"{word}: {option} takes no value: leave it out")
    if option in OPTIONS_WITH_A_VALUE and not value:
        raise ConfigError(f"{option}: needs a value, such as {option} {choices[0] if choices else 'NAME'}")
    if choices and value and value not in choices:
        raise ConfigError(f"{option} {value}: must be {', '.join(choices)}")


def is_setting(key: str, value: str) -> bool:
    """Tell whether a setting exists, or is left to Hydra."""
    name = key.lstrip("+")
    if f"{normalized(name)}={value.lower()}" in TRAIN.words:
        return False
    return (
        name in _KEYS
        or name in _GROUPS
        or name.startswith(("hydra", "~"))
        or "@" in name
        or (key.startswith("+") and name.startswith("experiment"))
    )


def _takes_value(name: str, following: str) -> bool:
    last = name.rpartition(".")[2]
    if (name in _KEYS or last in _SHORT) and not looks_like_option(following):
        return True
    return TRAIN.takes_value(last, following)


def looks_like_option(word: str) -> bool:
    """Tell whether a word is an option or a setting, and no value of the option before it."""
    return re.match(r"-[^\d.]|[^/]*=", word) is not None


def advice_about_setting(typed: str, name: str, value: str, is_dashed: bool) -> Advice | None:
    """Return what to tell about a setting; None if nothing is known about it.

    Args:
        typed: what was typed, for the message.
        name: its normalized name.
        value: its value; "" if it has none.
        is_dashed: whether it was typed as an option, which is never a setting.
    """
    last = name.rpartition(".")[2]
    advice = TRAIN.advice(typed, name, value)
    if advice is None and name not in _KEYS:
        advice = TRAIN.advice(typed, last, value)
    if advice is None and (key := name if name in _KEYS else _SHORT.get(last)):
        advice = Advice(typed, filled(f"{key}={{}}", value))
    if advice is None and is_dashed:
        near = TRAIN.nearest(last, _KEYS) or "; `chargen train --help` lists the settings"
        return Advice(typed, reason=f"there is no such setting{near}")
    if advice and value:
        for part in shlex.split(advice.instead):
            if allowed := _objection(part):
                return Advice(typed, reason=f"{allowed}; write {part.partition('=')[0]}=…")
    return advice


def _objection(setting: str) -> str:
    """Return what is allowed for a setting such as `seed=3`, or "" if its value is."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, text = setting.partition("=")
    outer, _, inner = key.rpartition(".")
    if key not in _KEYS:
        return ""
    try:
        override = OverridesParser.create().parse_override(f"x={text}")
        values = [text] if override.is_sweep_override() else [override.value(), text]
    except (HydraException, ValueError):
        values = [text]
    allowed = ""
    for value in values:
        needed: dict[str, Any] = {"corpus": {"name": "text"}, "run_dir": "r"}
        (needed.setdefault(outer, {}) if outer else needed)[inner] = value
        try:
            parse_config(needed)
        except ConfigError as error:
            allowed = allowed or re.sub(rf"^{re.escape(key)}=.*?: ", "", str(error))
        else:
            return ""
    return allowed
