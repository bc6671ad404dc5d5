"""One run from checked settings to its folder: trains, scores the best weights, says what came out."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import platform
import shlex
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, EarlyStopping, Timer
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.progress import Progress

import chargen
from chargen import native
from chargen.config import DEFAULT_MAX_TIME, TrainConfig, parse_duration, read
from chargen.corpus.code_points import printable
from chargen.corpus.encoded import Corpus
from chargen.evaluation.score import Score, score_streaming
from chargen.insight.text_profile import machine_megabytes, megabytes_of, parameters_of, size_of
from chargen.nn.model import CharRNN, ModelConfig
from chargen.planning.advice import advice, weight_dropout
from chargen.sampling.generator import TextGenerator
from chargen.storage.atomic import atomic_write, previous_path
from chargen.storage.model_file import ESTIMATE, ModelFile
from chargen.storage.run_folder import CHECKPOINT, MODEL, load_checkpoint, portable_of, undamaged
from chargen.training.callbacks import (
    VALIDATIONS,
    BestModelWriter,
    CheckpointFiles,
    CheckpointWriter,
    ProgressReport,
    RunLengthCallback,
    duration,
    estimate_of,
    leave_out_empty_hooks,
)
from chargen.training.divergence import MAX_ROLLBACKS, Diverged
from chargen.training.metrics import MetricsFile, extra_logger
from chargen.training.module import VALIDATION_SCORE, CharLanguageModel, Plan
from chargen.training.windows import Lanes, TextDataModule

SAMPLE_LENGTH = 600
"""Characters of the text shown at the end."""

SCORED_CHARACTERS = 500_000
"""Of a longer held-out text, the summary scores no more than this; `chargen evaluate` scores all."""


def fit(
    settings: dict[str, Any],
    corpus: Corpus,
    console: Console,
    new_length: bool,
    program: str,
) -> float | None:
    """Runs a training from its settings, or goes on with one, and writes its folder.

    Args:
        settings: the settings as plain data, to be kept beside the weights.
        corpus: what to learn from.
        console: where to show it.
        new_length: a resumed run was given another length.
        program: what the user types to run chargen.

    Returns:
        The held-out score of the best weights, nats per character by protocol B.

    Raises:
        ValueError: the settings do not fit the corpus, the machine or the checkpoint, or the run fell apart.
        SystemExit: a signal stopped the run, which has been saved; the code is 128 + the signal.
    """
    config = read(settings)
    checkpoint = _checked(Path(config.resume), corpus, settings["model"]) if config.resume else None
    _require_memory(config, corpus.tokenizer.vocab_size)
    if settings["model"]["weight_dropout"] is None:
        settings = _with_weight_dropout(settings, corpus, console)
        config = read(settings)
    run_dir = Path(config.run_dir)
    windows = len(Lanes(corpus.train, config.batch_size, config.sequence_length))
    max_seconds, total_updates = _length(config.trainer, windows)
    over = checkpoint is not None and _is_over(checkpoint, total_updates, new_length)
    if checkpoint is not None and over:
        _require_unfinished(run_dir, checkpoint)

    data = TextDataModule(corpus, config.batch_size, config.sequence_length)
    extra = [extra_logger(config.logger, run_dir)] if config.logger is not None else []
    attempt = partial(_Run, settings, config, corpus, console, windows, total_updates, extra)
    run = attempt(max_seconds)
    if checkpoint is None:
        for left in ("metrics.csv", "samples.txt"):  # of a run that died before its first checkpoint
            (run_dir / left).unlink(missing_ok=True)
    for name, content in {"config.yaml": _yaml(settings), "tokenizer.json": corpus.tokenizer.to_json()}.items():
        with atomic_write(run_dir / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    length = f"{total_updates:,} updates" if total_updates else duration(max_seconds or 0)
    console.print(
        f"model {config.model.cell} {config.model.num_layers} x {config.model.hidden_size}: "
        f"{run.parameters:,} parameters; {length}, {torch.get_num_threads()} threads; into {run_dir}"
    )
    if total_updates and checkpoint is None:
        console.print(f"{total_updates:,} updates are {run.advise(total_updates)}")
    if checkpoint is not None and over:
        updates, seconds = checkpoint["global_step"], _seconds_of(checkpoint)
        _validate_last(run.module, data, checkpoint, run_dir)
    else:
        run.module.new_length = new_length
        if checkpoint is not None:
            run.metrics.cut_behind(checkpoint["global_step"])
        run = _run_to_its_end(attempt, run, data, config.resume)
        module, save, updates, seconds = run.module, run.save, run.trainer.global_step, run.clock.time_elapsed()
        if save.stop_signal is not None and (module.plan.total is None or updates < module.plan.total):
            again = f"go on with\n  {program} train {shlex.quote(f'resume={run_dir}')}"
            saved = f"saved as of update {save.saved_update:,}"
            if save.saved_update == updates:
                saved = "saved"
            elif not (run_dir / CHECKPOINT).is_file():
                saved, again = "nothing was saved", "begin again"
            console.print(f"stopped at update {updates:,} and {saved}; {again}")
            raise SystemExit(128 + save.stop_signal)
        if error := run.keep_best.error or save.error:
            raise ValueError(f"{error}: make room, then write resume={run_dir} to go on from what was saved last")
        if math.isinf(run.keep_best.best):  # a run without validation keeps its last weights
            module.model.to_model_file(module.tokenizer, module.run).save(run_dir / MODEL)
    seen = _characters_seen(updates * run.windows_per_update, windows, config, corpus)
    return _finish(run_dir, corpus, console, seconds, updates, seen, run.parameters, program)


def _require_memory(config: TrainConfig, vocab_size: int) -> None:
    """A model that this machine cannot hold is refused before it is built: later, the system would kill the run."""
    model = asdict(config.model)
    parameters = parameters_of(model, vocab_size)
    needed = megabytes_of(parameters, model, vocab_size, config.batch_size, config.sequence_length)
    if needed > _DOUBT * machine_megabytes():
        raise ValueError(
            f"model.hidden_size={config.model.hidden_size} with batch_size={config.batch_size} and "
            f"sequence_length={config.sequence_length} needs about {needed / 1000:,.0f} GB, and this machine has "
            f"{machine_megabytes() / 1000:,.0f}: write smaller ones"
        )


_DOUBT = 2
"""What a run needs is only known to that factor."""


def _with_weight_dropout(settings: dict[str, Any], corpus: Corpus, console: Console) -> dict[str, Any]:
    """The settings with `model.weight_dropout` chosen by how often the run will read its text.

    The number goes into the run's files: a run that goes on keeps it. Given a time, it is the speed of a moment
    on the processor that says how often; what a GPU would do is not known beforehand, and nothing is dropped.
    """
    config, characters = read(settings), len(corpus.train)
    windows = len(Lanes(corpus.train, config.batch_size, config.sequence_length))
    max_seconds, total_updates = _length(config.trainer, windows)
    vocab_size, model = corpus.tokenizer.vocab_size, {**settings["model"], "weight_dropout": 0.0}
    parameters = parameters_of(model, vocab_size)
    passes = math.inf
    if total_updates is not None:
        passes = total_updates * (config.trainer.get("accumulate_grad_batches") or 1) / windows
    if max_seconds is not None:
        on_cpu = config.trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
        size = size_of(model, vocab_size, config.batch_size, config.sequence_length) if on_cpu else None
        passes = min(passes, max_seconds * size.chars_per_second / characters if size else 0.0)
    dropped = weight_dropout(passes, characters, parameters)
    if dropped:
        console.print(
            f"the text will be read about {passes:,.0f} times: {dropped:.0%} of the recurrent weights are dropped in "
            "each window (model.weight_dropout)"
        )
    return {**settings, "model": {**model, "weight_dropout": dropped}}


class _Run:
    """The module, Lightning's Trainer and what goes on beside it, as one attempt at a run needs them.

    Args:
        settings: the settings as plain data.
        config: the same, checked.
        corpus: what to learn from.
        console: where to show it.
        windows: of one pass over the text.
        total_updates: how many updates it has; None if that is for the time to say.
        extra: loggers beside metrics.csv.
        max_seconds: how long the run may take, what earlier attempts have lost left out; None for no limit.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        config: TrainConfig,
        corpus: Corpus,
        console: Console,
        windows: int,
        total_updates: int | None,
        extra: list[Logger],
        max_seconds: float | None,
    ) -> None:
        trainer_settings = dict(config.trainer)
        self.windows_per_update = trainer_settings.get("accumulate_grad_batches") or 1
        self.max_seconds = max_seconds
        self._length = len(corpus.train), math.ceil(windows / self.windows_per_update)
        self._seconds = None if total_updates else max_seconds
        self.run_dir = Path(config.run_dir)

        torch.manual_seed(config.seed)
        shape = {"vocab_size": corpus.tokenizer.vocab_size, **settings["model"]}
        notes = _notes(settings, corpus)
        self.module = CharLanguageModel(shape, settings["optimizer"], corpus.tokenizer.to_json(), notes)
        self.module.plan = Plan(total_updates)
        self.parameters = sum(p.numel() for p in self.module.parameters())

        self.clock = Timer(duration=timedelta(seconds=max_seconds) if max_seconds else None, verbose=False)
        chars_per_update = config.batch_size * config.sequence_length * self.windows_per_update
        self.metrics = MetricsFile(self.run_dir / "metrics.csv", self.clock, chars_per_update)
        log_every = int(trainer_settings.get("log_every_n_steps") or 50)
        self.report = ProgressReport(console, self.clock, max_seconds, chars_per_update, log_every)
        schedule = RunLengthCallback(self.clock, max_seconds, total_updates, self.report.say, self.advise)
        self.keep_best = BestModelWriter(self.run_dir, self.clock, config.sample_length, self.report.say)
        minutes, updates = config.save_every_minutes, config.save_every_updates
        self.save = CheckpointWriter(self.run_dir / CHECKPOINT, 60 * minutes, updates, self.report.say)
        callbacks: list[Callback] = [self.clock, schedule, self.report, self.keep_best, self.save]
        if config.early_stopping is not None:
            callbacks.append(
                EarlyStopping(VALIDATION_SCORE, patience=config.early_stopping, verbose=False, check_finite=False)
            )
        loggers = [self.metrics, *extra]
        self.trainer = _trainer(trainer_settings, max_seconds, total_updates, callbacks, loggers, self.run_dir)
        if self.trainer.precision == "64-true":
            self.module.double()  # Lightning does so after it has loaded a checkpoint: into half of the digits
        leave_out_empty_hooks(callbacks, self.module)

    def advise(self, updates: int) -> str:
        """What so many updates mean for the text."""
        characters, per_pass = self._length
        dropped = self.module.model.settings.weight_dropout
        return advice(updates, per_pass, characters, self.parameters, self._seconds, dropped)


def _run_to_its_end(
    attempt: Callable[[float | None], _Run], run: _Run, data: TextDataModule, resume: str | None
) -> _Run:
    """Trains. A run that falls apart goes back to its last checkpoint, with half the learning rate.

    Args:
        attempt: makes another one, with so many seconds.
        run: the first.
        data: the lanes.
        resume: the checkpoint to go on from.

    Returns:
        The attempt that came to the end.

    Raises:
        ValueError: the run fell apart once more than `MAX_ROLLBACKS` times.
    """
    returned = -1
    while True:
        try:
            with _threads_for_kernels(run.trainer):
                _train(run, data, resume)
            return run
        except Diverged as error:
            run.report.tell_left_out(run.trainer)
            if run.save.stop_signal is not None:
                return run
            returns, settings = run.module.guard.returns + 1, run.module.optimizer_settings
            if returns > MAX_ROLLBACKS:
                raise ValueError(
                    f"the run falls apart, {error}; {MAX_ROLLBACKS} returns to half the rate did not help: write "
                    f"optimizer.learning_rate={settings['learning_rate'] / 10:.2g} or trainer.gradient_clip_val=1.0"
                ) from None
            file, update, seconds = _last_good(run, resume, returned)
            resume, returned = str(file) if file else None, update
            run.report.say(f"the run falls apart, {error}; back to update {update:,}, with half the learning rate")
            for logger in run.trainer.loggers:
                logger.log_metrics({"returns": float(returns)}, step=error.update)
            lost, new_length = run.clock.time_elapsed() - seconds, run.module.new_length
            run = attempt(max(1.0, run.max_seconds - lost) if run.max_seconds else None)
            run.metrics.cut_behind(update, keep_events=True)
            run.module.guard.returns, run.module.new_length = returns, new_length


def _last_good(run: _Run, resume: str | None, returned: int) -> tuple[Path | None, int, float]:
    """The checkpoint to return to, or None if there is none yet; its update and its seconds.

    Args:
        run: the attempt that fell apart.
        resume: what it had gone on from, to be used again if it has saved nothing.
        returned: the update of the return before. What fell apart from there again may have been broken when it was
            saved, so that the checkpoint before is taken.
    """
    named = Path(resume) if resume and not run.save.has_saved else run.run_dir / CHECKPOINT
    if not named.is_file():
        return None, 0, 0.0
    file, checkpoint, _ = undamaged(named)
    if checkpoint["global_step"] == returned and previous_path(file).is_file():
        file = previous_path(file)
        checkpoint = load_checkpoint(file)
    return file, checkpoint["global_step"], _seconds_of(checkpoint)


def _seconds_of(checkpoint: dict[str, Any]) -> float:
    return float(checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"])


def _yaml(settings: dict[str, Any]) -> str:
    return str(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))


def _notes(settings: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    """What goes into the run's files beside the weights, as plain data."""
    return {
        "config": settings,
        "corpus": {
            "name": corpus.name,
            "sha256": corpus.sha256,
            "characters": len(corpus.ids),
            "vocabulary": len(corpus.tokenizer.symbols),
            "articles": corpus.num_articles,
        },
        "start_id": corpus.start_id,
        "versions": {
            "chargen": chargen.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),  # a class of its own otherwise, and checkpoints hold plain data
            "lightning": lightning.__version__,
            "numpy": np.__version__,
        },
    }


def _length(settings: dict[str, Any], windows: int) -> tuple[float | None, int | None]:
    """The run's length by the trainer's settings: seconds, updates, or both."""
    max_time, max_steps = settings.get("max_time"), settings.get("max_steps", -1)
    max_epochs = settings.get("max_epochs", -1)
    limits = []
    if max_steps not in (None, -1):
        limits.append(max_steps)
    if max_epochs not in (None, -1):
        limits.append(max_epochs * math.ceil(windows / (settings.get("accumulate_grad_batches") or 1)))
    if not limits and max_time is None:
        max_time = DEFAULT_MAX_TIME
    return parse_duration(max_time) if max_time is not None else None, min(limits, default=None)


def _trainer(
    settings: dict[str, Any],
    max_seconds: float | None,
    total_updates: int | None,
    callbacks: list[Callback],
    loggers: list[Logger],
    run_dir: Path,
) -> Trainer:
    """Lightning's Trainer, quiet, counting validations across passes over the text."""
    settings = {name: value for name, value in settings.items() if name not in ("max_time", "max_steps", "max_epochs")}
    interval = settings.pop("val_check_interval", None)
    if interval is None and total_updates is not None:
        interval = max(1, total_updates // VALIDATIONS)
    elif interval is None and max_seconds is not None:
        interval = timedelta(seconds=max_seconds / VALIDATIONS)
    if not isinstance(interval, float):
        settings.setdefault("check_val_every_n_epoch", None)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)`.*")
    try:
        return Trainer(
            max_steps=total_updates or -1,
            max_epochs=-1,
            val_check_interval=interval,
            callbacks=callbacks,
            logger=loggers,
            plugins=[CheckpointFiles()],
            default_root_dir=run_dir,
            enable_progress_bar=False,
            enable_checkpointing=True,
            use_distributed_sampler=False,
            **settings,
        )
    except (MisconfigurationException, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"trainer: {error}") from None


def _checked(file: Path, corpus: Corpus, model: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint to go on from, if its text is still the same and its weights are those of this model."""
    checkpoint = load_checkpoint(file)
    saved = portable_of(checkpoint, file).settings  # which are checked against the sizes of the weights
    if checkpoint["hyper_parameters"]["run"]["corpus"]["sha256"] != corpus.sha256:
        raise ValueError(f"the text of corpus {corpus.name} has changed since {file} was written: start a new run")
    if ModelConfig(**saved) != ModelConfig(corpus.tokenizer.vocab_size, **model):
        raise ValueError(f"{file} is damaged or forged: its model is not the one of its settings")
    return checkpoint


def _is_over(checkpoint: dict[str, Any], total_updates: int | None, new_length: bool) -> bool:
    """Whether the checkpoint is of the run's last update."""
    total = total_updates if new_length else total_updates or checkpoint["chargen"]["plan"]["total"]
    return total is not None and checkpoint["global_step"] >= total


def _require_unfinished(run_dir: Path, checkpoint: dict[str, Any]) -> None:
    """A run that was stopped behind its last update is finished; one that was finished needs more updates."""
    done = checkpoint["global_step"]
    try:
        summary = run_dir / "summary.json"
        finished = summary.is_file() and json.loads(summary.read_text(encoding="utf-8"))["updates"] >= done
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        finished = False
    if finished:
        raise ValueError(
            f"the run is complete at {done:,} updates; to go on, give it more, "
            f"such as trainer.max_steps={2 * done}, or a longer trainer.max_time"
        )


@torch.no_grad()
def _validate_last(module: CharLanguageModel, data: TextDataModule, checkpoint: dict[str, Any], run_dir: Path) -> None:
    """The validation that a run missed which was stopped behind its last update."""
    module.load_state_dict(checkpoint["state_dict"])
    module.eval()
    module.on_validation_epoch_start()
    for batch in data.val_dataloader():
        module.validation_step(batch)
    nats = module.validation_mean()
    if nats < estimate_of(run_dir / MODEL, module):
        notes = {**module.run, ESTIMATE: nats, "updates": checkpoint["global_step"]}
        module.model.to_model_file(module.tokenizer, notes).save(run_dir / MODEL)


def _train(run: _Run, data: TextDataModule, resume: str | None) -> None:
    """Trains. The first signal to stop is answered after the update, a second SIGINT at once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if run.save.stop_signal is None:
            run.save.stop_signal = signum
        elif signum == signal.SIGINT:  # SIGTERM may come twice: from whoever stops us, and where the reader has gone
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run.trainer.fit(run.module, datamodule=data, ckpt_path=resume, weights_only=True)
    except SystemExit:
        if run.save.stop_signal is None:
            raise
    except (Diverged, MemoryError):
        raise
    except MisconfigurationException as error:
        if resume is None:
            for name in ("config.yaml", "tokenizer.json"):  # of a run that never began
                (run.run_dir / name).unlink(missing_ok=True)
        raise ValueError(f"trainer: {error}") from None
    except Exception as error:  # whatever Lightning makes of a part that is not what it wrote
        if resume is None or run.save.has_stepped or "memory" in str(error):
            raise
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"{resume} cannot be gone on from: it is damaged or forged, or does not fit what was changed ({why})"
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _threads_for_kernels(trainer: Trainer) -> Iterator[None]:
    """Where the kernels do the work, the threads are theirs, and torch has one for the little that is left."""
    threads = torch.get_num_threads()
    if not (native.library() and isinstance(trainer.accelerator, CPUAccelerator) and threads > 1):
        yield
        return
    torch.set_num_threads(1)
    try:
        with native.kernel_threads(threads):
            yield
    finally:
        torch.set_num_threads(threads)


def _characters_seen(windows_seen: int, windows: int, config: TrainConfig, corpus: Corpus) -> int:
    passes, rest = divmod(windows_seen, windows)
    num_targets = len(corpus.train) - 1
    return passes * num_targets + min(rest * config.batch_size * config.sequence_length, num_targets)


def _finish(
    run_dir: Path,
    corpus: Corpus,
    console: Console,
    seconds: float,
    updates: int,
    characters_seen: int,
    parameters: int,
    program: str,
) -> float:
    """Scores the best weights, writes summary.json, prints the end of a run."""
    portable = ModelFile.load(run_dir / MODEL)
    ids = corpus.validation[: SCORED_CHARACTERS + 1]
    score = _score(portable, ids, console)
    summary = {
        "validation_nats_per_char": score.nats_per_char,
        "validation_bits_per_char": score.bits_per_char,
        "validation_characters": score.characters,
        "best_update": portable.notes.get("updates", updates),
        "parameters": parameters,
        "updates": updates,
        "characters_seen": characters_seen,
        "train_seconds": round(seconds, 2),
        "chars_per_second": round(characters_seen / max(seconds, 1e-9), 1),
        "corpus": portable.notes["corpus"],
        "versions": portable.notes["versions"],
        "threads": torch.get_num_threads(),
    }
    with atomic_write(run_dir / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = "".join(TextGenerator(portable).write(length=SAMPLE_LENGTH, seed=updates))
    of_all = "" if len(ids) == len(corpus.validation) else f" of {len(corpus.validation) - 1:,}"
    place = shlex.quote(str(run_dir))
    lines = (
        f"\nvalidation  {score.nats_per_char:.4f} nats/char   {score.bits_per_char:.4f} bits/char   "
        f"({score.characters:,}{of_all} held-out characters, one carried state)",
        f"speed       {summary['chars_per_second']:,.0f} characters/s: {characters_seen:,} in {duration(seconds)}, "
        f"{updates:,} updates",
        f"written     {run_dir / MODEL}",
        "\na sample\n",
        *(f"    {line}" for line in printable(text).strip().splitlines()),
        "\nnext",
        f"  {program} sample {place} --length 2000 --temperature 0.7",
        f"  {program} train {shlex.quote(f'resume={run_dir}')} trainer.max_steps={2 * updates}",
    )
    console.print("\n".join(lines))
    return score.nats_per_char


def _score(portable: ModelFile, ids: np.ndarray, console: Console) -> Score:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring the held-out text", total=len(ids) - 1)
        return score_streaming(CharRNN.from_model_file(portable), ids, lambda chars: progress.advance(task, chars))
