"""Words of other programs land: each is answered with what to write instead, and that works."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer.main
from support.conf import composed
from support.environment import Command

from chargen.cli.app import app
from chargen.cli.overrides import hydra_arguments
from chargen.cli.synonyms import COMMANDS, EVALUATE, SAMPLE, TRAIN, Synonyms, normalized
from chargen.cli.unknown_words import _GROUPS, _KEYS
from chargen.config import parse_config
from chargen.errors import UserError

GROUP: Any = typer.main.get_command(app)
TABLES = {"train": TRAIN, "sample": SAMPLE, "evaluate": EVALUATE}

VALUES = {
    "{}": "text.txt",
    "corpus={}": "enwik8",
    "model={}": "small",
    "+experiment={}": "smoke",
    "corpus.encoding={}": "latin-1",
    "corpus.validation_fraction={}": "0.2",
    "model.cell={}": "lstm",
    "model.dropout={}": "0.3",
    "model.weight_dropout={}": "0.3",
    "optimizer.learning_rate={}": "0.01",
    "optimizer.weight_decay={}": "0.01",
    "optimizer.beta1={}": "0.8",
    "optimizer.beta2={}": "0.8",
    "optimizer.momentum={}": "0.8",
    "trainer.max_time={}": "10m",
    "trainer.precision={}": "bf16-mixed",
    "trainer.accelerator={}": "auto",
    "run_dir={}": "out",
    "resume={}": "out",
    "logger={}": "wandb",
    "--prompt {}": "It is",
    "--prompt-file {}": "text.txt",
    "--temperature {}": "0.5",
    "--top-p {}": "0.9",
    "--min-p {}": "0.1",
    "--precision {}": "int8",
    "--output {}": "out.txt",
    "--unknown {}": "error",
    "--text {}": "text.txt",
    "--encoding {}": "latin-1",
    "--json {}": "out.json",
}
"""A value for each target that does not take 3."""


def entries(table: Synonyms) -> list[tuple[str, str, str]]:
    """Each word of a table, what to write instead, and a value to type."""
    found = []
    for instead, words in table.write.items():
        for word in words.split():
            name, _, value = word.partition("=")
            found.append((name, instead, value or ("" if "{}" not in instead else VALUES.get(instead, "3"))))
    return found


def forms(name: str, value: str) -> list[list[str]]:
    """The ways in which a word and its value are typed."""
    if not value:
        return [[f"--{name}"], [f"-{name}"], [f"--{name.replace('_', '-')}"], [f"--{name}=true"], [f"{name}=true"]]
    return [
        *([f"{dashes}{name}", value] for dashes in ("--", "-")),
        [f"--{name}={value}"],
        [f"--{name.replace('_', '-')}", value],
        [f"{name}={value}"],
        [f"{name.upper()}={value}"],
    ]


def parse(command: str, words: list[str]) -> None:
    """Read a command line without running it."""
    if command != "train":
        GROUP.commands[command].make_context(command, list(words), parent=GROUP.make_context("chargen", [command]))
        return
    settings = [word for word in hydra_arguments(words) if not word.startswith("resume=")]
    parse_config(composed(*settings, "run_dir=r"))


@pytest.mark.parametrize("command", TABLES)
def test_tables_have_no_word_twice(command: str) -> None:
    table = TABLES[command]
    words = Counter(word for part in (table.write, table.missing) for words in part.values() for word in words.split())
    assert not [word for word, number in words.items() if number > 1]
    assert not [word for word in words if word.partition("=")[0] != normalized(word.partition("=")[0])]
    assert len(words) > 100
    if command != "train":
        assert not [
            word for word in words if any(f"--{word}" in param.opts for param in GROUP.commands[command].params)
        ]


@pytest.mark.parametrize("command", TABLES)
def test_every_word_is_answered_in_every_form(command: str, away: Path) -> None:
    for name, instead, value in entries(TABLES[command]):
        expected = " ".join(shlex.quote(part.replace("{}", value)) for part in instead.split())
        for typed in forms(name, value):
            if command == "train" and not typed[0].startswith("-") and name in (*_KEYS, *_GROUPS):
                continue  # the setting has that name
            with pytest.raises(UserError) as caught:
                parse(command, typed)
            told = str(caught.value)
            assert told.endswith((f"{' '.join(typed)}: write {expected}", f"write {expected}")), (typed, told)
            assert len(told.splitlines()) == 1


@pytest.mark.parametrize(("command", "instead"), [(name, one) for name, table in TABLES.items() for one in table.write])
def test_what_is_recommended_works(command: str, instead: str, away: Path) -> None:
    if command == "train":
        (away / "text.txt").touch()
    value = VALUES.get(instead, "3")
    parse(command, [part.replace("{}", value) for part in instead.split()])


@pytest.mark.parametrize("command", TABLES)
def test_words_without_a_counterpart_say_so(command: str, away: Path) -> None:
    for reason, words in TABLES[command].missing.items():
        for word in words.split():
            name, _, value = word.partition("=")
            for typed in forms(name, value or "3"):
                if name in _KEYS and not typed[0].startswith("-"):
                    continue  # the setting has that name
                with pytest.raises(UserError) as caught:
                    parse(command, typed)
                assert str(caught.value).endswith(f"{' '.join(typed)}: {reason}"), typed


TYPED = [
    # nanoGPT
    ("train", "--max_iters=2000 --block_size=256", "trainer.max_steps=2000 sequence_length=256"),
    ("train", "--n_embd=384 --n_layer=6", "model.hidden_size=384 model.num_layers=6"),
    ("train", "out_dir=out eval_interval=500", "run_dir=out trainer.val_check_interval=500"),
    ("train", "--init_from=resume", "resume=RUN"),
    ("train", "--init_from=runs/a --text_column=body", "init=runs/a corpus.field=body"),
    (
        "train",
        "--device=cpu --gradient_accumulation_steps=4",
        "trainer.accelerator=cpu trainer.accumulate_grad_batches=4",
    ),
    ("train", "--grad_clip=1.0 --dropout=0.2", "trainer.gradient_clip_val=1.0 model.dropout=0.2"),
    ("sample", "--num_samples=10 --max_new_tokens=500", "--num-samples 10 --length 500"),
    ("sample", "--start=Once --top_k=200", "--prompt Once --top-k 200"),
    # char-rnn and torch-rnn
    ("train", "-rnn_size 512 -num_layers 2", "model.hidden_size=512 model.num_layers=2"),
    ("train", "-seq_length 50 -batch_size 50", "sequence_length=50 batch_size=50"),
    ("train", "-max_epochs 50 -gpuid -1", "trainer.max_epochs=50 trainer.accelerator=cpu"),
    (
        "train",
        "-gpuid 0 -checkpoint_every 1000",
        "trainer.accelerator=gpu 'trainer.devices=[0]' save_every_updates=1000",
    ),
    ("train", "-gpu 0", "trainer.accelerator=gpu 'trainer.devices=[0]'"),
    ("train", "gpu=1", "trainer.accelerator=gpu 'trainer.devices=[1]'"),
    ("train", "device=cuda:1", "trainer.accelerator=gpu 'trainer.devices=[1]'"),
    ("train", "--rnn_type LSTM", "model.cell=lstm"),
    ("train", "rnn=LSTM --rnn gru", "model.cell=lstm model.cell=gru"),
    ("train", "--model.cell GRU --report_to WandB", "model.cell=gru logger=wandb"),
    ("train", "-model lstm -val_frac 0.05", "model.cell=lstm corpus.validation_fraction=0.05"),
    ("sample", "-temperature 0.7 -length 2000", "--temperature 0.7 --length 2000"),
    ("sample", "-primetext It -checkpoint cv/a.t7", "--prompt It cv/a.t7"),
    ("sample", "-start_text It -sample 0", "--prompt It --temperature 0"),
    # Keras and textgenrnn
    ("train", "epochs=3 units=256", "trainer.max_epochs=3 model.hidden_size=256"),
    ("train", "--num_epochs 3 --validation_split 0.1", "trainer.max_epochs=3 corpus.validation_fraction=0.1"),
    ("sample", "max_gen_length=300 temperature=0.5", "--length 300 --temperature 0.5"),
    # Hugging Face
    ("train", "--num_train_epochs 3 --output_dir out", "trainer.max_epochs=3 run_dir=out"),
    ("train", "--per_device_train_batch_size 8 --learning_rate 5e-5", "batch_size=8 optimizer.learning_rate=5e-5"),
    ("sample", "--do_sample False --num_return_sequences 3", "--temperature 0 --num-samples 3"),
    # vLLM and others
    ("sample", "--max-tokens 64 -n 4", "--length 64 --num-samples 4"),
    ("sample", "--temp 0.5 --len 30", "--temperature 0.5 --length 30"),
    ("train", "lr=0.1", "optimizer.learning_rate=0.1"),
    ("train", "optimizer.lr=0.1", "optimizer.learning_rate=0.1"),
    ("train", "trainer.epochs=3", "trainer.max_epochs=3"),
    ("train", "max_time=10m", "trainer.max_time=10m"),
    ("train", "max_time=600 --time 60", "trainer.max_time=600s trainer.max_time=60s"),
    ("train", "--Model=Small Model=tiny size=large", "model=small model=tiny model=large"),
    ("train", "experiment=smoke --experiment one_hour", "+experiment=smoke +experiment=one_hour"),
    ("train", "dataset=shakespeare_char dataset=my.txt", "corpus=tinyshakespeare my.txt"),
    ("train", "Trainer.max_steps=3 BATCH_SIZE=8", "trainer.max_steps=3 batch_size=8"),
    ("train", "--resume lr=1", "resume=RUN optimizer.learning_rate=1"),
    ("train", "--resume --load", "resume=RUN resume=RUN"),
    ("plot", "r -o x.png", "--output x.png"),
    ("doctor", "--text my.txt --enc latin-1", "my.txt --encoding latin-1"),
    ("doctor", "my.txt corpus.encoding=latin-1", "--encoding latin-1"),
    ("train", "--epochs 3 my.txt", "trainer.max_epochs=3"),
    ("train", "hidden_size=64 --cell lstm", "model.hidden_size=64 model.cell=lstm"),
    ("train", "--model.num_layers 2 --seed=3", "model.num_layers=2 seed=3"),
    ("evaluate", "--input my.txt --out a.json", "--text my.txt --json a.json"),
]


@pytest.mark.parametrize(("command", "typed", "instead"), TYPED, ids=[typed for _, typed, _ in TYPED])
def test_command_lines_of_other_programs(command: str, typed: str, instead: str, away: Path) -> None:
    with pytest.raises(UserError) as caught:
        parse(command, typed.split())
    assert str(caught.value).endswith(f": write {instead}")


@pytest.mark.parametrize(
    ("command", "typed", "message"),
    [
        (
            "train",
            "optimizer=sgd",
            "optimizer=sgd: write optimizer.name=adamw or optimizer.name=sgd; the settings are ",
        ),
        ("train", "--n_head 4 --compile", "--n_head 4: a recurrent network has no attention"),
        ("train", "--compile=False", "the compiled kernels are used by themselves"),
        ("train", "--fp16=False", "--fp16=False: leave it out"),
        ("train", "--hiden-size 3", "--hiden-size: there is no such setting; did you mean model.hidden_size?"),
        ("train", "--xyzzy", "there is no such setting; `chargen train --help` lists the settings"),
        (
            "train",
            "--epochs three",
            "--epochs three: must be a whole number from 1 up, or -1 for no limit; write trainer",
        ),
        ("train", "lr=fast", "lr=fast: must be a number; write optimizer.learning_rate=…"),
        ("train", "--dropout 2", "--dropout 2: must be from 0 up and below 1; write model.dropout=…"),
        ("train", "backend=NCCL", "backend=NCCL: chargen train runs on one device: leave it out"),
        (
            "doctor",
            "my.txt model=tiny",
            "model=tiny: chargen doctor examines every size of model and takes no settings",
        ),
        (
            "doctor",
            "my.txt batch_size=8",
            "batch_size=8: chargen doctor takes no settings of chargen train: leave it out",
        ),
        ("sample", "r model.cell=lstm", "model.cell=lstm: chargen sample takes no settings of chargen train: leave it"),
        ("train", "-", "-: a text is read more than once"),
        ("sample", "--repetition_penalty 1.2", "--repetition_penalty 1.2: nothing is penalized"),
        ("sample", "--temprature 1", "--temprature: there is no such option; did you mean --temperature?"),
        ("sample", "--xyzzy", "--xyzzy: there is no such option; `chargen sample --help` lists the options"),
        ("plot", "--ouput x", "--ouput: there is no such option; did you mean --output?"),
        ("evaluate", "--ppl", "2 to the power of the bits is the perplexity"),
    ],
)
def test_other_words_are_answered(command: str, typed: str, message: str, away: Path) -> None:
    with pytest.raises(UserError) as caught:
        parse(command, typed.split())
    assert message in str(caught.value)


def test_blanks_around_a_name_are_left_out_and_those_in_a_value_are_quoted(away: Path) -> None:
    for typed, message in (
        (" lr=1e-3", " lr=1e-3: write optimizer.learning_rate=1e-3"),
        ("LR = 0.1", "LR = 0.1: write optimizer.learning_rate=0.1"),
        ("--resume=a b", "settings have no dashes; --resume=a b: write 'resume=a b'"),
        ("out=a b", "out=a b: write 'run_dir=a b'"),
    ):
        with pytest.raises(UserError) as caught:
            parse("train", [typed])
        assert str(caught.value) == message
    assert hydra_arguments([" batch_size = 3"]) == ["batch_size= 3"]


def test_options_settings_and_paths_are_not_words_of_others(away: Path) -> None:
    """What chargen knows reaches it, also behind an option that takes a value."""
    (away / "temperature=1").touch()
    for command, typed in (
        ("sample", ["temperature=1"]),
        ("sample", ["--prompt", "--temp", "--seed", "3"]),
        ("sample", ["--prompt=lr=3", "--", "--temp"]),
        ("sample", ["-h"]),
        ("train", ["temperature=1", "batch_size=8", "model=small", "trainer.max_time=90s", "+experiment=smoke"]),
        ("train", ["--cfg", "job", "seed=3"]),
    ):
        try:
            if command == "train":
                hydra_arguments(typed)
            else:
                parse(command, typed)
        except typer.Exit:
            assert typed == ["-h"]


def test_names_of_commands_that_others_have(command: Command, away: Path) -> None:
    assert set(COMMANDS).isdisjoint(GROUP.commands)
    for typed, name in COMMANDS.items():
        assert name == "--help" or name.split()[0] in GROUP.commands
        assert command(typed) == (2, "", f"chargen: {typed}: write chargen {name}\n")
    (away / "my poem.txt").touch()
    assert command("my poem.txt")[2].startswith("chargen: my poem.txt: write chargen train 'my poem.txt'")


def test_a_misspelt_setting_without_dashes_is_left_to_hydra(away: Path) -> None:
    assert hydra_arguments(["model.hiden_size=3"]) == ["model.hiden_size=3"]
