"""`chargen sample`: write text with a trained model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from chargen.cli.console import ForceOption, RunArgument, as_utf8, at_home, read_text, require_new, text_output, warn
from chargen.errors import ArgumentError, UserError

if TYPE_CHECKING:
    import numpy as np

    from chargen.corpus.tokenizer import Tokenizer

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
    from chargen.sampling.generator import TextGenerator
    from chargen.sampling.params import SamplingParams
    from chargen.storage.run_folder import load_model

    params = SamplingParams(temperature, top_k, top_p, min_p)
    for name, value, least in (("length", length, 1), ("num_samples", num_samples, 1), ("seed", seed or 0, 0)):
        if value < least:
            raise ArgumentError(name, value, f"a whole number from {least} up")
    if num_samples > MAX_SAMPLES:
        raise ArgumentError("num_samples", num_samples, f"at most {MAX_SAMPLES}")
    if prompt_file is not None:
        if prompt:
            raise UserError("--prompt and --prompt-file: give one of them")
        prompt = without_line_end(read_text(prompt_file))
    if within and not prompt:
        raise UserError("--within: give the passage to continue, with --prompt or --prompt-file")
    require_new(output, force=force)
    model = load_model(run)
    training = None
    if novelty:
        from chargen.cli.stored_corpus import corpus_of

        training = corpus_of(model, "--novelty").train
    generator = TextGenerator(model, precision)
    _, unknown_characters = generator.encode_prompt(prompt)
    if unknown_characters:
        named = " ".join(f"{c!r}" for c in unknown_characters[:12]) + (" …" if len(unknown_characters) > 12 else "")
        if unknown == "error":
            raise UserError(f"the model does not know {named}: leave them out, or write --unknown skip")
        warn(f"the model does not know {named}: skipped")
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        if temperature > 0 and top_k != 1:
            warn(f"--seed {seed}")
    seeds = [[seed, number] for number in range(num_samples)]
    pieces = generator.stream_many(
        seeds, prompt, max_length=length, params=params, ignore_eos=ignore_eos, within=within
    )
    with text_output(output) as write:
        samples = _write_in_order(write, pieces, num_samples, prompt)
    if training is not None:
        for number, text in enumerate(samples):
            _report_novelty(f"sample {number + 1}: " if num_samples > 1 else "", training, generator.tokenizer, text)


def without_line_end(text: str) -> str:
    """Remove one line end, LF or CRLF, from the end of a text: editors and `echo` add it, and nobody means it."""
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _report_novelty(which: str, training: np.ndarray, tokenizer: Tokenizer, text: str) -> None:
    """Report on standard error, so that the sample can be piped. Bytes that are not UTF-8 count as new."""
    from chargen.evaluation.novelty import MIN_RUN_LENGTH, measure_novelty

    ids = tokenizer.encode(text)
    found = measure_novelty(training, ids)
    run = tokenizer.decode(ids[found.position : found.position + found.longest_run].tolist())
    shown = run if len(run) <= 60 else f"{run[:57]}..."
    warn(
        f"{which}longest run copied from the training text: {found.longest_run} {tokenizer.unit}s, {shown!r}; "
        f"{found.copied_fraction:.1%} lies in runs of {MIN_RUN_LENGTH} or more"
    )


def _write_in_order(
    write: Callable[[str], object], pieces: Iterator[tuple[int, str]], num_samples: int, prompt: str
) -> list[str]:
    """Write samples one after the other while they are generated side by side: the first one as it comes.

    The prompt is written as it was given, also where the model does not know a character of it.

    Returns:
        What was written of each, without the prompt.
    """
    waiting: list[list[str]] = [[] for _ in range(num_samples)]
    for number in range(num_samples):
        if num_samples > 1:
            write(f"{chr(10) if number else ''}--- sample {number + 1}\n")
        write(prompt + "".join(waiting[number]))
        if number == 0:
            for which, piece in pieces:
                waiting[which].append(piece)
                if which == 0:
                    write(piece)
        write("\n")
    return ["".join(texts) for texts in waiting]
