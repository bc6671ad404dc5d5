"""`chargen train`: compose the settings with Hydra, load the corpus, and train."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

import chargen
from chargen.cli.conf_folder import conf_folder
from chargen.cli.console import READER_GONE, ending_with_reader, escaped, program_name, training_console, warn
from chargen.cli.streams import discard_stdout, unfailing_stdout
from chargen.errors import ChangedTextError, ConfigError, FileError, TextError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import Console

    from chargen.cli.resume import ResumedRun
    from chargen.config import TrainConfig
    from chargen.corpus.encoded import Corpus
    from chargen.storage.model_file import ModelFile


def train(context: typer.Context) -> None:
    """Learn to write from a text; `chargen train --help` lists the settings."""
    if {"-h", "--help"} & set(context.args):
        from chargen.cli.train_help import train_help

        print(train_help())
        return
    if "--version" in context.args:
        print(chargen.__version__)
        return
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from chargen.cli.overrides import hydra_arguments, one_line_of
    from chargen.config import TrainConfig

    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's printer
    runs = _Runs(program_name(), list(context.args))
    arguments = hydra_arguments(context.args)
    runs.reserve_sweep_folder(arguments)
    sys.argv = ["chargen train", *arguments, *runs.hydra_overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")(runs.job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(one_line_of(error)) from error
    except ValueError as error:  # Hydra raises it for some settings
        if runs.is_composing:
            raise ConfigError(one_line_of(error)) from error
        raise
    finally:
        runs.release_sweep_folder()
    runs.report()


@dataclass
class _Runs:
    """The runs of one command: one, or those of a sweep.

    Attributes:
        program: what the user types to start chargen.
        typed: what the user has typed behind `chargen train`.
        sweep_folder: the folder that was created for a sweep whose `run_dir` is not given.
        results: score, folder and overrides of each finished run.
        mistakes: errors of the user, kept from Hydra, which would print a page about each.
        is_composing: whether Hydra composes settings, and no run is in progress.
    """

    program: str
    typed: list[str]
    sweep_folder: Path | None = None
    results: list[tuple[float, str, str]] = field(default_factory=list)
    mistakes: list[BaseException] = field(default_factory=list)
    is_composing: bool = True

    def reserve_sweep_folder(self, arguments: Sequence[str]) -> None:
        """Create the folder of a sweep before Hydra writes into it, unless the user has named it."""
        from chargen.storage.locks import new_folder
        from chargen.storage.run_folder import RUNS

        shows_only = {"--cfg", "-c", "--info", "-i", "--hydra-help", "--version"}
        if {"-m", "--multirun"}.isdisjoint(arguments) or not shows_only.isdisjoint(arguments):
            return
        if not any(_key_of(argument) in ("run_dir", "hydra.sweep.dir") for argument in arguments):
            self.sweep_folder = new_folder(RUNS / time.strftime("%Y-%m-%d_%H-%M-%S"))

    def release_sweep_folder(self) -> None:
        """Remove the folder of a sweep none of whose runs began."""
        folder, sweep_file = self.sweep_folder, "multirun.yaml"
        if folder is None or any(file.name != sweep_file for file in folder.rglob("*") if not file.is_dir()):
            return
        (folder / sweep_file).unlink(missing_ok=True)
        for place in (*folder.iterdir(), folder, folder.parent):  # Hydra has made a folder for each run
            with contextlib.suppress(OSError):  # there are other runs
                place.rmdir()

    @property
    def hydra_overrides(self) -> list[str]:
        """What Hydra has to know about the folder of a sweep."""
        return [] if self.sweep_folder is None else [f"hydra.sweep.dir={self.sweep_folder.as_posix()}"]

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
                raw = cast(dict[str, Any], OmegaConf.to_container(composed))
                settings = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
            except OmegaConfBaseException as error:
                raise ConfigError(one_line_of(error)) from error
            # Only the folder that conf/train.yaml names after the time may get another name.
            is_named_by_time = "${now:" in str(raw["run_dir"])
            keys = [_key_of(override) for override in overrides]
            score = self._run(settings, overrides, sweep_number, is_named_by_time and "run_dir" not in keys)
        except ImportError as error:  # a package is missing or broken; Hydra would print a line of its own
            self.mistakes.append(error)
        except BrokenPipeError:
            discard_stdout()
            raise SystemExit(READER_GONE) from None
        except (UserError, OSError) as error:
            if sweep_number is None:
                self.mistakes.append(error)
            else:
                warn(str(error))
                self.mistakes.append(SystemExit(2))
        self.is_composing = True
        return score

    def _run(
        self, settings: dict[str, Any], overrides: list[str], sweep_number: str | None, is_named_by_time: bool
    ) -> float:
        from chargen.config import expand_home, parse_config

        config, resumed = parse_config(settings), None
        config = replace(config, run_dir=expand_home(config.run_dir))
        keys = [_key_of(override) for override in overrides]
        initial = None
        if config.init is not None:
            from chargen.cli.initial_model import initial_model

            config, initial = initial_model(config, keys)
        if config.resume is not None:
            if sweep_number is not None:
                raise ConfigError("resume continues one run: leave out -m")
            from chargen.cli.resume import resumed_run

            resumed = resumed_run(config, keys)
            config, is_named_by_time = resumed.config, False
        if sweep_number is not None:
            folder = self.sweep_folder if self.sweep_folder is not None and is_named_by_time else config.run_dir
            config, is_named_by_time = replace(config, run_dir=f"{folder}/{sweep_number}"), False
        with unfailing_stdout():
            if sweep_number is not None:
                print(f"\n[{sweep_number}] {' '.join(overrides)}", flush=True)
            config = config.with_absolute_paths()
            words = self.typed if sweep_number is None else overrides
            command = shlex.join(["chargen", "train", *words])
            score = train_run(
                config, self.program, resumed, initial=initial, may_rename=is_named_by_time, command=command
            )
        self.results.append((score, config.run_dir, " ".join(overrides)))
        return score

    def report(self) -> None:
        """Print the scores of a sweep, and raise the first error."""
        if len(self.results) > 1:
            print("\nnats/char  run, best first")
            for score, run_dir, overrides in sorted(self.results):
                print(f"{score:9.4f}  {run_dir}  {overrides}")
            folder = os.path.relpath(Path(self.results[0][1]).parent)
            print(f"  {self.program} compare {shlex.quote(folder)}")
        if self.mistakes:
            raise self.mistakes[0]


def _key_of(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def train_run(
    config: TrainConfig,
    program: str,
    resumed: ResumedRun | None,
    *,
    initial: ModelFile | None = None,
    may_rename: bool = False,
    command: str = "",
) -> float:
    """Load the corpus and train; return the held-out score, nats per character.

    Args:
        config: the settings.
        program: what the user types to start chargen.
        resumed: the run to continue, if it is one.
        initial: the model whose weights a new run begins with; None for random ones.
        may_rename: whether the folder of the run may get a number if it exists.
        command: what the user has typed, for the files of the run.
    """
    run_dir = Path(config.run_dir)
    if not may_rename:
        _require_free(run_dir, config)
    from chargen.storage.locks import folder_lock, new_folder_lock

    console = training_console()
    corpus = _load_corpus(config, resumed)
    articles = f", {corpus.num_articles:,} articles" if corpus.num_articles > 1 else ""
    console.print(
        f"corpus {corpus.name}: {len(corpus.ids):,} characters, {len(corpus.tokenizer.symbols):,} symbols{articles}; "
        f"the last {len(corpus.validation) - 1:,} are held out"
    )
    if corpus.note:
        console.print(escaped(corpus.note))
    with console.status("loading torch and lightning") if console.is_terminal else contextlib.nullcontext():
        from chargen.training.run import train
    _require_folder(run_dir)
    with ending_with_reader(console), (new_folder_lock if may_rename else folder_lock)(run_dir) as run_dir:
        config = replace(config, run_dir=str(run_dir))
        _require_free(run_dir, config)
        score = train(
            config,
            corpus,
            console=console,
            program=program,
            checkpoint=None if resumed is None else resumed.checkpoint,
            new_length=resumed is not None and resumed.has_new_length,
            initial=initial,
            command=command,
        )
        _report(Path(config.run_dir), console, program)
        return score


def _report(run_dir: Path, console: Console, program: str) -> None:
    """Write the report of a run if that takes little time; otherwise, say how to write it."""
    from chargen.cli.report import REPORT, is_cheap, page_of
    from chargen.storage.atomic import write_text

    if is_cheap(run_dir):
        with contextlib.suppress(UserError, ImportError, OSError):  # no matplotlib, or the disk is full
            from chargen.cli.inspect.subject import Subject

            write_text(run_dir / REPORT, page_of(Subject.open(run_dir), console))
            console.print(f"report      {run_dir / REPORT}", soft_wrap=True)
            return
    console.print(f"  {program} report {shlex.quote(str(run_dir))}", soft_wrap=True)


def _load_corpus(config: TrainConfig, resumed: ResumedRun | None) -> Corpus:
    """Load the text of a run; of one that continues, the text that it has learned from, wherever it lies now."""
    from chargen.corpus.encoded import load_corpus, load_stored_corpus
    from chargen.corpus.encodings import from_run_lengths
    from chargen.corpus.tokenizer import Tokenizer

    data_dir = Path(config.data_dir)
    if resumed is None:
        return load_corpus(config.corpus, data_dir)
    checkpoint = resumed.checkpoint
    digest, tokenizer = checkpoint.corpus_sha256, Tokenizer.from_json(checkpoint.tokenizer)
    encodings = from_run_lengths(checkpoint.metadata["corpus"].get("encodings"))
    init = f"to learn from another text with the weights of this run, write chargen train TEXT init={config.run_dir}"
    try:
        stored = None
        if not resumed.has_new_text:
            stored = load_stored_corpus(config.corpus, data_dir, digest, encodings, tokenizer)
        return stored or load_corpus(
            config.corpus, data_dir, expected_sha256=digest, encodings=encodings, tokenizer=tokenizer
        )
    except TextError as error:
        moved = "" if resumed.has_new_text else "; if the text lies elsewhere now, write corpus.path=FILE"
        raise TextError(f"{error}{moved}{f'; {init}' if isinstance(error, ChangedTextError) else ''}") from None


def _require_folder(run_dir: Path) -> None:
    """Refuse a `run_dir` that cannot be a folder.

    Raises:
        FileError: it, or a folder above it, is a file or a link to nothing.
    """
    for place in (run_dir, *run_dir.parents):
        if place.is_symlink() and not place.exists():
            raise FileError(f"run_dir={run_dir}: {place} is a link to {os.readlink(place)}, which is not there")
        if place.exists():
            if not place.is_dir():
                raise FileError(f"run_dir={run_dir}: {place} is a file; name a folder")
            return


def _require_free(run_dir: Path, config: TrainConfig) -> None:
    """Refuse to write a new run into the folder of another one."""
    from chargen.storage.checkpoint import CHECKPOINT

    if config.resume is None and (run_dir / CHECKPOINT).exists():
        raise FileError(
            f"run_dir={run_dir} holds a run already: write {shlex.quote(f'resume={run_dir}')} to continue it"
        )
