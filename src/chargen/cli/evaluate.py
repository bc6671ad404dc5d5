"""`chargen evaluate`: score a text under a model, and under baselines."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Optional

import typer

from chargen.cli.console import RunArgument, console
from chargen.errors import FileError

if TYPE_CHECKING:
    import numpy as np
    from rich.progress import Progress

    from chargen.corpus.tokenizer import Tokenizer
    from chargen.evaluation.score import Score
    from chargen.storage.model_file import ModelFile


def evaluate(
    run: RunArgument = None,
    text: Annotated[
        Optional[str], typer.Option(help="Score this text instead of the held-out part of the run's own.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="The encoding of that text.")] = "utf-8",
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also let the model adapt to the text while it reads it: protocol C.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also score letter frequencies, n-grams and compressors.")
    ] = False,
    output: Annotated[
        Optional[Path], typer.Option("--json", metavar="FILE", help="Also write the scores to this JSON file.")
    ] = None,
) -> None:
    """Score a text in nats and bits per character under a model and, if asked for, under baselines."""
    from chargen.cli.stored_corpus import corpus_of
    from chargen.storage.run_folder import load_model

    model = load_model(run)
    needed_by = " and ".join(flag for flag, given in (("--dynamic", dynamic), ("--baselines", baselines)) if given)
    corpus = corpus_of(model, needed_by) if needed_by else None
    scored = _text_to_score(model, text, encoding)
    training = corpus.train if corpus is not None else scored.ids[:0]
    from rich.progress import Progress

    from chargen.corpus.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_json(model.tokenizer)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise FileError("the model's weights do not fit its tokenizer")
    out = console()
    with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
        scores = _scores(model, scored.ids, training if dynamic else None, progress)
        rows = _baseline_rows(tokenizer, training, scored.ids, progress) if baselines else []
    out.print(f"{scored.name}: {len(scored.ids) - 1:,} {tokenizer.unit}s")
    if scored.num_unknown:
        out.print(f"  {scored.num_unknown:,} of them are unknown to the model, and scored as the unknown character")
    out.print(f"  {'protocol':42}{'nats/char':>11}{'bits/char':>11}")
    for label, nats in (*((label, score.nats_per_char) for _, label, score in scores), *rows):
        out.print(f"  {label:42}{nats:11.4f}{nats / math.log(2):11.4f}")
    if output is not None:
        from chargen.evaluation.score import WINDOW_SIZE
        from chargen.storage.atomic import write_text

        report: dict[str, Any] = {"text": scored.name, "unknown_characters": scored.num_unknown}
        for key, _, score in scores:
            report[key] = {"nats_per_char": score.nats_per_char, "bits_per_char": score.bits_per_char,
                           "characters": score.characters}  # fmt: skip
        report["windowed"]["window"] = WINDOW_SIZE
        if baselines:
            report["baselines"] = dict(rows)
        write_text(output, json.dumps(report, indent=2, ensure_ascii=False) + "\n", allow_pipes=True)


class _ScoredText(NamedTuple):
    """A text to score: its ids with one of context in front, its name, and how many characters are unknown."""

    ids: np.ndarray
    name: str
    num_unknown: int


def _text_to_score(model: ModelFile, text: str | None, encoding: str) -> _ScoredText:
    import numpy as np

    from chargen.cli.stored_corpus import corpus_of
    from chargen.corpus.encoded import encode_file
    from chargen.corpus.reader import Cleaning
    from chargen.corpus.tokenizer import UNKNOWN_ID, Tokenizer

    if text is not None:
        cleaning = {key: model.cleaning[key] for key in ("normalize_newlines", "normalize_unicode")}
        tokenizer = Tokenizer.from_json(model.tokenizer)
        encoded = encode_file(text, tokenizer, Cleaning(encoding, tokenizer.unit, **cleaning))
        return _ScoredText(np.insert(encoded, 0, model.start_id), text, int((encoded == UNKNOWN_ID).sum()))
    corpus = corpus_of(model)
    ids = corpus.validation
    return _ScoredText(ids, f"held-out text of corpus {corpus.name}", int((ids[1:] == UNKNOWN_ID).sum()))


def _scores(
    model: ModelFile, ids: np.ndarray, training: np.ndarray | None, progress: Progress
) -> list[tuple[str, str, Score]]:
    """Return keys, labels and scores by protocols A and B, and by C if there is a training text."""
    from chargen.evaluation.dynamic import MAX_TRAINING_WINDOWS, RMS, SGD, gradient_mean_squares, score_dynamic
    from chargen.evaluation.score import WINDOW_SIZE, score_streaming, score_windowed
    from chargen.nn.model import CharRNN

    network, N = CharRNN.from_model_file(model), len(ids) - 1
    more = 0 if training is None else 2 * N + min(MAX_TRAINING_WINDOWS * RMS.window_size, len(training) - 1)
    task = progress.add_task("scoring", total=2 * N + more)

    def advance(num_characters: int) -> None:
        progress.advance(task, num_characters)

    scores = [
        ("windowed", f"A  windows of {WINDOW_SIZE}, zero state", score_windowed(network, ids, advance)),
        ("streaming", "B  streaming, one carried state", score_streaming(network, ids, advance)),
    ]
    if training is not None:
        squares = gradient_mean_squares(network, training, RMS.window_size, advance)
        rms, sgd = score_dynamic(network, ids, RMS, squares, advance), score_dynamic(network, ids, SGD, None, advance)
        scores += [("dynamic_rms", "C  dynamic, RMS rule", rms), ("dynamic_sgd", "C  dynamic, SGD rule", sgd)]
    return scores


def _baseline_rows(
    tokenizer: Tokenizer, training: np.ndarray, ids: np.ndarray, progress: Progress
) -> list[tuple[str, float]]:
    """Return the name of each baseline and its nats per character."""
    from chargen.evaluation.baselines import score_baselines

    task = progress.add_task("counting and compressing", total=4)

    def advance(_: str) -> None:
        progress.advance(task)

    rows = score_baselines(training, ids, tokenizer.vocab_size, tokenizer.to_bytes, advance)
    return [(f"{row.name}, {'adaptive' if row.adaptive else 'static'}", row.nats_per_char) for row in rows]
