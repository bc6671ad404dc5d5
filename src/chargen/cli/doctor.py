"""`chargen doctor`: what a text holds, and what each size of model costs on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from chargen.cli.console import console
from chargen.errors import TextError

if TYPE_CHECKING:
    from rich.console import Console

    from chargen.insight.text_profile import TextProfile

SHOWN_SYMBOLS = 10
"""How many rare symbols are listed."""


def doctor(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Files, a folder or a 'glob', as for train.")],
    encoding: Annotated[str, typer.Option(help="The encoding of the files; auto: find that of each file.")] = "auto",
    field: Annotated[
        str,
        typer.Option(help="Of .csv, .tsv, .parquet and .jsonl files: a column, or a template of several in braces."),
    ] = "text",
) -> None:
    """Examine a text before training: what it contains, what looks wrong, and what each size of model costs."""
    from rich.progress import Progress

    from chargen.corpus.files import find_files
    from chargen.corpus.reader import Cleaning
    from chargen.insight.text_profile import profile_text

    files = find_files(texts)
    out = console()
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("reading", total=3 * sum(file.stat().st_size for file in files))
        profile = profile_text(files, Cleaning(encoding, field=field), lambda size: progress.advance(task, size))
    if not profile.num_characters:
        raise TextError(f"{' '.join(texts)}: there is no text in it")
    _print_profile(out, profile, f"{_several(len(files), 'file')}, {profile.num_bytes:,} bytes")
    for note in profile.notes:
        out.print(f"  {note}")
    _print_sizes(out, profile.num_symbols + 2, int(0.9 * profile.num_characters))


def _several(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _print_profile(out: Console, profile: TextProfile, files: str) -> None:
    """Print what a text contains; where something looks wrong, print the setting that helps."""
    from chargen.corpus.code_points import printable
    from chargen.insight.text_profile import LONG_LINE, RARE

    def row(what: str, value: str, setting: str = "") -> None:
        out.print(f"  {what:20}{value}{f': write {setting}' if setting else ''}")

    num_marks = profile.num_byte_order_marks
    row("files", files + (f", {_several(num_marks, 'byte order mark')}" if num_marks else ""))
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
    if profile.num_long_lines:
        share = profile.num_repeated_lines / profile.num_long_lines
        row("repeated lines", f"{share:.1%} of the lines of {LONG_LINE} characters and more")
    fold = f"corpus.min_count={RARE} to turn them into the unknown character" if profile.rare else ""
    row("rare symbols", f"{len(profile.rare):,} occur less than {RARE} times" if profile.rare else "none", fold)
    for rare in profile.rare[:SHOWN_SYMBOLS]:
        place = f"{printable(str(rare.file))}:{rare.line}:{rare.column}"
        out.print(f"    {rare.symbol!r:8} U+{ord(rare.symbol):04X} {rare.name:40} {rare.count} x, first {place}")
    if len(profile.rare) > SHOWN_SYMBOLS:
        out.print(f"    and {len(profile.rare) - SHOWN_SYMBOLS:,} more")


def _print_sizes(out: Console, vocab_size: int, num_characters: int) -> None:
    """Print what each size of model costs, and how long the good number of passes over the text takes."""
    from rich.progress import Progress

    from chargen.cli.conf_folder import SIZES, values
    from chargen.config import TrainConfig, parse_model_config
    from chargen.durations import format_duration
    from chargen.nn.speed import NUM_ROUNDS, measure_speeds
    from chargen.planning.advice import good_passes
    from chargen.planning.length import RunPlan, clock_time
    from chargen.planning.size import training_megabytes

    train = TrainConfig()
    B, T = train.batch_size, train.sequence_length
    if num_characters < B * T:
        out.print(
            f"  too short to train on with the defaults: write batch_size=1 "
            f"sequence_length={max(1, num_characters // 2)}"
        )
        return
    models = [parse_model_config({**values("model", name), "vocab_size": vocab_size}) for name in SIZES]
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("timing the sizes", total=len(models) * (NUM_ROUNDS + 1))
        speeds = measure_speeds(models, B, T, lambda: progress.advance(task))
    out.print(
        f"\n  {'size':14}{'parameters':>12}{'memory':>10}{'characters/s':>22}{'passes':>8}   time for these passes"
    )
    for name, model, speed in zip(SIZES, models, speeds, strict=True):
        plan = RunPlan(replace(train, model=model), num_characters, vocab_size)
        passes = good_passes(plan.characters_per_pass, plan.num_parameters)
        shortest, typical, longest = (
            plan.seconds_for(passes, rate) for rate in (speed.fastest, speed.typical, speed.slowest)
        )
        cost = f"{plan.num_parameters:12,}{training_megabytes(model, B, T):7,.0f} MB"
        rates = f"{_rounded(speed.slowest)} to {_rounded(speed.fastest)}"
        times = f"trainer.max_time={format_duration(typical)}, {clock_time(shortest)} to {clock_time(longest)}"
        out.print(f"  {f'model={name}':14}{cost}{rates:>22}{passes:8.0f}   {times}")


def _rounded(number: float) -> str:
    """Write a number with two digits, because a measurement of seconds is known no better."""
    return f"{float(f'{number:.2g}'):,.0f}"
