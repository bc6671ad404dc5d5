"""Turns a command line into built objects and one call: the only module that knows everything.

Commands import what they need when they run: `sample` never loads torch, and `--help` loads nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shlex
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, cast

import typer

import chargen

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from chargen.config import TrainConfig
    from chargen.corpus.encoded import Corpus
    from chargen.corpus.tokenizer import Tokenizer
    from chargen.evaluation.score import Score
    from chargen.storage.model_file import ModelFile

app = typer.Typer(
    help="chargen learns to write: give it text, and it writes more in that manner.",
    epilog="Begin with: chargen train my.txt   and then: chargen sample",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Run = Annotated[
    Optional[Path],
    typer.Argument(
        metavar="[RUN|FILE]",
        help="A run's folder, its model.safetensors or its last.ckpt; without one the newest run.",
    ),
]


def main() -> None:
    """Runs a command and leaves with its exit code: 2 and one line for what the user can mend."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError) as error:
        if os.environ.get("CHARGEN_TRACEBACK"):
            raise
        file, reason = getattr(error, "filename", None), getattr(error, "strerror", None)
        _complain(f"{file}: {reason}" if file and reason else str(error))
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError) or re.search(
            "out of memory|allocate memory|not enough memory", str(error)
        )
        if not known or os.environ.get("CHARGEN_TRACEBACK"):  # torch has no class of its own for it on the CPU
            raise
        _complain("the memory of this machine is too small: write a smaller model.hidden_size, batch_size or length")
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer says of its arguments
            raise
        commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
        command = " ".join(word for word in sys.argv[1:2] if word in commands)
        _complain(f"{error.format_message()} (see `{' '.join(('chargen', command)).strip()} --help`)")


def _complain(text: str) -> None:
    print(f"chargen: {_one_line(text)}", file=sys.stderr)
    sys.exit(2)


def _one_line(text: str) -> str:
    """On one line of bearable length. It may name what stands in a stranger's file: nothing in it steers a terminal."""
    text = " ".join(text.split())
    if len(text) > 2 * _SHOWN:
        text = f"{text[:_SHOWN]} … {text[-_SHOWN:]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


_SHOWN = 500
"""Characters of either end of a message that is longer than twice that."""


@app.callback(invoke_without_command=True)
def _chargen(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(chargen.__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


# ----------------------------------------------------------------------------------- train


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
    short_help="Learn to write from a text.",
)
def train(context: typer.Context) -> None:
    """Learn to write from a text; `chargen train --help` lists the settings."""
    if {"-h", "--help"} & set(context.args):
        print(_train_help())
        return
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from chargen.cli.overrides import one_line, spell
    from chargen.config import TrainConfig

    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to Hydra's printer
    results: list[tuple[float | None, str, str]] = []
    mistakes: list[Exception | SystemExit] = []  # kept from Hydra, which would print a page about them

    def job(composed: DictConfig) -> float | None:
        try:
            return one_run(composed)
        except (ValueError, OSError) as error:
            sweeping = HydraConfig.get().mode == RunMode.MULTIRUN  # whose other runs go on
            if sweeping:
                print(f"chargen: {_one_line(str(error))}", file=sys.stderr)
            mistakes.append(SystemExit(2) if sweeping else error)
            return None

    def one_run(composed: DictConfig) -> float | None:
        composition = HydraConfig.get()
        overrides = list(composition.overrides.task)
        sweeping = composition.mode == RunMode.MULTIRUN
        settings = cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        new_length, learned = False, None
        if settings["resume"]:
            if sweeping:
                raise ValueError("resume goes on with one run: leave out -m")
            settings, new_length, learned = _resumed(settings, overrides)
        if sweeping:
            settings["run_dir"] += f"/{composition.job.num}"
            print(f"\n[{composition.job.num}] {' '.join(overrides)}")
        score = _train(settings, new_length, program, learned)
        results.append((score, settings["run_dir"], " ".join(override.lstrip("+") for override in overrides)))
        return score

    program = _program()
    sys.argv = ["chargen train", *spell(context.args)]
    try:
        hydra.main(version_base="1.3", config_path=str(_config_folder()), config_name="train")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(one_line(error)) from error
    if len(results) > 1:
        print("\nnats/char  run, best first")
        for score, run_dir, overrides in sorted(results, key=lambda result: result[0] or float("inf")):
            print(f"{score or float('nan'):9.4f}  {run_dir}  {overrides}")
    if mistakes:
        raise mistakes[0]


def _config_folder() -> Path:
    """conf/: inside the package where it was installed, at the root of the repository otherwise."""
    here = Path(__file__).resolve().parent
    inside = here.parent / "conf"
    return inside if inside.is_dir() else here.parents[2] / "conf"


def _train_help() -> str:
    """Every setting with its default and meaning, from the schema."""
    from dataclasses import fields, is_dataclass

    from chargen.config import TrainConfig

    def row(key: str, setting: Any) -> str:
        default = {"None": "null", "???": "", "True": "true", "False": "false"}.get(
            str(setting.default), setting.default
        )
        return f"  {f'{key}={default}':34} {setting.metadata['meaning']}"

    example = TrainConfig()
    rows = [row(f.name, f) for f in fields(example) if "meaning" in f.metadata and f.name != "trainer"]
    for part in ("model", "optimizer", "corpus"):
        group = getattr(example, part)
        assert is_dataclass(group)
        rows += ["", f"{part}: {group.__doc__}", *(row(f"{part}.{f.name}", f) for f in fields(group))]
    choices = {
        group: textwrap.fill(
            ", ".join(sorted(file.stem for file in (_config_folder() / group.lstrip("+")).glob("*.yaml"))),
            width=96,
            initial_indent=f"  {group}=",
            subsequent_indent=" " * (len(group) + 3),
        )
        for group in ("corpus", "model", "+experiment")
    }
    return f"""Usage: chargen train [TEXT ...] [SETTING=VALUE ...]

Learn to write from a text. TEXT is a file, several, a folder or a 'glob' of .txt, .md, .jsonl
(also .gz); without one, the articles of the Python language reference.

  chargen train                                    three minutes on the embedded corpus
  chargen train my.txt trainer.max_time=00:00:10:00
  chargen train articles/ model=small model.cell=lstm
  chargen train corpus=tinyshakespeare trainer.max_epochs=3
  chargen train resume=runs/x                      go on with a run that was stopped
  chargen train -m model.cell=rnn,gru,lstm         one run of each
  chargen train --cfg job                          show the composed settings and stop

Choices
{chr(10).join(choices.values())}

Settings
{chr(10).join(rows)}

trainer: Lightning's Trainer, under its own names
  trainer.max_time=DD:HH:MM:SS       the length of the run: a time (three minutes if none is given),
  trainer.max_steps=1000             updates,
  trainer.max_epochs=3               or passes over the text
  trainer.gradient_clip_val=1.0      bound on the gradient's global norm; null for none
  trainer.val_check_interval=500     updates between validations; ten in a run if not given"""


_MAY_CHANGE = ("early_stopping", "logger", "save_every_minutes", "save_every_updates", "sample_length", "data_dir")
"""What does not change what is learned, or says how long; with all of `trainer`."""


def _resumed(given: dict[str, Any], overrides: list[str]) -> tuple[dict[str, Any], bool, str]:
    """The settings of the run to go on with, changed by what may change; whether its length is among that.

    The last is the digest of the text that it learns from.
    """
    from chargen.config import read
    from chargen.storage.run_folder import CHECKPOINT, undamaged

    file = Path(given["resume"])
    file, checkpoint, wrong = undamaged(file / CHECKPOINT if file.is_dir() else file)
    if wrong:
        wrong = f"{wrong.partition('; give')[0]}; going on from {file}, one checkpoint earlier"
        print(f"chargen: {_one_line(wrong)}", file=sys.stderr)
    kept: dict[str, Any] = checkpoint["hyper_parameters"]["run"]["config"]
    config = read(kept)
    settings = asdict(config)
    settings["model"] |= {"weight_dropout": 0.0, **kept.get("model", {})}  # runs of before it have no such setting
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    changed = [key for key in keys if key != "resume"]
    for key in changed:
        if not key.startswith("trainer.") and key not in _MAY_CHANGE:
            raise ValueError(
                f"{key}: a resumed run keeps this setting; only trainer.*, {', '.join(_MAY_CHANGE[:-1])} "
                f"and {_MAY_CHANGE[-1]} can change"
            )
    new_length = not {"trainer.max_time", "trainer.max_steps", "trainer.max_epochs"}.isdisjoint(changed)
    if new_length:
        settings["trainer"].update(max_time=None, max_steps=-1, max_epochs=-1)
    for key in changed:
        outer, _, inner = key.partition(".")
        if inner:
            settings[outer][inner] = given[outer][inner]
        else:
            settings[outer] = given[outer]
    if "data_dir" not in changed:
        settings["data_dir"] = str(_data_folder(config))
    if config.logger not in (None, "tensorboard") and "logger" not in changed:  # which send it to somewhere
        print(
            f"chargen: the run was logged by {config.logger}: write logger={config.logger} to go on so", file=sys.stderr
        )
        settings["logger"] = None
    learned = checkpoint["hyper_parameters"]["run"]["corpus"]["sha256"]
    settings |= {"resume": str(file), "run_dir": str(file.parent)}
    _require_nothing_foreign(read(settings))
    return settings, new_length, learned


def _train(settings: dict[str, Any], new_length: bool, program: str, learned: str | None) -> float | None:
    """Checks the settings, encodes the corpus and trains."""
    from chargen.config import read

    read(settings)  # before anything is built
    run_dir = Path(settings["run_dir"])
    _require_free(run_dir, settings)
    from rich.console import Console

    from chargen.corpus.encoded import load_corpus
    from chargen.storage.atomic import folder_lock

    class Output(Console):
        """Standard output, whose reader may go away (`| head`): a run then stops as if it had been told to."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            _pass_over_stdout()
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                raise SystemExit(_READER_GONE)
            signal.raise_signal(signal.SIGTERM)

    console = Output(soft_wrap=True, highlight=False, markup=False, emoji=False)

    settings = {**settings, "corpus": dict(settings["corpus"]), "data_dir": _absolute(settings["data_dir"])}
    if path := settings["corpus"]["path"]:
        settings["corpus"]["path"] = _absolute(path) if isinstance(path, str) else [_absolute(one) for one in path]
    corpus = load_corpus(folder=Path(settings["data_dir"]), learned=learned, **settings["corpus"])
    several = f", {corpus.num_articles:,} articles" if corpus.num_articles > 1 else ""
    console.print(
        f"corpus {corpus.name}: {len(corpus.ids):,} characters, {len(corpus.tokenizer.symbols):,} symbols{several}; "
        f"the last {len(corpus.validation) - 1:,} are held out"
    )
    with console.status("loading torch and lightning") if console.is_terminal else contextlib.nullcontext():
        from chargen.training.run import fit
    with folder_lock(run_dir):
        _require_free(run_dir, settings)
        return fit(settings, corpus, console, new_length, program)


_READER_GONE = 128 + 13  # as if killed by SIGPIPE, which not every system has


def _pass_over_stdout() -> None:
    """What is written from now on, by whomever, is lost: nobody reads it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _require_free(run_dir: Path, settings: dict[str, Any]) -> None:
    if not settings["resume"] and (run_dir / "last.ckpt").exists():
        raise ValueError(f"run_dir={run_dir} holds a run already: write resume={run_dir} to go on with it")


def _absolute(path: str) -> str:
    """As it is found from anywhere: a run may be resumed from another folder."""
    return os.path.abspath(os.path.expanduser(path))


def _program() -> str:
    """What the user types to run this program again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(os.path.relpath(sys.executable))} -m chargen"
    if shutil.which(called.name) == str(called.absolute()):
        return called.name
    return shlex.quote(os.path.relpath(called))


# ----------------------------------------------------------------------------------- sample


@app.command()
def sample(
    run: Run = None,
    prompt: Annotated[str, typer.Option(help="Text to begin with.")] = "",
    prompt_file: Annotated[Optional[str], typer.Option(help="A file to begin with, or - for standard input.")] = None,
    length: Annotated[int, typer.Option(help="Characters to write at most (bytes, for a byte model).")] = 1000,
    temperature: Annotated[float, typer.Option(help="Boldness: 0 always takes the likeliest character.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the k likeliest only; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest that hold this probability.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Leave out what is less likely than this share of the likeliest.")] = 0.0,
    seed: Annotated[Optional[int], typer.Option(help="The same seed writes the same text.")] = None,
    num_samples: Annotated[int, typer.Option(help="How many samples to write; they are written side by side.")] = 1,
    precision: Annotated[
        Literal["float32", "int8"], typer.Option(help="Of the weights: int8 is faster, and writes a little worse.")
    ] = "float32",
    novelty: Annotated[
        bool, typer.Option("--novelty", help="Say how much of each sample stands in the training text word for word.")
    ] = False,
    output: Annotated[Optional[Path], typer.Option(help="Write to this file instead of the terminal.")] = None,
    through: Annotated[bool, typer.Option("--through", help="Write on behind the end of an article.")] = False,
    unknown: Annotated[
        Literal["skip", "error"], typer.Option(help="What to do with characters of the prompt the model does not know.")
    ] = "skip",
) -> None:
    """Write a text in the manner of what was learned. Characters come as they are written."""
    from chargen.sampling.generator import SamplingParams, TextGenerator
    from chargen.storage.run_folder import load_model

    choice = SamplingParams(temperature, top_k, top_p, min_p)
    for flag, value, least in (("--length", length, 1), ("--num-samples", num_samples, 1), ("--seed", seed or 0, 0)):
        if value < least:
            raise ValueError(f"{flag} {value}: must be a whole number from {least} up")
    if prompt_file is not None:
        if prompt:
            raise ValueError("--prompt and --prompt-file: give one of them")
        prompt = _read_text(prompt_file)
    portable = load_model(run)
    training = _learned_from(portable, "--novelty").train if novelty else None
    writer = TextGenerator(portable, precision)
    ids, strangers = writer.read(prompt)
    if strangers:
        named = " ".join(f"{c!r}" for c in strangers[:12]) + (" …" if len(strangers) > 12 else "")
        if unknown == "error":
            raise ValueError(f"the model does not know {named}: leave them out, or write --unknown skip")
        print(f"chargen: the model does not know {named}: skipped", file=sys.stderr)
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
    seeds = [[seed, number] for number in range(num_samples)]
    pieces = writer.write_several(seeds, prompt, length, choice, through)
    with _output(output) as write:
        samples = _write_in_turn(write, pieces, num_samples, writer.tokenizer.decode(ids))
    if training is not None:
        for number, text in enumerate(samples):
            _print_novelty(f"sample {number + 1}: " if num_samples > 1 else "", training, writer.tokenizer, text)


def _print_novelty(which: str, training: np.ndarray, tokenizer: Tokenizer, text: str) -> None:
    """On standard error, so that the sample itself can be passed on. Bytes that are no UTF-8 count as new."""
    from chargen.evaluation.novelty import LONG, novelty

    found = novelty(training, tokenizer.encode(text))
    run = tokenizer.decode(tokenizer.encode(text)[found.place : found.place + found.longest].tolist())
    shown = run if len(run) <= 60 else f"{run[:57]}..."
    print(
        f"chargen: {which}longest run copied from the training text: {found.longest} {tokenizer.unit}s, {shown!r}; "
        f"{found.copied:.1%} lies in runs of {LONG} or more",
        file=sys.stderr,
    )


def _write_in_turn(
    write: Callable[[str], object], pieces: Iterator[tuple[int, str]], num: int, prompt: str
) -> list[str]:
    """Writes samples one behind the other as they come side by side: the first at once, the others after it.

    Returns what was written of each, without the prompt.
    """
    waiting: list[list[str]] = [[] for _ in range(num)]
    for number in range(num):
        if num > 1:
            write(f"{chr(10) if number else ''}--- sample {number + 1}\n")
        write(prompt + "".join(waiting[number]))
        if number == 0:
            for which, piece in pieces:
                waiting[which].append(piece)
                if which == 0:
                    write(piece)
        write("\n")
    return ["".join(pieces_of_one) for pieces_of_one in waiting]


@contextlib.contextmanager
def _output(file: Path | None) -> Iterator[Any]:
    """Writes pieces of text as they come: to the terminal, or to a file that is kept when interrupted."""
    if file is not None:
        from chargen.storage.atomic import atomic_write

        interrupted = False
        with (
            atomic_write(file, through=True) as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as stream,
        ):
            try:
                yield stream.write
            except KeyboardInterrupt:
                interrupted = True
        if interrupted:
            raise KeyboardInterrupt
        return

    from chargen.corpus.code_points import printable

    live = sys.stdout.isatty()

    def write(text: str) -> None:
        try:
            sys.stdout.write(printable(text) if live else text)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has seen enough, and nobody is there to be told so
            _pass_over_stdout()
            raise typer.Exit() from None

    yield write


def _read_text(source: str) -> str:
    """A file's text, or standard input's for `-`."""
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 at byte {error.start}: convert it first") from None
    except OSError as error:
        raise ValueError(f"cannot read {source}: {error.strerror}") from None


# ----------------------------------------------------------------------------------- evaluate


@app.command()
def evaluate(
    run: Run = None,
    text: Annotated[Optional[str], typer.Option(help="A text to score instead of the run's held-out one.")] = None,
    encoding: Annotated[str, typer.Option(help="Of that text.")] = "utf-8",
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="Also let the model learn from the text as it reads: protocol C.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also score letter frequencies, n-grams and compressors.")
    ] = False,
    output: Annotated[Optional[Path], typer.Option("--json", metavar="FILE", help="Write them there too.")] = None,
) -> None:
    """Nats and bits per character of a text under a model, and under what a network has to beat."""
    from rich.console import Console

    from chargen.storage.run_folder import load_model

    portable = load_model(run)
    needed = " and ".join(flag for flag, given in (("--dynamic", dynamic), ("--baselines", baselines)) if given)
    corpus = _learned_from(portable, needed) if needed else None
    ids, name, num_unknown = _text_to_score(portable, text, encoding)
    training = corpus.train if corpus is not None else ids[:0]
    from rich.progress import Progress

    from chargen.corpus.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_json(portable.tokenizer)
    if tokenizer.vocab_size != portable.settings["vocab_size"]:
        raise ValueError("the model's weights do not fit its tokenizer")
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        scores = _scores(portable, ids, training if dynamic else None, progress)
        rows = _baseline_rows(tokenizer, training, ids, progress) if baselines else []
    console.print(f"{name}: {len(ids) - 1:,} {tokenizer.unit}s")
    if num_unknown:
        console.print(f"  {num_unknown:,} of them are unknown to the model, and scored as such")
    console.print(f"  {'protocol':42}{'nats/char':>11}{'bits/char':>11}")
    for label, nats in (*((label, score.nats_per_char) for _, label, score in scores), *rows):
        console.print(f"  {label:42}{nats:11.4f}{nats / math.log(2):11.4f}")
    if output is not None:
        from chargen.evaluation.score import WINDOW
        from chargen.storage.atomic import atomic_write

        report: dict[str, Any] = {"text": name, "unknown_characters": num_unknown}
        for key, _, score in scores:
            report[key] = {"nats_per_char": score.nats_per_char, "bits_per_char": score.bits_per_char,
                           "characters": score.characters}  # fmt: skip
        report["windowed"]["window"] = WINDOW
        if baselines:
            report["baselines"] = dict(rows)
        with atomic_write(output, through=True) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _scores(
    portable: ModelFile, ids: np.ndarray, training: np.ndarray | None, progress: Progress
) -> list[tuple[str, str, Score]]:
    """Keys, labels and scores by protocols A and B, and by C where there is a training text."""
    from chargen.evaluation.dynamic import RMS, SGD, TRAINING_WINDOWS, mean_squares, score_dynamic
    from chargen.evaluation.score import WINDOW, score_streaming, score_windowed
    from chargen.nn.model import CharRNN

    model, N = CharRNN.from_model_file(portable), len(ids) - 1
    more = 0 if training is None else 2 * N + min(TRAINING_WINDOWS * RMS.window, len(training) - 1)
    task = progress.add_task("scoring", total=2 * N + more)

    def advance(characters: int) -> None:
        progress.advance(task, characters)

    scores = [
        ("windowed", f"A  windows of {WINDOW}, zero state", score_windowed(model, ids, advance)),
        ("streaming", "B  streaming, one carried state", score_streaming(model, ids, advance)),
    ]
    if training is not None:
        squares = mean_squares(model, training, RMS.window, advance)
        rms, sgd = score_dynamic(model, ids, RMS, squares, advance), score_dynamic(model, ids, SGD, None, advance)
        scores += [("dynamic_rms", "C  dynamic, learning by rms", rms), ("dynamic_sgd", "C  dynamic, by sgd", sgd)]
    return scores


def _baseline_rows(
    tokenizer: Tokenizer, training: np.ndarray, ids: np.ndarray, progress: Progress
) -> list[tuple[str, float]]:
    """What they are called, and their nats per character."""
    from chargen.evaluation.baselines import baselines

    task = progress.add_task("counting and compressing", total=4)

    def advance(_: str) -> None:
        progress.advance(task)

    rows = baselines(training, ids, tokenizer.vocab_size, tokenizer.to_bytes, advance)
    return [(f"{row.name}, {'adaptive' if row.adaptive else 'static'}", row.nats_per_char) for row in rows]


def _text_to_score(portable: ModelFile, text: str | None, encoding: str) -> tuple[Any, str, int]:
    """Ids with one of context in front, what they are called, and how many are unknown."""
    import numpy as np

    from chargen.corpus.encoded import encode_file
    from chargen.corpus.tokenizer import UNKNOWN_ID, Tokenizer

    if text is not None:
        cleaning = {key: portable.cleaning[key] for key in ("normalize_newlines", "normalize_unicode")}
        scored = encode_file(text, Tokenizer.from_json(portable.tokenizer), encoding, **cleaning)
        ids = np.insert(scored, 0, portable.notes["start_id"])
        return ids, text, int((scored == UNKNOWN_ID).sum())
    corpus = _learned_from(portable)
    ids = corpus.validation
    return ids, f"held-out text of corpus {corpus.name}", int((ids[1:] == UNKNOWN_ID).sum())


def _learned_from(portable: ModelFile, needed_by: str = "") -> Corpus:
    """The corpus of a model's run.

    Raises:
        ValueError: it is not known, not there, or not the same any more. The message says how to do without.
    """
    from chargen.config import read
    from chargen.corpus.encoded import load_corpus

    without = f"leave out {needed_by}" if needed_by else "score a text with --text FILE"
    config = portable.notes.get("config")
    if config is None:
        raise ValueError(f"the model does not say what it learned from: {without}")
    try:
        config = read(config)
        config.data_dir = str(_data_folder(config))
        _require_nothing_foreign(config)
        learned = str(portable.notes.get("corpus", {}).get("sha256"))
        corpus = load_corpus(folder=Path(config.data_dir), learned=learned, **asdict(config.corpus))
        if corpus.tokenizer.vocab_size != portable.settings["vocab_size"]:
            raise ValueError(f"the model does not know the symbols of corpus {corpus.name}")
        return corpus
    except ValueError as error:
        raise ValueError(f"{error}; or {without}") from None


def _data_folder(config: TrainConfig) -> Path:
    """Of a run that is gone on with or scored: where its data is, if it is there, but no new folder of its choice."""
    from chargen.config import TrainConfig

    folder = Path(config.data_dir)
    is_one = (folder / "encoded").is_dir() or (config.corpus.file and (folder / config.corpus.file).is_file())
    return folder if is_one else Path(_absolute(TrainConfig().data_dir))


def _require_nothing_foreign(config: TrainConfig) -> None:
    """Settings from a file may have been written by anyone: they fetch nothing but what conf/corpus names.

    Raises:
        ValueError: they would. A download that is there already is used; its digest is compared.
    """
    import yaml

    from chargen.corpus.encoded import unpacked

    wanted, folder = asdict(config.corpus), Path(config.data_dir)
    if wanted["url"] is None:
        return
    if wanted["file"] and ((folder / wanted["file"]).is_file() or unpacked(folder / wanted["file"]).is_file()):
        return
    known = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in (_config_folder() / "corpus").glob("*.yaml")]
    if not any(all(wanted[key] == one.get(key) for key in ("url", "file", "size", "sha256")) for one in known):
        raise ValueError(
            f"the run learned from {wanted['url']}, which chargen does not fetch on the word of a file: if you trust "
            f"it, download it and put it at {folder / str(wanted['file'])}"
        )


# ----------------------------------------------------------------------------------- plot


@app.command()
def plot(
    run: Run = None,
    output: Annotated[Optional[Path], typer.Option(help="The picture; in the run's folder if not given.")] = None,
) -> None:
    """Draw the learning curve of a run."""
    import csv

    from chargen.storage.run_folder import newest

    folder = run or newest()
    folder = folder.parent if folder.is_file() else folder
    damaged = ValueError(f"{folder / 'metrics.csv'} is damaged: its rows are not what chargen writes")
    try:
        if not (folder / "metrics.csv").is_file():
            raise FileNotFoundError
        with open(folder / "metrics.csv", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError:
        raise ValueError(f"{folder} holds no metrics.csv: give the folder of a run") from None
    except (csv.Error, UnicodeDecodeError):
        raise damaged from None
    try:
        from chargen.insight.figures import learning_curve
    except ImportError:
        raise ValueError("drawing needs matplotlib: pip install 'chargen[plots]'") from None

    def column(name: str) -> tuple[list[float], list[float]]:
        try:
            points = [(float(row["seconds"]), float(row[name])) for row in rows if row.get(name)]
            points = [point for point in points if all(map(math.isfinite, point))]  # of updates that were left out
        except (KeyError, TypeError, ValueError):
            raise damaged from None
        return [x for x, _ in points], [y for _, y in points]

    picture = output or folder / "curve.png"
    train, validation = column("train_nats_per_char"), column("validation_nats_per_char")
    learning_curve(picture, str(folder), train, validation, column("learning_rate"))
    print(picture)


# ----------------------------------------------------------------------------------- doctor


@app.command()
def doctor(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Files, a folder or a 'glob', as for train.")],
    encoding: Annotated[str, typer.Option(help="Of the files.")] = "utf-8",
) -> None:
    """Look a text over before training: what is in it, what is odd about it, and what sizes fit it."""
    from rich.console import Console
    from rich.progress import Progress

    from chargen.corpus.code_points import printable
    from chargen.corpus.encoded import find_files
    from chargen.insight.text_profile import LONG_LINE, RARE, profile_text

    files = find_files(texts)
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=2 * sum(file.stat().st_size for file in files))
        found = profile_text(files, encoding, lambda num_bytes: progress.advance(task, num_bytes))
    if not found.characters:
        raise ValueError(f"{' '.join(texts)}: there is no text in it")

    def row(what: str, value: str, write: str = "") -> None:
        console.print(f"  {what:20}{value}{f': write {write}' if write else ''}")

    def several(number: int, word: str) -> str:
        return f"{number:,} {word}{'' if number == 1 else 's'}"

    marks = f", {several(found.byte_order_marks, 'byte order mark')}" if found.byte_order_marks else ""
    row("files", f"{several(len(files), 'file')}, {found.num_bytes:,} bytes, {encoding}{marks}")
    row("characters", f"{found.characters:,}, {several(found.symbols, 'different one')}")
    ends = ", ".join(f"{num:,} {end}" for end, num in found.line_ends.most_common())
    mixed = "corpus.normalize_newlines=true to make them one" if set(found.line_ends) - {"LF"} else ""
    row("line ends", ends or "none", mixed)
    row("longest line", several(found.longest_line, "character"))
    if found.not_normalized:
        row("accents apart", "some characters are spelled in pieces", "corpus.normalize_unicode=true to join them")
    lengths = sorted(found.article_lengths)
    middle = lengths[len(lengths) // 2]
    row("articles", f"{len(lengths):,} of {lengths[0]:,} to {lengths[-1]:,} characters, {middle:,} in the middle")
    if found.repeated_articles:
        row("repeated articles", f"{found.repeated_articles:,} are the same as one before: take them out")
    if found.long_lines:
        share = found.repeated_lines / found.long_lines
        row("repeated lines", f"{share:.1%} of those of {LONG_LINE} characters and more")
    least = f"corpus.min_count={RARE} to fold them into one" if found.rare else ""
    row("rare symbols", f"{len(found.rare):,} come less than {RARE} times" if found.rare else "none", least)
    for rare in found.rare[:10]:
        place = f"{printable(str(rare.file))}:{rare.line}:{rare.column}"
        console.print(f"    {rare.symbol!r:8} U+{ord(rare.symbol):04X} {rare.name:40} {rare.times} x, first {place}")
    if len(found.rare) > 10:
        console.print(f"    and {len(found.rare) - 10:,} more")
    _print_sizes(console, found.symbols + 2, int(0.9 * found.characters))


def _print_sizes(console: Console, vocab_size: int, characters: int) -> None:
    """What each size of model would cost, and how long it takes to read the text as often as is good for it."""
    import yaml

    from chargen.config import TrainConfig, max_time
    from chargen.insight.text_profile import size_of
    from chargen.planning.advice import GOOD

    train = TrainConfig()
    if characters < train.batch_size * train.sequence_length:
        console.print(
            f"  too short to train on with the defaults: write batch_size=1 sequence_length={max(1, characters // 2)}"
        )
        return
    console.print(
        f"\n  {'size':20}{'parameters':>12}{'memory':>10}{'chars/s':>10}   {GOOD:.0f} passes, a good length, take"
    )
    for name in ("tiny", "small", "medium", "large"):
        settings = yaml.safe_load((_config_folder() / "model" / f"{name}.yaml").read_text(encoding="utf-8"))
        size = size_of(settings, vocab_size, train.batch_size, train.sequence_length)
        length = f"trainer.max_time={max_time(GOOD * characters / size.chars_per_second)}"
        cost = f"{size.parameters:12,}{size.megabytes:7,.0f} MB{size.chars_per_second:10,.0f}"
        console.print(f"  {f'model={name}':20}{cost}   {length}")


# ----------------------------------------------------------------------------------- info


@app.command()
def info() -> None:
    """Versions, threads, and which code computes on this machine: for a report, or to see that it is fast."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from chargen import native

    for package in ("chargen", "torch", "lightning", "hydra-core", "tokenizers", "safetensors", "numpy"):
        try:
            print(f"{package:12} {chargen.__version__ if package == 'chargen' else version(package)}")
        except PackageNotFoundError:
            print(f"{package:12} not installed")
    print(f"{'python':12} {platform.python_version()}, {platform.system()} {platform.machine()}")
    import torch

    print(f"{'threads':12} {torch.get_num_threads()} of {os.cpu_count()} processors")
    print(f"{'gpu':12} {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}")
    if native.library() is None:
        why = f"{native.VARIABLE}={native.OFF}" if os.environ.get(native.VARIABLE) == native.OFF else "not built"
        print(f"{'kernels':12} none ({why}): training runs in torch's operations, sampling in numpy's")
        if why == "not built":
            print(f"{'':12} with a C++ compiler at hand: pip install --force-reinstall --no-deps chargen")
        return
    others = [name for name in native.instruction_sets(native.kernels()) if name != native.in_use()]
    also = f" (also here: {', '.join(others)}; {native.VARIABLE} chooses)" if others else ""
    print(f"{'kernels':12} {native.in_use()}{also}")
    print(f"{'':12} training: float32 on the CPU; elsewhere torch's operations")
    print(f"{'':12} sampling: float32, int8")
