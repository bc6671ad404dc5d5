"""Commands that refuse unknown options, and say what to write instead."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer.core

from chargen import native
from chargen.cli.console import warn
from chargen.cli.streams import until_reader_goes
from chargen.cli.synonyms import (
    COMMANDS,
    DOCTOR,
    EVALUATE,
    OTHERS,
    PLOT,
    SAMPLE,
    Advice,
    message,
    normalized,
    path_exists,
)
from chargen.cli.unknown_words import advice_about_setting, advice_about_settings, is_setting, looks_like_option
from chargen.errors import UserError


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
        try:
            return super().parse_args(ctx, list(args))
        except Exception as error:
            if line := _line_about(error, args):
                raise UserError(line) from None
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command. An error about the encoding of a given text names the options of this command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            is_given = ctx.params.get("text") or ctx.params.get("texts") or ctx.params.get("words")
            line = re.sub(r"corpus\.(encoding|errors)=", r"--\1 ", str(error)).replace("corpus.encoding", "--encoding")
            if not is_given or line == str(error):
                raise
            if self.name != "doctor":  # which looks at a text before training
                line = re.sub("; if it is not text, set corpus.unit=byte[^;]*", "", line)
            raise UserError(line) from None


class ComputingCommand(Command):
    """A command that the compiled kernels make faster: it says once if they are missing."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Its arguments have been read; `train` reads `--help` itself."""
        line = None if {"-h", "--help"} & set(ctx.args) else native.missing()
        if line is not None:
            warn(line)
        return super().invoke(ctx)


def _line_about(error: Exception, args: Sequence[str]) -> str:
    """Return what is wrong with the value of an option; "" for another error.

    Args:
        error: what typer has raised.
        args: the words behind the command.
    """
    text = error.format_message() if hasattr(error, "format_message") else ""
    if found := re.search("Option '(.*)' requires an argument", text):
        return f"{found[1]}: needs a value: write {found[1]} VALUE"
    if found := re.search("Option '(.*)' does not take a value", text):
        return f"{found[1]}: takes no value: write {found[1]} alone"
    if found := re.search(r"Missing argument '(\w+)", text):
        return f"{found[1]} is missing: name a file"
    allowed = {"valid integer": "a whole number", "valid number": "a number", "valid float": "a number"}
    choices = re.search(r"is not one of (.*?)\.?$", text)
    kind = next((words for part, words in allowed.items() if part in text), choices and choices[1].replace("'", ""))
    option = next((word for word in getattr(getattr(error, "param", None), "opts", ()) if word.startswith("-")), "")
    if not kind or not option:
        return ""
    values = [after for word, after in itertools.pairwise(args) if word == option]
    values += [word.partition("=")[2] for word in args if word.startswith(f"{option}=")]
    return f"{option} {shlex.quote(values[-1]) if values else ''}: must be {kind}"


_FORGOTTEN = {"sample": "--prompt", "evaluate": "--text"}
"""The option that the second of several words without one is meant for."""

_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")
"""Suffixes of pictures, which are no runs."""


def _advice_about_words(command: str, words: list[str]) -> Iterator[Advice]:
    """Yield what to write for words without an option that are no run."""
    option = _FORGOTTEN.get(command)
    first = words[0] if words else ""
    if command == "sample" and " " in first.strip() and not path_exists(first):
        yield Advice(first, f"--prompt {shlex.quote(' '.join(words))}")
    elif command == "evaluate" and Path(first).suffix not in (".safetensors", ".ckpt") and Path(first).is_file():
        yield Advice(first, f"--text {shlex.quote(first)}")
    elif command in ("plot", "gradients", "memory", "carry", "neurons"):
        for word in words:
            if Path(word).suffix in _PICTURES:
                yield Advice(word, f"--output {shlex.quote(word)}")
    elif option and len(words) > 1:
        text = " ".join(words[1:]) if command == "sample" else words[1]
        yield Advice(text, f"{option} {shlex.quote(text)}")


def _advice_about_options(command: Any, ctx: Any, args: Sequence[str]) -> Iterator[Advice]:
    if command.context_settings.get("ignore_unknown_options"):  # of `train`, which reads them itself
        return
    tables = {"sample": SAMPLE, "evaluate": EVALUATE, "plot": PLOT, "doctor": DOCTOR}
    synonyms = tables.get(str(command.name), OTHERS)
    takes_value = {
        option: not getattr(param, "is_flag", False)
        for param in command.get_params(ctx)
        for option in (*param.opts, *param.secondary_opts)
        if option.startswith("-")
    }
    rest, texts = list(args), []
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            texts += rest
            break
        if name in takes_value:
            if takes_value[name] and not equals:
                del rest[:1]
            continue
        is_dashed = word.startswith("-") and word != "-"
        if not is_dashed and (not equals or path_exists(word)):
            texts.append(word)
            continue
        option = f"--{normalized(name).replace('_', '-')}"
        is_value = is_dashed and not equals and bool(rest) and not looks_like_option(rest[0])
        if is_value and (takes_value.get(option) or synonyms.takes_value(name, rest[0])):
            value = rest.pop(0)
        typed = f"{name}={value}" if equals else f"{name} {value}".strip()
        if option in takes_value:
            yield Advice(typed, f"{option} {shlex.quote(value) if value else '…'}" if takes_value[option] else option)
        elif advice := synonyms.advice(typed, name, value):
            yield advice
        elif is_dashed and path_exists(word):
            yield Advice(word, f"./{word}")
        elif is_dashed:
            near = synonyms.nearest(name, takes_value) or f"; `{ctx.command_path} --help` lists the options"
            yield Advice(typed, reason=f"there is no such option{near}")
        elif is_setting(name, value) or advice_about_setting(typed, normalized(name), value, False):
            yield Advice(typed, reason=f"{ctx.command_path} takes no settings of chargen train: leave it out")
        else:
            texts.append(word)
    yield from _advice_about_words(str(command.name), texts)


class SubGroup(_NarrowHelp, typer.core.TyperGroup):
    """Commands below a command, such as those of `chargen inspect`; alone, it prints its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Print the help if no command is given."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command.

        Raises:
            UserError: there is none of that name.
        """
        name = args[0]
        if name in self.commands:
            return super().resolve_command(ctx, args)
        names = ", ".join(self.commands)
        if path_exists(name):
            is_text = Path(name).is_file() and Path(name).suffix not in (".safetensors", ".ckpt")
            first = "text" if is_text and "text" in self.commands else next(iter(self.commands))
            raise UserError(
                f"{name}: write a command before it, such as {ctx.command_path} {first} {shlex.quote(name)}"
            )
        close = difflib.get_close_matches(name, self.commands, n=1)
        meant = f"; did you mean {ctx.command_path} {close[0]}?" if close else ""
        raise UserError(f"{name}: {ctx.command_path} has no such command{meant or f'; it has {names}'}")


class Group(_NarrowHelp, typer.core.TyperGroup):
    """Commands that say what to write instead of an unknown one, and whose reader may go away (`| head`)."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read the command line; `--help` is printed here."""
        with until_reader_goes():
            return super().make_context(*args, **more)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse options of a command that stand before it or without it.

        Raises:
            UserError: there are some.
        """
        known = {"--", *(option for param in self.get_params(ctx) for option in param.opts)}
        if args and args[0].startswith("-") and args[0].partition("=")[0] not in known and not ctx.resilient_parsing:
            raise UserError(self._line_about_options(ctx, args))
        return super().parse_args(ctx, args)

    def _line_about_options(self, ctx: Any, args: list[str]) -> str:
        place = next((number for number, word in enumerate(args) if word in self.commands), None)
        if place is not None:
            name, words = args[place], args[:place]
            found = advice_about_settings(words) if name == "train" else []
            found = found or list(_advice_about_options(self.commands[name], ctx, words))
            behind = shlex.join(["chargen", name, *args[place + 1 :], *words])
            return message(found) or f"{shlex.join(words)}: write options behind the command: {behind}"
        option = args[0].partition("=")[0]
        for name, command in self.commands.items():
            if any(option in param.opts for param in command.get_params(ctx)):
                return f"{shlex.join(args)}: write {shlex.join(['chargen', name, *args])}"
        for name, found in (
            ("train TEXT", advice_about_settings(args)),
            ("sample", list(_advice_about_options(self.commands["sample"], ctx, args))),
        ):
            if found and all(one.instead for one in found):
                first, *others = found
                return message([Advice(first.typed, f"chargen {name} {first.instead}"), *others])
        return f"{option}: there is no such option; `chargen --help` lists the commands"

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
