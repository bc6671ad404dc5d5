"""`chargen evaluate`: score a text under a model, and under baselines."""

from __future__ import annotations

import json
import math
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Optional

import typer

from chargen.cli.console import ErrorsOption, ForceOption, RunArgument, at_home, console, is_stdout, require_new, warn
from chargen.cli.given_text import encode_given
from chargen.errors import FileError

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from chargen.corpus.tokenizer import Tokenizer
    from chargen.evaluation.score import Score
    from chargen.nn.model import CharRNN
    from chargen.storage.model_file import ModelFile

MAX_UNKNOWN = 0.1
"""A larger fraction of unknown characters makes a score meaningless."""

MEASURED_WINDOWS = 20
"""Windows of the text on which the speed of protocol C is measured."""

ANNOUNCED_SECONDS = 30.0
"""A longer computation is announced."""


def evaluate(
    run: RunArgument = None,
    text: Annotated[
        Optional[str],
        typer.Option(
            callback=at_home,
            help="Score this text instead of the held-out part of the run's own; - for standard input.",
        ),
    ] = None,
    encoding: Annotated[str, typer.Option(help="The encoding of that text; auto: find it.")] = "auto",
    errors: ErrorsOption = "strict",
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also let the model adapt to the text while it reads it: protocol C.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also score letter frequencies, n-grams and compressors.")
    ] = False,
    output: Annotated[
        Optional[Path],
        typer.Option(
            "--json",
            metavar="FILE",
            callback=at_home,
            help="Also write the scores to this JSON file, which must be new; - for standard output.",
        ),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Score a text in nats and bits per character under a model and, if asked for, under baselines."""
    from chargen.cli.stored_corpus import corpus_of
    from chargen.storage.run_folder import load_model

    require_new(output, force=force)
    model = load_model(run)
    needed_by = " and ".join(flag for flag, given in (("--dynamic", dynamic), ("--baselines", baselines)) if given)
    corpus = corpus_of(model, f"leave out {needed_by}") if needed_by else None
    scored = _with_characters(_text_to_score(model, text, encoding, errors), model)
    training = corpus.train if corpus is not None else scored.ids[:0]
    from rich.progress import Progress

    from chargen.corpus.tokenizer import Tokenizer
    from chargen.evaluation.score import require_text
    from chargen.nn.model import CharRNN

    tokenizer = Tokenizer.from_json(model.tokenizer)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise FileError("the model's weights do not fit its tokenizer")
    network = CharRNN.from_model_file(model)
    require_text(scored.ids)
    if dynamic:
        _announce_dynamic(network, scored.ids, len(training))
    out = console(stderr=is_stdout(output))
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        scores = _scores(network, scored.ids, training if dynamic else None, progress)
        rows = _baseline_rows(tokenizer, training, scored.ids, progress) if baselines else []
    _print_scores(out, scored, tokenizer.unit, [*((label, score.nats_per_char) for _, label, score in scores), *rows])
    if output is not None:
        from chargen.evaluation.score import WINDOW_SIZE
        from chargen.storage.atomic import write_text

        report: dict[str, Any] = {"text": scored.name, "unknown_characters": scored.num_unknown}
        for key, _, score in scores:
            report[key] = {"nats_per_char": score.nats_per_char, "bits_per_char": score.bits_per_char,
                           "characters": score.characters}  # fmt: skip
        report["windowed"]["window"] = WINDOW_SIZE
        if tokenizer.unit == "byte":
            report["unit"] = "byte"
            if scored.num_utf8 is not None:
                report["utf8_characters"] = scored.num_utf8
        if baselines:
            report["baselines"] = dict(rows)
        content = json.dumps(report, indent=2, ensure_ascii=is_stdout(output)) + "\n"
        if is_stdout(output):
            sys.stdout.write(content)
        else:
            write_text(output, content, allow_pipes=True)


def _print_scores(out: Console, scored: _ScoredText, unit: str, rows: list[tuple[str, float]]) -> None:
    """Print the label of each row and its nats per character, and warn about unknown characters."""
    from chargen.corpus.tokenizer import short_unit

    num_characters = len(scored.ids) - 1
    unknown = scored.num_unknown / num_characters
    out.print(f"{scored.name}: {num_characters:,} {unit}s")
    if scored.num_unknown:
        out.print(
            f"  {scored.num_unknown:,} of them ({unknown:.1%}) are unknown to the model, and scored as the unknown "
            "character"
        )
    label_width = min(42, max(16, out.width - 24)) if out.is_terminal else 42
    per = short_unit(unit)
    out.print(f"  {'protocol':{label_width}}{f'nats/{per}':>11}{f'bits/{per}':>11}")
    for label, nats in rows:
        *first, last = textwrap.wrap(label, label_width - 1)
        for part in first:
            out.print(f"  {part}")
        out.print(f"  {last:{label_width}}{nats:11.4f}{nats / math.log(2):11.4f}")
    if scored.num_utf8 is not None:
        ratio = num_characters / scored.num_utf8
        out.print(
            f"  {scored.num_utf8:,} characters in UTF-8: nats per character are {ratio:.4f} times as many, "
            f"{ratio * rows[1][1]:.4f} by protocol B"
        )
    if unknown > MAX_UNKNOWN:
        warn(
            f"{unknown:.1%} of the {unit}s of {scored.name} are unknown to the model, so these scores say little "
            "about the text: check --encoding, and that the model has learned from a text in this script"
        )


class _ScoredText(NamedTuple):
    """A text to score: its ids with one of context in front, its name, and how many characters are unknown.

    In a model of bytes, also how many characters of UTF-8 the bytes are; None if they are not.
    """

    ids: np.ndarray
    name: str
    num_unknown: int
    num_utf8: int | None = None


def _text_to_score(model: ModelFile, text: str | None, encoding: str, errors: str) -> _ScoredText:
    import numpy as np

    from chargen.cli.stored_corpus import corpus_of
    from chargen.corpus.tokenizer import UNKNOWN_ID

    if text is not None:
        encoded = encode_given(text, model, encoding, errors)
        name = "standard input" if text == "-" else text
        return _ScoredText(np.insert(encoded, 0, model.start_id), name, int((encoded == UNKNOWN_ID).sum()))
    corpus = corpus_of(model)
    ids = corpus.validation
    return _ScoredText(ids, f"held-out text of corpus {corpus.name}", int((ids[1:] == UNKNOWN_ID).sum()))


def _with_characters(scored: _ScoredText, model: ModelFile) -> _ScoredText:
    """Count the characters of a text that a model of bytes scores."""
    from chargen.corpus.tokenizer import Tokenizer
    from chargen.evaluation.score import num_utf8_characters

    tokenizer = Tokenizer.from_json(model.tokenizer)
    if tokenizer.unit == "character" or scored.num_unknown or tokenizer.vocab_size != model.config.vocab_size:
        return scored
    data = tokenizer.to_bytes(scored.ids[1:]).replace(b"\0", b"")
    return scored._replace(num_utf8=num_utf8_characters(data) or None)


def _announce_dynamic(network: CharRNN, ids: np.ndarray, num_training: int) -> None:
    """Measure the speed of protocol C on the first windows; say how long it takes if that is longer than a moment.

    Args:
        network: the model.
        ids: (N+1,) what is scored.
        num_training: the number of characters in the training text.
    """
    from chargen.evaluation.dynamic import MAX_TRAINING_WINDOWS, SGD, score_dynamic

    T = SGD.window_size
    score_dynamic(network, ids[: T + 1], SGD)  # the first window is slower than the others
    measured = ids[: MEASURED_WINDOWS * T + 1]
    begin = time.perf_counter()
    score_dynamic(network, measured, SGD)
    seconds_per_char = (time.perf_counter() - begin) / (len(measured) - 1)
    seconds = seconds_per_char * (2 * (len(ids) - 1) + min(MAX_TRAINING_WINDOWS * T, num_training))
    if seconds > ANNOUNCED_SECONDS:
        time_needed = f"{seconds / 60:.0f} minutes" if seconds > 100 else f"{seconds:.0f} seconds"
        warn(
            f"--dynamic takes about {time_needed} for these {len(ids) - 1:,} characters on this machine; without it, "
            "or with a shorter --text, it is faster"
        )


def _scores(
    network: CharRNN, ids: np.ndarray, training: np.ndarray | None, progress: Progress
) -> list[tuple[str, str, Score]]:
    """Return keys, labels and scores by protocols A and B, and by C if there is a training text."""
    from chargen.evaluation.dynamic import MAX_TRAINING_WINDOWS, RMS, SGD, gradient_mean_squares, score_dynamic
    from chargen.evaluation.score import WINDOW_SIZE, score_streaming, score_windowed

    N = len(ids) - 1
    task = progress.add_task("scoring", total=2 * N)

    def advance(num_characters: int) -> None:
        progress.advance(task, num_characters)

    scores = [
        ("windowed", f"A  windows of {WINDOW_SIZE}, zero state", score_windowed(network, ids, advance)),
        ("streaming", "B  streaming, one carried state", score_streaming(network, ids, advance)),
    ]
    if training is not None:
        num_measured = min(MAX_TRAINING_WINDOWS * RMS.window_size, len(training) - 1)
        task = progress.add_task("protocol C", total=2 * N + num_measured)
        squares = gradient_mean_squares(network, training, RMS.window_size, advance)
        rms, sgd = score_dynamic(network, ids, RMS, squares, advance), score_dynamic(network, ids, SGD, None, advance)
        scores += [("dynamic_rms", "C  dynamic, RMS rule", rms), ("dynamic_sgd", "C  dynamic, SGD rule", sgd)]
    return scores


def _baseline_rows(
    tokenizer: Tokenizer, training: np.ndarray, ids: np.ndarray, progress: Progress
) -> list[tuple[str, float]]:
    """Return the name of each baseline and its nats per character."""
    from chargen.evaluation.baselines import score_baselines

    task = progress.add_task("baselines", total=4)

    def advance(_: str) -> None:
        progress.advance(task)

    rows = score_baselines(training, ids, tokenizer.vocab_size, tokenizer.to_bytes, advance)
    return [(row.label, row.nats_per_char) for row in rows]
