"""Refuse unknown options and settings before a command reads them, and say what to write instead."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import typer.core

from chargen.cli.streams import until_reader_goes
from chargen.cli.synonyms import COMMANDS, EVALUATE, OTHERS, SAMPLE, TRAIN, Advice, message, normalized, path_exists
from chargen.config import TrainConfig
from chargen.errors import ConfigError, UserError
from chargen.schema import keys_of
from chargen.trainer_settings import TRAINER_SETTINGS

OPTIONS_WITH_A_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn")
OPTIONS = (*OPTIONS_WITH_A_VALUE, "--multirun", "-m", "--resolve", "--info", "-i", "--hydra-help", "--version")
"""Hydra's own options."""

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
        ConfigError: there are some. The message says what to write.
    """
    found, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if key in OPTIONS:
            if key in OPTIONS_WITH_A_VALUE and not equals:
                del rest[:1]
            continue
        if word == "-":
            raise ConfigError("-: a text is read more than once, so write it into a file: chargen train FILE")
        name, is_dashed = normalized(key.lstrip("+")), word.startswith("-")
        if not is_dashed and (not equals or _is_setting(name, value) or path_exists(word)):
            continue
        if is_dashed and not equals and rest and (name in _KEYS or _takes_value(name, rest[0])):
            value = rest.pop(0)
        typed = f"{key}={value}" if equals else f"{key} {value}".strip()
        if advice := _advice_about_setting(typed, name, value, is_dashed):
            found.append(advice)
    if found:
        dashes = "settings have no dashes; " if any(one.typed.startswith("-") for one in found) else ""
        raise ConfigError(dashes + message(found))


def _is_setting(name: str, value: str) -> bool:
    """Tell whether a setting exists, or is left to Hydra."""
    if f"{name}={value.lower()}" in TRAIN.words():
        return False
    return name in _KEYS or name in _GROUPS or name.startswith(("hydra", "~", "experiment")) or "@" in name


def _takes_value(name: str, following: str) -> bool:
    last = name.rpartition(".")[2]
    return (last in _SHORT and not _looks_like_option(following)) or TRAIN.takes_value(last, following)


def _looks_like_option(word: str) -> bool:
    return re.match(r"-[^\d.]|[^/]*=", word) is not None


def _advice_about_setting(typed: str, name: str, value: str, is_dashed: bool) -> Advice | None:
    last = name.rpartition(".")[2]
    if advice := TRAIN.advice(typed, name, value):
        return advice
    key = name if name in _KEYS else None
    if key is None and (advice := TRAIN.advice(typed, last, value)):
        return advice
    if key := key or _SHORT.get(last):
        return Advice(typed, shlex.quote(f"{key}={value}") if value else f"{key}=…")
    if not is_dashed:
        return None
    near = TRAIN.nearest(last, _KEYS) or "; `chargen train --help` lists the settings"
    return Advice(typed, reason=f"there is no such setting{near}")


class _NarrowHelp:
    """Help that fits a narrow terminal: typer's has fifty characters in a line at least."""

    def get_help(self, ctx: Any) -> str:
        """Return the help text."""
        columns = shutil.get_terminal_size().columns
        if columns < 52:
            ctx.terminal_width = columns - 1
        return str(super().get_help(ctx))  # type: ignore[misc]


class Command(_NarrowHelp, typer.core.TyperCommand):
    """A command that says what to write instead of an unknown option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse unknown options, then parse the others.

        Raises:
            UserError: there are some.
        """
        if found := list(_advice_about_options(self, ctx, args)):
            raise UserError(message(found))
        return super().parse_args(ctx, args)


def _advice_about_options(command: Command, ctx: Any, args: Sequence[str]) -> Iterator[Advice]:
    if command.context_settings.get("ignore_unknown_options"):  # of `train`, which reads them itself
        return
    synonyms = {"sample": SAMPLE, "evaluate": EVALUATE}.get(str(command.name), OTHERS)
    takes_value = {
        option: not getattr(param, "is_flag", False)
        for param in command.get_params(ctx)
        for option in (*param.opts, *param.secondary_opts)
        if option.startswith("-")
    }
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            return
        if name in takes_value:
            if takes_value[name] and not equals:
                del rest[:1]
            continue
        is_dashed = word.startswith("-") and word != "-"
        if not is_dashed and (not equals or path_exists(word)):
            continue  # a run
        option = f"--{normalized(name).replace('_', '-')}"
        is_value = is_dashed and not equals and bool(rest) and not _looks_like_option(rest[0])
        if is_value and (takes_value.get(option) or synonyms.takes_value(name, rest[0])):
            value = rest.pop(0)
        typed = f"{name}={value}" if equals else f"{name} {value}".strip()
        if option in takes_value:
            yield Advice(typed, f"{option} {shlex.quote(value) if value else '…'}" if takes_value[option] else option)
        elif advice := synonyms.advice(typed, name, value):
            yield advice
        elif is_dashed:
            near = synonyms.nearest(name, takes_value) or f"; `chargen {command.name} --help` lists the options"
            yield Advice(typed, reason=f"there is no such option{near}")


class Group(_NarrowHelp, typer.core.TyperGroup):
    """Commands that say what to write instead of an unknown one, and whose reader may go away (`| head`)."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read the command line; `--help` is printed here."""
        with until_reader_goes():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with until_reader_goes():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command.

        Raises:
            UserError: there is none of that name, but one that does the same.
        """
        name = args[0]
        if name not in self.commands:
            if command := COMMANDS.get(normalized(name)):
                raise UserError(f"{name}: write chargen {command}")
            if path_exists(name):
                raise UserError(f"{name}: write chargen train {shlex.quote(name)}, or another command before it")
        return super().resolve_command(ctx, args)
