"""The end of a run: score the best weights, write `summary.json`, and say what to do next."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from chargen.corpus.code_points import printable
from chargen.corpus.encoded import Corpus
from chargen.durations import format_duration
from chargen.errors import FileError
from chargen.evaluation.score import Score, num_utf8_characters, score_streaming
from chargen.nn.model import CharRNN
from chargen.nn.threads import num_threads
from chargen.planning.clipping import clip_advice
from chargen.planning.forecast import Validation, forecast
from chargen.planning.length import clock_time
from chargen.sampling.generator import TextGenerator
from chargen.storage.atomic import write_text
from chargen.storage.model_file import ModelFile
from chargen.storage.run_folder import MODEL, SUMMARY
from chargen.storage.run_log import RunLog, clip_limit
from chargen.training.attempt import RunContext

SAMPLE_LENGTH = 600
"""Characters of the sample shown at the end."""

SCORED_CHARACTERS = 500_000
"""The most characters of the held-out text that the summary scores; `chargen evaluate` scores all."""

LONG_SECONDS = 5.0
"""A score that takes longer than this is announced."""


HALF = 0.5
"""The part of a run whose validations give the forecast that is compared with its end."""


class Outcome(NamedTuple):
    """How far a run came.

    Attributes:
        updates: of the run.
        seconds: that it trained and validated.
        validation_seconds: those of its validations.
        machine: what `MachineWatch` reports.
        validations: of this process, from the first on.
    """

    updates: int
    seconds: float
    validation_seconds: float
    machine: Mapping[str, Any]
    validations: Sequence[Validation] = ()


def finish(context: RunContext, outcome: Outcome) -> float:
    """Score the best weights, write `summary.json`, print the end of a run, and return the score (nats/char)."""
    corpus, console, run_dir = context.corpus, context.console, context.run_dir
    model = ModelFile.load(run_dir / MODEL)
    score = _score(model, corpus, console)
    summary = _summary(context, outcome, model, score)
    write_text(run_dir / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    folder, resume = shlex.quote(str(run_dir)), shlex.quote(f"resume={run_dir}")
    uniform, tokenizer = math.log(model.config.num_symbols), corpus.tokenizer
    per = tokenizer.short_unit
    if not score.nats_per_char <= uniform:
        context.say(
            f"the held-out text is predicted worse than by guessing uniformly, {uniform:.4f} nats/{per}: the run has "
            "diverged, or the model knows a small text by heart; write a smaller optimizer.learning_rate, or use more "
            "text"
        )
    sample: list[str] = []
    if context.config.sample_length:
        text = TextGenerator(model).generate(max_length=SAMPLE_LENGTH, seed=outcome.updates)
        sample = ["\na sample\n", *(f"    {line}" for line in printable(text).strip().splitlines())]
    per_character = summary.get("validation_nats_per_utf8_character")
    in_characters = "" if per_character is None else f"; {per_character:.4f} nats per character of UTF-8"
    lines = (
        f"\nscore       {score.nats_per_char:.4f} nats/{per}   {score.bits_per_char:.4f} bits/{per}   "
        f"({score.characters:,} held-out {tokenizer.unit}s, one carried state{in_characters})",
        f"speed       {summary['chars_per_second']:,.0f} {tokenizer.unit}s/s: {summary['characters_seen']:,} in "
        f"{clock_time(outcome.seconds)}, {outcome.updates:,} updates",
        *_forecast_lines(outcome, per),
        *_clipping_lines(context),
        f"written     {run_dir / MODEL}",
        *sample,
        "\nnext",
    )
    console.print("\n".join(lines))
    context.say(f"  {context.program} sample {folder} --length 2000 --temperature 0.7")
    context.say(f"  {context.program} train {resume} {_twice_as_long(context, outcome)}")
    return score.nats_per_char


def _forecast_lines(outcome: Outcome, per: str) -> list[str]:
    """Return what was forecast in the middle of the run, and how far off it was."""
    early = [one for one in outcome.validations if one.progress <= HALF]
    expected = forecast(early)
    if expected is None:
        return []
    error = expected - outcome.validations[-1].nats
    return [
        f"forecast    {expected:.4f} nats/{per} at {early[-1].progress:.0%} of the run, {abs(error):.4f} "
        f"{'above' if error > 0 else 'below'} the last quick validation"
    ]


def _clipping_lines(context: RunContext) -> list[str]:
    """Return what the gradient norms of the run say about `trainer.gradient_clip_val`."""
    try:
        log = RunLog.read(context.run_dir)
        _, norms = log.points("gradient_norm", where="learning_rate")
        _, clipped = log.points("clip_fraction")
    except FileError:
        return []
    advice = clip_advice(norms)
    if advice is None:
        return []
    limit = clip_limit(context.config.to_plain())
    above = "no clipping by norm" if limit is None else f"{fmean(clipped):.0%} of the updates clipped at {limit:g}"
    return [
        f"gradient    norm {advice.norm:.3g} on average, {above}; usual thresholds are half to ten times the norm: "
        f"trainer.gradient_clip_val={advice.low:.2g} to {advice.high:.2g}"
    ]


def _twice_as_long(context: RunContext, outcome: Outcome) -> str:
    """Return the setting that lets the run continue until it has trained twice as long."""
    seconds = context.plan.length.seconds_if_timed
    return (
        f"trainer.max_steps={2 * outcome.updates}"
        if seconds is None
        else f"trainer.max_time={format_duration(2 * seconds)}"
    )


def _summary(context: RunContext, outcome: Outcome, model: ModelFile, score: Score) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    characters_seen = context.plan.characters_seen(outcome.updates)
    return {
        "validation_nats_per_char": score.nats_per_char,
        "validation_bits_per_char": score.bits_per_char,
        "validation_characters": score.characters,
        **_per_character(context.corpus, score),
        "quick_validation_nats_per_char": model.estimate,
        "best_update": model.metadata.get("updates", outcome.updates),
        "parameters": model.config.num_parameters,
        "updates": outcome.updates,
        "characters_seen": characters_seen,
        "train_seconds": round(outcome.seconds, 3),
        "validation_seconds": round(outcome.validation_seconds, 3),
        "chars_per_second": round(characters_seen / max(outcome.seconds - outcome.validation_seconds, 1e-9), 1),
        "corpus": model.metadata["corpus"],
        "versions": model.metadata["versions"],
        "threads": num_threads(),
        "machine": dict(outcome.machine),
        "command": model.metadata.get("command", ""),
    }


def _per_character(corpus: Corpus, score: Score) -> dict[str, Any]:
    """Return the unit of a model of bytes, and its score per character if its text is UTF-8."""
    if corpus.tokenizer.unit == "character":
        return {}
    scored = corpus.tokenizer.to_bytes(corpus.validation[1 : score.characters + 1])
    number = num_utf8_characters(scored.replace(b"\0", b""))
    per_character = (
        {"validation_nats_per_utf8_character": score.nats_per_char * score.characters / number} if number else {}
    )
    return {"unit": "byte", **per_character}


def _score(model: ModelFile, corpus: Corpus, console: Console) -> Score:
    """Score the beginning of the held-out text; say before how much, and how long it takes if that is long."""
    ids = corpus.validation[: SCORED_CHARACTERS + 1]
    total, of_all = len(ids) - 1, len(corpus.validation) - 1
    part = "" if total == of_all else f"the first {total:,} of "
    console.print(f"scoring the best weights on {part}{of_all:,} held-out characters")
    started, scored, is_said = time.monotonic(), 0, False
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring the held-out text", total=total)

        def advance(num_characters: int) -> None:
            nonlocal scored, is_said
            progress.advance(task, num_characters)
            scored += num_characters
            seconds = time.monotonic() - started
            if not is_said and seconds >= 2.0:  # long enough to estimate the rest
                is_said = True
                left = seconds * (total - scored) / scored
                if left >= LONG_SECONDS:
                    console.print(f"the score takes about {clock_time(left)} more")

        return score_streaming(CharRNN.from_model_file(model), ids, advance)
