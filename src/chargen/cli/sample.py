"""`chargen sample`: write text with a trained model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

import typer

from chargen.cli.console import (
    ForceOption,
    RunArgument,
    as_text,
    as_utf8,
    at_home,
    is_stdout,
    read_bytes,
    require_new,
    text_output,
    warn,
)
from chargen.errors import ArgumentError, UserError

if TYPE_CHECKING:
    import numpy as np

    from chargen.corpus.tokenizer import Tokenizer

Text = TypeVar("Text", str, bytes)

MAX_SAMPLES = 10_000
"""The most samples that are written side by side: each holds a state of the network."""


def sample(
    run: RunArgument = None,
    prompt: Annotated[str, typer.Option(callback=as_utf8, help="Text to begin with.")] = "",
    prompt_file: Annotated[
        Optional[str], typer.Option(callback=at_home, help="A file to begin with, or - for standard input.")
    ] = None,
    length: Annotated[int, typer.Option(help="Characters to write at most (bytes, for a byte model).")] = 1000,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits: lower is safer, higher is bolder, 0 takes the likeliest.")
    ] = 0.8,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest characters only; 0 for all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the likeliest characters that hold this probability together.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Leave out characters less likely than this fraction of the likeliest one.")
    ] = 0.0,
    seed: Annotated[
        Optional[int],
        typer.Option(help="The same seed writes the same text. If none is given, one is drawn and shown."),
    ] = None,
    num_samples: Annotated[int, typer.Option(help="How many samples to write, side by side.")] = 1,
    precision: Annotated[
        Literal["float32", "int8"],
        typer.Option(help="Precision of the weights: int8 is faster and predicts a little worse."),
    ] = "float32",
    novelty: Annotated[
        bool, typer.Option("--novelty", help="Report how much of each sample is copied from the training text.")
    ] = False,
    output: Annotated[
        Optional[Path],
        typer.Option(callback=at_home, help="Write to this file, which must be new, or to standard output for -."),
    ] = None,
    force: ForceOption = False,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Continue after the end of an article instead of stopping.")
    ] = False,
    within: Annotated[
        bool, typer.Option("--within", help="The prompt is a passage from within an article, not its beginning.")
    ] = False,
    unknown: Annotated[
        Literal["skip", "error"], typer.Option(help="What to do with characters of the prompt the model does not know.")
    ] = "skip",
) -> None:
    """Write text in the manner of the training text."""
    from chargen.sampling.generator import TextGenerator, with_line_ends
    from chargen.sampling.params import SamplingParams
    from chargen.storage.run_folder import load_model

    params = SamplingParams(temperature, top_k, top_p, min_p)
    for name, value, least in (("length", length, 1), ("num_samples", num_samples, 1), ("seed", seed or 0, 0)):
        if value < least:
            raise ArgumentError(name, value, f"a whole number from {least} up")
    if num_samples > MAX_SAMPLES:
        raise ArgumentError("num_samples", num_samples, f"at most {MAX_SAMPLES}")
    if prompt_file is not None and prompt:
        raise UserError("--prompt and --prompt-file: give one of them")
    content = (
        prompt.encode("utf-8", "surrogateescape") if prompt_file is None else without_line_end(read_bytes(prompt_file))
    )
    if within and not content:
        raise UserError("--within: give the passage to continue, with --prompt or --prompt-file")
    require_new(output, force=force)
    model = load_model(run)
    training = None
    if novelty:
        from chargen.cli.stored_corpus import corpus_of

        training = corpus_of(model, "leave out --novelty").train
    generator = TextGenerator(model, precision)
    given: str | bytes = content
    if generator.tokenizer.unit == "character":
        given = with_line_ends(as_text(content, prompt_file) if prompt_file is not None else prompt, model.line_end)
    _, unknown_characters = generator.encode_prompt(given)
    if unknown_characters:
        named = " ".join(f"{c!r}" for c in unknown_characters[:12]) + (" …" if len(unknown_characters) > 12 else "")
        if unknown == "error":
            raise UserError(f"the model does not know {named}: leave them out, or write --unknown skip")
        done = "read as the unknown character" if model.knows_unknown else "skipped"
        warn(f"the model does not know {named}: {done}")
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        if temperature > 0 and top_k != 1:
            warn(f"--seed {seed}")
    seeds = [[seed, number] for number in range(num_samples)]
    options: dict[str, Any] = dict(max_length=length, params=params, ignore_eos=ignore_eos, within=within)
    with text_output(output) as write:
        samples: list[Any]
        if isinstance(given, bytes):  # what a model of bytes writes is written as it is
            is_plain = num_samples == 1 and not (is_stdout(output or Path("-")) and sys.stdout.isatty())
            pieces_of_bytes = generator.stream_many(seeds, given, **options)
            samples = _write_in_order(write, pieces_of_bytes, num_samples, given, "" if is_plain else "\n")
        else:
            pieces = generator.stream_many(seeds, given, **options)
            samples = _write_in_order(write, pieces, num_samples, given, model.line_end)
    if training is not None:
        for number, sample in enumerate(samples):
            which = f"sample {number + 1}: " if num_samples > 1 else ""
            _report_novelty(which, training, generator.tokenizer, sample)


def without_line_end(content: bytes) -> bytes:
    """Remove one line end, LF or CRLF, from the end of a text: editors and `echo` add it, and nobody means it."""
    return content.removesuffix(b"\n").removesuffix(b"\r") if content.endswith(b"\n") else content


def _report_novelty(which: str, training: np.ndarray, tokenizer: Tokenizer, text: str | bytes) -> None:
    """Report on standard error, so that the sample can be piped."""
    from chargen.evaluation.novelty import MIN_RUN_LENGTH, measure_novelty

    ids = tokenizer.encode(text) if isinstance(text, str) else tokenizer.encode_bytes(text)
    found = measure_novelty(training, ids)
    run = tokenizer.decode(ids[found.position : found.position + found.longest_run].tolist())
    shown = run if len(run) <= 60 else f"{run[:57]}..."
    warn(
        f"{which}longest run copied from the training text: {found.longest_run} {tokenizer.unit}s, {shown!r}; "
        f"{found.copied_fraction:.1%} lies in runs of {MIN_RUN_LENGTH} or more"
    )


def _write_in_order(
    write: Callable[[str | bytes], object],
    pieces: Iterator[tuple[int, Text]],
    num_samples: int,
    prompt: Text,
    line_end: str,
) -> list[Text]:
    """Write samples one after the other while they are generated side by side: the first one as it comes.

    The prompt is written as it was given, also where the model does not know a character of it.

    Returns:
        What was written of each, without the prompt.
    """
    joined = type(prompt)().join
    waiting: list[list[Text]] = [[] for _ in range(num_samples)]
    for number in range(num_samples):
        if num_samples > 1:
            write(f"{line_end if number else ''}--- sample {number + 1}{line_end}")
        write(prompt + joined(waiting[number]))
        if number == 0:
            for which, piece in pieces:
                waiting[which].append(piece)
                if which == 0:
                    write(piece)
        write(line_end)
    return [joined(texts) for texts in waiting]
