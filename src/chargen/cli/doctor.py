"""`chargen doctor`: what a text holds, and what each size of model costs on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from chargen.cli.console import ErrorsOption, console
from chargen.errors import TextError

if TYPE_CHECKING:
    from rich.console import Console

    from chargen.insight.text_profile import TextProfile

SHOWN_SYMBOLS, SHOWN_LINES = 10, 5
"""How many rare symbols and how many repeated lines are listed."""

LINE_WIDTH = 76
"""Cells of a terminal that a listed line takes at most."""


def doctor(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Files, a folder or a 'glob', as for train.")],
    encoding: Annotated[str, typer.Option(help="The encoding of the files; auto: find that of each file.")] = "auto",
    errors: ErrorsOption = "strict",
    field: Annotated[
        str, typer.Option(help="Of .csv, .tsv, .parquet and .jsonl files: a column, or a template of several columns.")
    ] = "text",
) -> None:
    """Examine a text before training: what it contains, what looks wrong, and what each size of model costs."""
    from rich.progress import Progress

    from chargen.corpus.files import find_files
    from chargen.corpus.reader import Cleaning
    from chargen.insight.text_profile import RARE, profile_text

    files = find_files(texts)
    out = console()
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("reading", total=3 * sum(file.stat().st_size for file in files))
        profile = profile_text(
            files, Cleaning(encoding, errors=errors, field=field), lambda size: progress.advance(task, size)
        )
    if not profile.num_characters:
        raise TextError(f"{' '.join(texts)}: there is no text in it")
    _print_profile(out, profile, f"{_several(len(files), 'file')}, {profile.num_bytes:,} bytes")
    words = [*map(shlex.quote, texts)]
    words += [shlex.quote(f"corpus.{key}={value}") for key, value, default in
              (("encoding", encoding, "auto"), ("errors", errors, "strict"), ("field", field, "text"))
              if value != default]  # fmt: skip
    num_common = int((profile.counts >= RARE).sum())
    _print_sizes(out, profile.num_symbols + 2, num_common + 2, int(0.9 * profile.num_characters), words)


def _several(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _print_profile(out: Console, profile: TextProfile, files: str) -> None:
    """Print what a text contains; where something looks wrong, print the setting that helps."""
    from chargen.corpus.code_points import printable

    def row(what: str, value: str, setting: str = "") -> None:
        out.print(f"  {what:20}{value}{f': write {setting}' if setting else ''}")

    num_marks = profile.num_byte_order_marks
    row("files", files + (f", {_several(num_marks, 'byte order mark')}" if num_marks else ""))
    for note in profile.notes:
        out.print(f"    {printable(note)}")
    row("characters", f"{profile.num_characters:,}, {profile.num_symbols:,} different")
    ends = ", ".join(f"{num:,} {end}" for end, num in profile.line_ends.most_common())
    mixed = "corpus.normalize_newlines=true to turn them into LF" if set(profile.line_ends) - {"LF"} else ""
    row("line ends", ends or "none", mixed)
    row("longest line", _several(profile.longest_line, "character"))
    if not profile.is_nfc:
        row("combining marks", "some characters are written as several", "corpus.normalize_unicode=true to join them")
    lengths = sorted(profile.article_lengths)
    median = lengths[len(lengths) // 2]
    row("articles", f"{len(lengths):,} of {lengths[0]:,} to {lengths[-1]:,} characters, median {median:,}")
    if profile.num_repeated_articles:
        row("repeated articles", f"{profile.num_repeated_articles:,} are equal to an earlier one: remove them")
    _print_repeated_lines(out, profile)
    _print_rare_symbols(out, profile)


def _print_repeated_lines(out: Console, profile: TextProfile) -> None:
    """Print how many lines are repeated, and those that occur most."""
    from chargen.corpus.code_points import printable
    from chargen.insight.text_profile import MANY_TIMES

    if not profile.num_repeated_lines:
        return
    share = profile.num_repeated_lines / profile.num_lines
    repeated = f"{profile.num_repeated_lines:,} of {profile.num_lines:,} ({share:.1%})"
    out.print(f"  {'repeated lines':20}{repeated} are equal to an earlier one")
    if not profile.repeated_lines:
        return
    number = len(profile.repeated_lines)
    out.print(f"    {_several(number, 'line')} {'occurs' if number == 1 else 'occur'} more than {MANY_TIMES} times:")
    for line, count in list(profile.repeated_lines.items())[:SHOWN_LINES]:
        out.print(f"    {count:7,} x  {_shortened(printable(line), LINE_WIDTH - 15)}")
    if number > SHOWN_LINES:
        out.print(f"    and {number - SHOWN_LINES:,} more")
    out.print(f"    write corpus.drop_repeated_lines={MANY_TIMES} to leave them out, if they are notices")


def _print_rare_symbols(out: Console, profile: TextProfile) -> None:
    """Print which symbols are rare, and what becomes of the text without them."""
    from chargen.corpus.code_points import printable
    from chargen.insight.text_profile import RARE

    rare = profile.rare
    if not rare:
        out.print(f"  {'rare symbols':20}none")
        return
    occurrences = sum(symbol.count for symbol in rare)
    out.print(
        f"  {'rare symbols':20}{len(rare):,} of {profile.num_symbols:,} occur less than {RARE} times, "
        f"{occurrences / profile.num_characters:.2%} of the text"
    )
    for symbol in rare[:SHOWN_SYMBOLS]:
        shown = _padded(symbol.symbol if symbol.symbol.isprintable() else repr(symbol.symbol)[1:-1], 6)
        place = f"{printable(symbol.file.name)}:{symbol.line}:{symbol.column}"
        line = f"{shown} U+{ord(symbol.symbol):04X} {symbol.count} x, first {place}, {symbol.name}"
        out.print(f"    {_shortened(line, LINE_WIDTH)}")
    if len(rare) > SHOWN_SYMBOLS:
        more = "".join(symbol.symbol for symbol in rare[SHOWN_SYMBOLS:] if symbol.symbol.isprintable())
        out.print(f"    and {len(rare) - SHOWN_SYMBOLS:,} more: {_shortened(more, LINE_WIDTH - 20)}")
    out.print(f"    write corpus.min_count={RARE} to turn them into one unknown character")


def _padded(text: str, width: int) -> str:
    """Fill a text with blanks to a number of cells; a wide character takes two."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def _shortened(text: str, width: int) -> str:
    """Cut a text to a number of cells."""
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else f"{set_cell_size(text, width - 1).rstrip()}…"


def _print_sizes(out: Console, vocab_size: int, num_common: int, num_characters: int, words: Sequence[str]) -> None:
    """Print what each size of model costs, how long the good number of passes over the text takes, and what to type.

    Args:
        out: where to print.
        vocab_size: V of the text.
        num_common: V without its rare symbols.
        num_characters: characters to train on.
        words: what to type after `chargen train`.
    """
    from rich.progress import Progress

    from chargen.cli.conf_folder import SIZES, values
    from chargen.config import TrainConfig, parse_model_config
    from chargen.durations import format_duration
    from chargen.insight.text_profile import RARE
    from chargen.nn.speed import NUM_ROUNDS, measure_speeds
    from chargen.planning.advice import good_passes, recommended
    from chargen.planning.length import RunPlan, clock_time
    from chargen.planning.size import head_size, training_megabytes

    train = TrainConfig()
    B, T = train.batch_size, train.sequence_length
    if num_characters < B * T:
        out.print(
            f"  too short to train on with the defaults: write batch_size=1 "
            f"sequence_length={max(1, num_characters // 2)}"
        )
        return
    sizes = [parse_model_config({**values("model", name), "vocab_size": vocab_size}) for name in SIZES]
    models = [replace(model, head_size=head_size(model)) for model in sizes]
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("timing the sizes", total=len(models) * (NUM_ROUNDS + 1))
        speeds = measure_speeds(models, B, T, lambda: progress.advance(task))
    out.print(f"\n  {'size':14}{'parameters':>12}{'memory':>10}{'characters/s':>18}{'passes':>8}  time for them")
    seconds = []
    for name, model, speed in zip(SIZES, models, speeds, strict=True):
        plan = RunPlan(replace(train, model=model), num_characters, vocab_size)
        passes = good_passes(plan.characters_per_pass, plan.num_parameters)
        shortest, typical, longest = (
            plan.seconds_for(passes, rate) for rate in (speed.fastest, speed.typical, speed.slowest)
        )
        seconds.append(typical)
        cost = f"{plan.num_parameters:12,}{training_megabytes(model, B, T):7,.0f} MB"
        rates = f"{_thousands(speed.slowest)} to {_thousands(speed.fastest)} k"
        times = f"{clock_time(shortest)} to {clock_time(longest)}"
        out.print(f"  {f'model={name}':14}{cost}{rates:>18}{passes:8.0f}  {times}")
    best = recommended(seconds)
    length = format_duration(max(1.0, seconds[best]))
    out.print("\n  recommended", soft_wrap=True)
    out.print(f"    chargen train {' '.join(words)} model={SIZES[best]} trainer.max_time={length}", soft_wrap=True)
    if num_common < 0.9 * vocab_size and num_common > 2:
        fewer = replace(sizes[best], vocab_size=num_common)
        fewer = replace(fewer, head_size=head_size(fewer))
        now, then = measure_speeds([models[best], fewer], B, T)
        out.print(
            f"    corpus.min_count={RARE}: {vocab_size - 2:,} symbols become {num_common - 2:,}, and training is "
            f"{then.typical / now.typical:.1f} times as fast"
        )


def _thousands(number: float) -> str:
    """Write a number of thousands with two digits, because a measurement of seconds is known no better."""
    thousands = float(f"{number / 1000:.2g}")
    return f"{thousands:,.0f}" if thousands >= 10 else f"{thousands:.1f}"
