"""The end of a run: score the best weights, write `summary.json`, and say what to do next."""

from __future__ import annotations

import json
import shlex
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from chargen.corpus.code_points import printable
from chargen.evaluation.score import Score, score_streaming
from chargen.nn.model import CharRNN
from chargen.planning.length import clock_time
from chargen.sampling.generator import TextGenerator
from chargen.storage.atomic import write_text
from chargen.storage.model_file import ModelFile
from chargen.storage.run_folder import MODEL, SUMMARY
from chargen.training.attempt import RunContext

SAMPLE_LENGTH = 600
"""Characters of the sample shown at the end."""

SCORED_CHARACTERS = 500_000
"""The most characters of the held-out text that the summary scores; `chargen evaluate` scores all."""


class Outcome(NamedTuple):
    """How far a run came.

    Attributes:
        updates: of the run.
        seconds: that it trained.
    """

    updates: int
    seconds: float


def finish(context: RunContext, outcome: Outcome) -> float:
    """Score the best weights, write `summary.json`, print the end of a run, and return the score (nats/char)."""
    corpus, console, run_dir = context.corpus, context.console, context.run_dir
    model = ModelFile.load(run_dir / MODEL)
    ids = corpus.validation[: SCORED_CHARACTERS + 1]
    score = _score(model, ids, console)
    summary = _summary(context, outcome, model, score)
    write_text(run_dir / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    sample = TextGenerator(model).generate(max_length=SAMPLE_LENGTH, seed=outcome.updates)
    of_all = "" if len(ids) == len(corpus.validation) else f" of {len(corpus.validation) - 1:,}"
    folder, resume = shlex.quote(str(run_dir)), shlex.quote(f"resume={run_dir}")
    lines = (
        f"\nvalidation  {score.nats_per_char:.4f} nats/char   {score.bits_per_char:.4f} bits/char   "
        f"({score.characters:,}{of_all} held-out characters, one carried state)",
        f"speed       {summary['chars_per_second']:,.0f} characters/s: {summary['characters_seen']:,} in "
        f"{clock_time(outcome.seconds)}, {outcome.updates:,} updates",
        f"written     {run_dir / MODEL}",
        "\na sample\n",
        *(f"    {line}" for line in printable(sample).strip().splitlines()),
        "\nnext",
        f"  {context.program} sample {folder} --length 2000 --temperature 0.7",
        f"  {context.program} train {resume} trainer.max_steps={2 * outcome.updates}",
    )
    console.print("\n".join(lines))
    return score.nats_per_char


def _summary(context: RunContext, outcome: Outcome, model: ModelFile, score: Score) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    characters_seen = context.plan.characters_seen(outcome.updates)
    return {
        "validation_nats_per_char": score.nats_per_char,
        "validation_bits_per_char": score.bits_per_char,
        "validation_characters": score.characters,
        "best_update": model.metadata.get("updates", outcome.updates),
        "parameters": model.config.num_parameters,
        "updates": outcome.updates,
        "characters_seen": characters_seen,
        "train_seconds": round(outcome.seconds, 2),
        "chars_per_second": round(characters_seen / max(outcome.seconds, 1e-9), 1),
        "corpus": model.metadata["corpus"],
        "versions": model.metadata["versions"],
        "threads": torch.get_num_threads(),
    }


def _score(model: ModelFile, ids: np.ndarray, console: Console) -> Score:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring the held-out text", total=len(ids) - 1)
        return score_streaming(CharRNN.from_model_file(model), ids, lambda num: progress.advance(task, num))
