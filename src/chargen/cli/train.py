"""`chargen train`: compose the settings with Hydra, load the corpus, and train."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from chargen.cli.conf_folder import conf_folder
from chargen.cli.console import program_name, training_console, warn
from chargen.errors import ConfigError, FileError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from chargen.cli.resume import ResumedRun
    from chargen.config import TrainConfig


def train(context: typer.Context) -> None:
    """Learn to write from a text; `chargen train --help` lists the settings."""
    if {"-h", "--help"} & set(context.args):
        from chargen.cli.train_help import train_help

        print(train_help())
        return
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from chargen.cli.overrides import hydra_arguments, one_line_of
    from chargen.config import TrainConfig

    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's printer
    runs = _Runs(program_name())
    sys.argv = ["chargen train", *hydra_arguments(context.args)]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(runs.job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line_of(error)) from error
    except ValueError as error:  # Hydra raises it for some settings
        if runs.is_composing:
            raise ConfigError(str(error)) from error
        raise
    runs.report()


@dataclass
class _Runs:
    """The runs of one command: one, or those of a sweep.

    Attributes:
        program: what the user types to start chargen.
        results: score, folder and overrides of each finished run.
        mistakes: errors of the user, kept from Hydra, which would print a page about each.
        is_composing: whether Hydra composes settings, and no run is in progress.
    """

    program: str
    results: list[tuple[float, str, str]] = field(default_factory=list)
    mistakes: list[BaseException] = field(default_factory=list)
    is_composing: bool = True

    def job(self, composed: DictConfig) -> float | None:
        """Do one run. An error of the user ends it; in a sweep the other runs go on."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        from chargen.cli.overrides import one_line_of

        self.is_composing = False  # an error that leaves this function is a defect
        hydra_config = HydraConfig.get()
        typed = cast(list[str], OmegaConf.to_container(hydra_config.overrides.task))  # interpolations as they are
        overrides = [override.lstrip("+") for override in typed]
        sweep_number = str(hydra_config.job.num) if hydra_config.mode == RunMode.MULTIRUN else None
        score = None
        try:
            try:
                settings = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
            except OmegaConfBaseException as error:
                raise ConfigError(one_line_of(error)) from error
            score = self._run(settings, overrides, sweep_number)
        except (UserError, OSError) as error:
            if sweep_number is None:
                self.mistakes.append(error)
            else:
                warn(str(error))
                self.mistakes.append(SystemExit(2))
        self.is_composing = True
        return score

    def _run(self, settings: dict[str, Any], overrides: list[str], sweep_number: str | None) -> float:
        from chargen.config import parse_config

        config, resumed = parse_config(settings), None
        if config.resume is not None:
            if sweep_number is not None:
                raise ConfigError("resume continues one run: leave out -m")
            from chargen.cli.resume import resumed_run

            resumed = resumed_run(config, [override.partition("=")[0] for override in overrides])
            config = resumed.config
        if sweep_number is not None:
            config = replace(config, run_dir=f"{config.run_dir}/{sweep_number}")
            print(f"\n[{sweep_number}] {' '.join(overrides)}")
        score = train_run(config.with_absolute_paths(), self.program, resumed)
        self.results.append((score, config.run_dir, " ".join(overrides)))
        return score

    def report(self) -> None:
        """Print the scores of a sweep, and raise the first error."""
        if len(self.results) > 1:
            print("\nnats/char  run, best first")
            for score, run_dir, overrides in sorted(self.results):
                print(f"{score:9.4f}  {run_dir}  {overrides}")
        if self.mistakes:
            raise self.mistakes[0]


def train_run(config: TrainConfig, program: str, resumed: ResumedRun | None) -> float:
    """Load the corpus and train; return the held-out score, nats per character.

    Args:
        config: the settings.
        program: what the user types to start chargen.
        resumed: the run to continue, if it is one.
    """
    run_dir = Path(config.run_dir)
    _require_free(run_dir, config)
    from chargen.corpus.encoded import load_corpus
    from chargen.storage.locks import folder_lock

    console = training_console()
    expected = resumed.checkpoint.corpus_sha256 if resumed is not None else None
    corpus = load_corpus(config.corpus, Path(config.data_dir), expected_sha256=expected)
    articles = f", {corpus.num_articles:,} articles" if corpus.num_articles > 1 else ""
    console.print(
        f"corpus {corpus.name}: {len(corpus.ids):,} characters, {len(corpus.tokenizer.symbols):,} symbols{articles}; "
        f"the last {len(corpus.validation) - 1:,} are held out"
    )
    with console.status("loading torch and lightning") if console.is_terminal else contextlib.nullcontext():
        from chargen.training.run import train
    with folder_lock(run_dir):
        _require_free(run_dir, config)
        if resumed is None:
            return train(config, corpus, console=console, program=program)
        return train(
            config,
            corpus,
            console=console,
            program=program,
            checkpoint=resumed.checkpoint,
            new_length=resumed.has_new_length,
        )


def _require_free(run_dir: Path, config: TrainConfig) -> None:
    """Refuse to write a new run into the folder of another one."""
    from chargen.storage.checkpoint import CHECKPOINT

    if config.resume is None and (run_dir / CHECKPOINT).exists():
        raise FileError(f"run_dir={run_dir} holds a run already: write resume={run_dir} to continue it")
