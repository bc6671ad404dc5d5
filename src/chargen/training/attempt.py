"""One attempt at a run: the module, Lightning's Trainer and the callbacks. A run that diverges makes another one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, EarlyStopping, RichModelSummary, Timer
from lightning.pytorch.loggers import Logger
from rich.console import Console

from chargen.config import TrainConfig
from chargen.corpus.contexts import find_contexts
from chargen.corpus.encoded import Corpus
from chargen.errors import FileError, UserError
from chargen.nn.threads import compute_threads
from chargen.planning.length import RunLength, RunPlan
from chargen.storage.checkpoint import CHECKPOINT, Checkpoint
from chargen.storage.model_file import ModelFile
from chargen.storage.run_folder import CONFIG, METRICS, TOKENIZER
from chargen.training.best_model import BestModelWriter
from chargen.training.checkpoints import CheckpointFiles, CheckpointWriter
from chargen.training.diagnostics import Diagnostics, diagnostic_columns
from chargen.training.divergence import Diverged
from chargen.training.initialization import initialize
from chargen.training.metrics import MetricsFile
from chargen.training.module import VALIDATION_SCORE, CharLanguageModel
from chargen.training.outlook import Outlook
from chargen.training.profile import profile_report
from chargen.training.progress import ProgressReport
from chargen.training.run_length import RunLengthCallback
from chargen.training.signals import stop_signals
from chargen.training.trainer import build_trainer, config_error
from chargen.training.validations import Validations
from chargen.training.windows import TextDataModule


@dataclass(frozen=True)
class RunContext:
    """What stays the same in all attempts at a run.

    Attributes:
        config: the settings.
        corpus: what to learn from.
        metadata: what each file of the run stores about it, as plain data.
        console: where to show the run.
        program: what the user types to start chargen.
        loggers: loggers besides `metrics.csv`.
        initial: the model whose weights a new run begins with; None for random ones.
    """

    config: TrainConfig
    corpus: Corpus
    metadata: dict[str, Any]
    console: Console
    program: str
    loggers: Sequence[Logger] = ()
    initial: ModelFile | None = None

    @property
    def run_dir(self) -> Path:
        """The folder of the run."""
        return Path(self.config.run_dir)

    def say(self, text: str) -> None:
        """Print lines that a terminal may wrap, but that no line end cuts: commands can be copied from them."""
        self.console.print(text, soft_wrap=True)

    @property
    def plan(self) -> RunPlan:
        """The numbers that follow from the settings and the size of the text."""
        return RunPlan(self.config, len(self.corpus.train), self.corpus.tokenizer.vocab_size)


@dataclass(frozen=True)
class Start:
    """Where an attempt starts.

    Attributes:
        checkpoint: the checkpoint to continue from; None to begin.
        max_seconds: the time of the run, without what earlier attempts have lost; None for no limit.
        rollbacks: how often the run has returned to a checkpoint.
        new_length: the user has given a resumed run another length.
    """

    checkpoint: Checkpoint | None
    max_seconds: float | None
    rollbacks: int = 0
    new_length: bool = False


class Attempt:
    """The module, the Trainer and the callbacks of one attempt at a run.

    Args:
        context: the run.
        start: where it starts.

    Raises:
        ConfigError: Lightning refuses a setting of its Trainer.
    """

    def __init__(self, context: RunContext, start: Start) -> None:
        config, plan = context.config, context.plan
        self.context = context
        self.start = start
        self.resume = start.checkpoint.file if start.checkpoint is not None else None
        length = RunLength(start.max_seconds, plan.length.max_updates)

        torch.manual_seed(config.seed)
        tokenizer = context.corpus.tokenizer.to_json()
        self.module = CharLanguageModel(asdict(plan.model), asdict(config.optimizer), tokenizer, context.metadata)
        if context.initial is not None and start.checkpoint is None:
            initialize(self.module.model, context.corpus.tokenizer, context.initial)
        self.module.start_run(
            length.max_updates,
            rollbacks=start.rollbacks,
            new_length=start.new_length,
            restoring=start.checkpoint is not None,
            guard=config.guard,
            contexts=find_contexts(context.corpus),
        )

        self.clock = Timer(
            duration=timedelta(seconds=length.max_seconds) if length.max_seconds else None, verbose=False
        )
        columns = diagnostic_columns(plan.model)
        self.metrics = MetricsFile(context.run_dir / METRICS, self.clock, plan.characters_seen, columns)
        log_every = int(config.trainer.get("log_every_n_steps") or 50)
        diagnostics = Diagnostics(log_every)
        self.report = ProgressReport(
            context.console,
            self.clock,
            lambda: self.validations.seconds,
            max_seconds=length.max_seconds,
            characters_seen=plan.characters_seen,
            take_diagnostics=diagnostics.take,
            forecast=lambda: self.outlook.forecast,
            log_every=log_every,
            per=context.corpus.tokenizer.short_unit,
        )
        say = self.report.say
        self.validations = Validations(self.clock, length, plan, say)
        per = context.corpus.tokenizer.short_unit
        self.best_model = BestModelWriter(context.run_dir, self.clock, config.sample_length, say, per)
        seconds, updates = 60 * config.save_every_minutes, config.save_every_updates
        self.checkpoints = CheckpointWriter(context.run_dir / CHECKPOINT, seconds, updates, say)
        self.outlook = Outlook(context.corpus, length.max_seconds, self.clock.time_elapsed, say, per=per)
        callbacks: list[Callback] = [
            self.clock,
            diagnostics,  # before `report`, which logs what it has measured
            RunLengthCallback(self.clock, length, plan, self.validations, say),
            self.report,
            self.best_model,
            self.outlook,
            self.validations,  # after what belongs to a validation: its time counts
            self.checkpoints,
        ]
        if config.early_stopping is not None:
            callbacks.append(
                EarlyStopping(
                    VALIDATION_SCORE, patience=config.early_stopping, verbose=False, check_finite=False,
                    check_on_train_epoch_end=False,
                )
            )  # fmt: skip
        if config.trainer.get("enable_model_summary"):
            callbacks.append(RichModelSummary(max_depth=2))
        self.trainer = build_trainer(
            config,
            length,
            callbacks=callbacks,
            loggers=[self.metrics, *context.loggers],
            files=CheckpointFiles(start.checkpoint),
        )
        if self.trainer.precision == "64-true":
            self.module.double()  # Lightning does this after it loads a checkpoint, which would lose half of the digits

    @property
    def was_stopped(self) -> bool:
        """Whether a signal has ended the run before its last update."""
        total = self.module.schedule.total_updates
        return self.checkpoints.stop_signal is not None and (total is None or self.trainer.global_step < total)

    def fit(self, data: TextDataModule) -> None:
        """Train to the end, or until a signal.

        The first signal stops the run after the present update, a second SIGINT at once.

        Raises:
            Diverged: the run has diverged.
            ConfigError: Lightning refuses a setting.
            FileError: the checkpoint cannot be restored.
            KeyboardInterrupt: a second SIGINT.
        """
        with stop_signals(self.checkpoints), _cpu_threads(self.trainer):
            try:
                self.trainer.fit(self.module, datamodule=data, ckpt_path=self.resume, weights_only=True)
                if self.context.config.trainer.get("profiler"):
                    self.report.say(profile_report(self.context.run_dir))
            except SystemExit:
                if self.checkpoints.stop_signal is None:
                    raise
            except (UserError, Diverged, MemoryError):
                raise
            except Exception as error:  # Lightning and torch raise many kinds for parts they did not write
                if self._is_about_settings(error):
                    if self.resume is None:
                        for name in (CONFIG, TOKENIZER):  # of a run that never began
                            (self.context.run_dir / name).unlink(missing_ok=True)
                    raise config_error(error, self.context.config) from None
                if not self.module.is_restoring or "memory" in str(error):
                    raise
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                hint = "; if it is neither, report a defect with CHARGEN_TRACEBACK=1" if self.module.has_started else ""
                raise FileError(
                    f"{self.resume} cannot be continued: it is damaged or forged, or does not fit what was changed "
                    f"({reason}){hint}"
                ) from error

    def _is_about_settings(self, error: Exception) -> bool:
        """Tell whether Lightning has refused a setting of its Trainer; before training, it also raises ValueError."""
        is_new = not (self.module.is_restoring or self.module.has_started)
        return isinstance(error, MisconfigurationException) or (is_new and isinstance(error, ValueError))


def _cpu_threads(trainer: Trainer) -> contextlib.AbstractContextManager[None]:
    """Set the threads of a run on the CPU."""
    return compute_threads() if isinstance(trainer.accelerator, CPUAccelerator) else contextlib.nullcontext()
