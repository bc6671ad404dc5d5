"""One run from its settings to its files: train, return to a checkpoint if the run diverges, and finish."""

from __future__ import annotations

import json
import math
import platform
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from rich.console import Console

import chargen
from chargen.config import TrainConfig
from chargen.corpus.encoded import Corpus
from chargen.corpus.encodings import run_lengths
from chargen.corpus.tokenizer import Tokenizer
from chargen.durations import format_duration
from chargen.errors import FileError, TextError, UserError
from chargen.nn.precision import bf16_products
from chargen.nn.speed import measure_speed
from chargen.nn.threads import num_threads
from chargen.planning.length import RunLength, RunPlan, clock_time, extended_time
from chargen.planning.size import head_size, require_memory
from chargen.storage.atomic import write_text
from chargen.storage.checkpoint import CHECKPOINT, Checkpoint
from chargen.storage.model_file import ModelFile, digest_of
from chargen.storage.run_folder import CONFIG, METRICS, MODEL, SAMPLES, SUMMARY, TOKENIZER
from chargen.training.attempt import Attempt, RunContext, Start
from chargen.training.best_model import estimate_of, model_file_of
from chargen.training.hardware import BF16, accelerator_of, settle_precision
from chargen.training.initialization import known_symbols
from chargen.training.machine import MachineWatch
from chargen.training.metrics import extra_logger
from chargen.training.module import CharLanguageModel
from chargen.training.rollbacks import fit_with_rollbacks
from chargen.training.signals import Interrupted, raise_signals
from chargen.training.summary import Outcome, finish
from chargen.training.windows import Lanes, TextDataModule

MAX_COMMANDS = 20
"""The most earlier commands of a resumed run that its files keep."""


def train(
    config: TrainConfig,
    corpus: Corpus,
    *,
    console: Console,
    program: str,
    checkpoint: Checkpoint | None = None,
    new_length: bool = False,
    initial: ModelFile | None = None,
    command: str = "",
) -> float:
    """Train a model and write the folder of the run.

    Args:
        config: the settings of the run; of a resumed one, as changed by the user.
        corpus: what to learn from.
        console: where to show the run.
        program: what the user types to start chargen.
        checkpoint: where a run continues; None to begin one.
        new_length: whether the user has given a resumed run another length.
        initial: the model whose weights a new run begins with; None for random ones.
        command: what the user has typed, for the files of the run.

    Returns:
        The held-out score of the best weights, nats per character by protocol B.

    Raises:
        UserError: the settings do not fit the corpus, the machine or the checkpoint, or the run diverges.
        SystemExit: a signal has stopped the run, which has been saved; the code is 128 + the signal.
    """
    if checkpoint is not None:
        _require_same_model(checkpoint, config, corpus)
        if new_length:
            config = _with_extended_time(checkpoint, config, corpus, console)
    Lanes(corpus.train, config.batch_size, config.sequence_length)  # raises if the text is too short
    config, about_precision = settle_precision(config, is_new=checkpoint is None)
    if checkpoint is None and initial is None:
        sized = replace(config.model, vocab_size=corpus.tokenizer.vocab_size)
        config = replace(config, model=replace(config.model, head_size=head_size(sized)))
    require_memory(config, corpus.tokenizer.vocab_size)
    model = replace(config.model, weight_dropout=_weight_dropout(config, corpus, console))
    config = replace(config, model=model)
    run_dir = Path(config.run_dir)
    loggers = [extra_logger(config.logger, run_dir)] if config.logger is not None else []
    metadata = {**_metadata(config, corpus), "command": _commands(checkpoint, command)}
    if initial is not None:
        metadata["init"] = _init_of(config, corpus, initial, console)
    elif checkpoint is not None and "init" in checkpoint.metadata:
        metadata["init"] = checkpoint.metadata["init"]
    context = RunContext(config, corpus, metadata, console, program, loggers, initial)
    plan = context.plan
    length = plan.length
    plan.require_validations()
    is_complete = checkpoint is not None and _is_complete(checkpoint, length, new_length)
    if checkpoint is not None and is_complete:
        _require_no_summary(run_dir, checkpoint)

    data = TextDataModule(
        corpus, config.batch_size, config.sequence_length,
        windows_per_pass=plan.windows_per_pass, validation_limit=config.validation_limit,
    )  # fmt: skip
    machine = MachineWatch()
    attempt = Attempt(context, Start(checkpoint, length.max_seconds, new_length=new_length))
    _write_settings(context, is_new=checkpoint is None)
    threads = num_threads()
    console.print(
        f"model {config.model.cell} {config.model.num_layers} x {config.model.hidden_size}"
        f"{f', head {config.model.head_size}' if config.model.has_projection else ''}: "
        f"{plan.num_parameters:,} parameters; {length}, {threads} thread{'s' if threads > 1 else ''}; into {run_dir}"
    )
    if plan.windows_per_pass < plan.windows_of_text:
        key, limit = config.train_limit
        part = f"{plan.characters_per_pass:,} of {len(corpus.train) - 1:,}"
        console.print(f"each pass reads {part} characters (trainer.{key}={limit})")
    if about_precision:
        console.print(about_precision)
    if length.max_updates and checkpoint is None:
        console.print(f"{length.max_updates:,} updates are {plan.advice(length.max_updates)}")
    if checkpoint is not None and is_complete:
        outcome = Outcome(checkpoint.update, checkpoint.seconds, checkpoint.validation_seconds, machine.report())
        _validate_last(context, attempt.module, data, checkpoint)
    else:
        if checkpoint is not None:
            attempt.metrics.drop_after(checkpoint.update)
        attempt = fit_with_rollbacks(attempt, data)
        outcome = Outcome(
            attempt.trainer.global_step,
            attempt.clock.time_elapsed(),
            attempt.validations.seconds,
            machine.report(),
            attempt.outlook.validations,
        )
        if attempt.was_stopped:
            _leave_stopped_run(attempt)
        if error := attempt.best_model.error or attempt.checkpoints.error:
            raise FileError(f"{error}: make room, then write resume={run_dir} to continue from the last checkpoint")
        if math.isinf(attempt.best_model.best):  # a run without validation keeps its last weights
            attempt.module.model_file().save(run_dir / MODEL)
        if config.early_stopping is not None and not attempt.validations.number:
            context.say(f"early_stopping={config.early_stopping} did nothing: the run had no validation")
    try:
        with raise_signals():
            return finish(context, outcome)
    except Interrupted as interrupted:
        context.say(f"stopped while the end was scored; the run is saved; {_next_step(context)}")
        raise SystemExit(128 + interrupted.signum) from None


# ----------------------------------------------------------------------------- before training


def _require_same_model(checkpoint: Checkpoint, config: TrainConfig, corpus: Corpus) -> None:
    """Compare a checkpoint with the text and the model of the run.

    Raises:
        TextError: the text has changed.
        FileError: the weights are not those of this model.
    """
    checkpoint.model_file()  # compares the shapes of the weights with the model's settings
    if checkpoint.corpus_sha256 != corpus.sha256:
        raise TextError(
            f"the text of corpus {corpus.name} has changed since {checkpoint.file} was written: start a new run"
        )
    if checkpoint.metadata["corpus"].get("characters") not in (None, len(corpus.ids)):
        raise TextError(
            f"the text of corpus {corpus.name} is the same, but this chargen reads it in another way: start a new run"
        )
    if checkpoint.model != replace(config.model, vocab_size=corpus.tokenizer.vocab_size):
        raise FileError(f"{checkpoint.file} is damaged or forged: its model is not the one of its settings")


def _with_extended_time(checkpoint: Checkpoint, config: TrainConfig, corpus: Corpus, console: Console) -> TrainConfig:
    """Add a `trainer.max_time` that the run has already had to the time of the run."""
    V = corpus.tokenizer.vocab_size
    given = RunPlan(config, len(corpus.train), V).length.max_seconds
    planned = RunPlan(checkpoint.config, len(corpus.train), V).length.max_seconds
    if given is None:
        return config
    total = extended_time(given, checkpoint.seconds, planned if checkpoint.is_at_its_end else None)
    if total > given:
        console.print(f"the run has trained {clock_time(checkpoint.seconds)}; it trains {clock_time(given)} more")
    return replace(config, trainer={**config.trainer, "max_time": format_duration(total)})


def _weight_dropout(config: TrainConfig, corpus: Corpus, console: Console) -> float:
    """Return `model.weight_dropout`, chosen from how often the run will read its text if it is not given.

    The value is stored with the run, so a resumed run keeps it. If the length of the run is a time, a short measurement
    on the CPU gives the number of passes. The speed of a GPU is not known beforehand; nothing is dropped there.
    """
    if config.model.weight_dropout is not None:
        return config.model.weight_dropout
    plan = RunPlan(config, len(corpus.train), corpus.tokenizer.vocab_size)

    def chars_per_second() -> float:
        if accelerator_of(config) != "cpu":
            return 0.0
        with bf16_products(config.trainer.get("precision") == BF16):
            return measure_speed(plan.model, config.batch_size, config.sequence_length)

    passes = plan.num_passes(chars_per_second)
    dropped = plan.weight_dropout(passes)
    if dropped:
        console.print(
            f"the text will be read about {passes:,.0f} times: {dropped:.0%} of the recurrent weights are dropped in "
            "each window (model.weight_dropout)"
        )
    return dropped


def _metadata(config: TrainConfig, corpus: Corpus) -> dict[str, Any]:
    """Return what each file of the run stores about it, as plain data: settings, corpus, versions, `start_id`."""
    return {
        "config": config.to_plain(),
        "corpus": {
            "name": corpus.name,
            "sha256": corpus.sha256,
            "characters": len(corpus.ids),
            "vocabulary": len(corpus.tokenizer.symbols),
            "articles": corpus.num_articles,
            "encodings": run_lengths(corpus.encodings),
            "line_end": corpus.line_end,
        },
        "start_id": corpus.start_id,
        "versions": {
            "chargen": chargen.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # a subclass of str otherwise, which is not plain data
            "lightning": lightning.__version__,
            "numpy": np.__version__,
        },
    }


def _commands(checkpoint: Checkpoint | None, command: str) -> str:
    """Return what was typed to make a run, one line for each time that it was started."""
    before = None if checkpoint is None else checkpoint.metadata.get("command")
    lines = before.splitlines()[-MAX_COMMANDS:] if isinstance(before, str) and before else []
    return "\n".join([*lines, command])


def _init_of(config: TrainConfig, corpus: Corpus, initial: ModelFile, console: Console) -> dict[str, Any]:
    """Say how many characters the initial model knows, and return what the files of the run store about it."""
    symbols = known_symbols(corpus.tokenizer, Tokenizer.from_json(initial.tokenizer))
    console.print(
        f"init={config.init}: of the {len(corpus.tokenizer.symbols):,} {corpus.tokenizer.unit}s of this text, "
        f"{symbols.known:,} are known and {symbols.new:,} are new; {symbols.unused:,} of its own are unused; "
        f"learning rate {config.optimizer.learning_rate:g}"
    )
    return {"path": config.init, "sha256": digest_of({}, initial.weights), **symbols._asdict()}


def _write_settings(context: RunContext, *, is_new: bool) -> None:
    """Write the settings and the tokenizer; remove the log of a run that died before its first checkpoint."""
    if is_new:
        for name in (METRICS, SAMPLES):
            (context.run_dir / name).unlink(missing_ok=True)
    settings = yaml.safe_dump(context.config.to_plain(), sort_keys=False, allow_unicode=True)
    write_text(context.run_dir / CONFIG, str(settings))
    write_text(context.run_dir / TOKENIZER, context.corpus.tokenizer.to_json())


# ----------------------------------------------------------------------------- a run whose last update is done


def _is_complete(checkpoint: Checkpoint, length: RunLength, new_length: bool) -> bool:
    """Tell whether the checkpoint is of the run's last update, or written after the time of the run was over."""
    total = length.max_updates if new_length else length.max_updates or checkpoint.total_updates
    is_over = length.max_seconds is not None and checkpoint.seconds >= length.max_seconds
    return is_over or (total is not None and checkpoint.update >= total)


def _require_no_summary(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Refuse to continue a run that has written its summary. A run stopped right after its last update has not.

    Raises:
        UserError: the run has a summary of its last update.
    """
    done = checkpoint.update
    try:
        summary = run_dir / SUMMARY
        is_finished = summary.is_file() and json.loads(summary.read_text(encoding="utf-8"))["updates"] >= done
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        is_finished = False
    if is_finished:
        raise UserError(
            f"the run is complete at {done:,} updates; to continue it, give it more, "
            f"such as trainer.max_steps={2 * done}, or a longer trainer.max_time"
        )


@torch.no_grad()
def _validate_last(
    context: RunContext, module: CharLanguageModel, data: TextDataModule, checkpoint: Checkpoint
) -> None:
    """Run the final validation of a run that was stopped right after its last update."""
    model = context.run_dir / MODEL
    module.load_state_dict(checkpoint.state_dict)
    module.eval()
    module.on_validation_epoch_start()
    windows = data.val_dataloader()
    planned = windows.windows_of(context.plan.validated_characters(checkpoint.update))
    windows.num_windows = checkpoint.validation_windows or planned
    for batch in windows:
        module.validation_step(batch)
    nats = module.validation_mean()
    if nats < estimate_of(model, module):
        model_file_of(module, nats, checkpoint.update).save(model)


def _next_step(context: RunContext) -> str:
    """Return the command that continues a run, on a line of its own."""
    return f"continue with\n  {context.program} train {shlex.quote(f'resume={context.run_dir}')}"


def _leave_stopped_run(attempt: Attempt) -> None:
    """Say what was saved of a run that a signal has stopped, and exit.

    Raises:
        SystemExit: always; the code is 128 + the signal.
    """
    updates, saved_update = attempt.trainer.global_step, attempt.checkpoints.saved_update
    next_step = _next_step(attempt.context)
    saved = "saved" if saved_update == updates else f"saved as of update {saved_update:,}"
    if saved_update != updates and not (attempt.context.run_dir / CHECKPOINT).is_file():
        saved, next_step = "nothing was saved", "begin again"
    attempt.context.say(f"stopped at update {updates:,} and {saved}; {next_step}")
    raise SystemExit(128 + (attempt.checkpoints.stop_signal or 0))
