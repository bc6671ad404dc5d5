"""`chargen sample`: seeds, prompts, pipes and files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.environment import Launch
from support.models import TEXT, write_model

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import UNKNOWN_ID, Tokenizer
from chargen.nn.model import CharRNN
from chargen.sampling.generator import TextGenerator
from chargen.sampling.params import SamplingParams
from chargen.storage.model_file import ModelFile

Chargen = Callable[..., tuple[int, str, str]]


@pytest.fixture
def learned(trained: Callable[..., Path]) -> str:
    """A run over `TEXT` in text.txt, which is still there."""
    return str(trained("a", text="text.txt").relative_to(Path.cwd()))


def test_samples_depend_on_seed_and_number_only(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    first = chargen("sample", "r", "--seed", "5", "--length", "50")
    assert first == chargen("sample", "r", "--seed", "5", "--length", "50")
    assert first != chargen("sample", "r", "--seed", "6", "--length", "50")
    two = chargen("sample", "r", "--seed", "5", "--length", "50", "--num-samples", "2")[1]
    assert two.startswith("--- sample 1\n" + first[1])  # not changed by what is drawn beside it
    assert "--- sample 2\n" in two
    chargen("sample", "r", "--seed", "5", "--length", "50", "--output", "out.txt")
    assert (away / "out.txt").read_text(encoding="utf-8") == first[1]


def test_temperature_zero_equals_top_k_one(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    assert chargen("sample", "r", "--temperature", "0") == chargen("sample", "r", "--top-k", "1")


def test_prompts_come_from_an_option_a_file_or_a_pipe(
    chargen: Chargen, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(away / "r", text="白日依山尽\n")
    (away / "prompt.txt").write_text("\ufeff白日", encoding="utf-8")
    typed = chargen("sample", "r", "--prompt", "白日", "--seed", "1", "--length", "9")[1]
    assert typed.startswith("白日")
    assert chargen("sample", "r", "--prompt-file", "prompt.txt", "--seed", "1", "--length", "9")[1] == typed
    piped = subprocess.run(
        [sys.executable, "-m", "chargen", "sample", "r", "--prompt-file", "-", "--seed", "1", "--length", "9"],
        input="白日".encode(),
        capture_output=True,
        check=True,
    )
    assert piped.stdout.decode() == typed


@pytest.mark.parametrize(
    ("content", "prompt"),
    [(b"ab", "ab"), (b"ab\n", "ab"), (b"ab\r\n", "ab"), (b"ab\n\n", "ab\n"), (b"ab\r", "ab\r"), (b"\n", "")],
)
def test_a_prompt_from_a_file_ends_without_its_line_end(
    content: bytes, prompt: str, chargen: Chargen, away: Path
) -> None:
    """`echo` and editors add one, and the text would go on behind it."""
    write_model(away / "r")
    (away / "prompt.txt").write_bytes(content)
    words = ("sample", "r", "--seed", "1", "--length", "5")
    assert chargen(*words, "--prompt-file", "prompt.txt")[1] == chargen(*words, "--prompt", prompt)[1]


def test_a_model_of_bytes_takes_and_writes_bytes(away: Path, chargen: Chargen) -> None:
    """What the model has learned has no UTF-8 in it, and no byte of the sample is another one."""
    known = bytes([0, 10, 13, 65, 200, 255])
    tokenizer = Tokenizer(map(chr, known), "byte")
    torch.manual_seed(0)
    model = CharRNN(ModelConfig(tokenizer.vocab_size, "gru", 8, 1, 4))
    model.to_model_file(tokenizer.to_json(), {"start_id": 2}).save(away / "model.safetensors")
    (away / "prompt").write_bytes(b"\xff\x00\xc8\r\n")
    words = ["model.safetensors", "--prompt-file", "prompt", "--seed", "1", "--length", "400", "--temperature", "2"]
    want = TextGenerator(ModelFile.load(away / "model.safetensors")).generate(
        b"\xff\x00\xc8", max_length=400, params=SamplingParams(2.0), seed=[1, 0]
    )
    assert set(want) == set(known)
    code, _, err = chargen("sample", *words, "--output", "out")
    assert (code, err) == (0, "")
    assert (away / "out").read_bytes() == b"\xff\x00\xc8" + want
    piped = subprocess.run([sys.executable, "-m", "chargen", "sample", *words], capture_output=True, check=True)
    assert piped.stdout == b"\xff\x00\xc8" + want


def test_a_model_of_crlf_writes_no_other_line_end(away: Path, chargen: Chargen) -> None:
    model = ModelFile.load(
        write_model(away / "r", text="ab\r\n" * 9, corpus={"line_end": "\r\n"}) / "model.safetensors"
    )
    assert model.line_end == "\r\n"
    (away / "prompt.txt").write_bytes(b"a\nb\r\na")
    words = ("--seed", "1", "--length", "5", "--num-samples", "2", "--temperature", "0")
    code, _, err = chargen("sample", "r", "--prompt-file", "prompt.txt", *words, "--output", "out.txt")
    assert (code, err) == (0, "")
    written = (away / "out.txt").read_bytes()
    assert written.startswith(b"--- sample 1\r\na\r\nb\r\na")
    own = written.replace(b"\r\n", b"")  # an untrained model may write a line end of its own
    assert b"--- sample 2" in own
    assert b"\n--- sample" not in own


def test_unknown_characters_of_a_prompt_are_named(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    known = chargen("sample", "r", "--prompt", "ab", "--seed", "1", "--length", "5")
    code, out, err = chargen("sample", "r", "--prompt", "a中b😀中", "--seed", "1", "--length", "5")
    assert (code, out) == (known[0], "a中b😀中" + known[1].removeprefix("ab"))
    assert err == "chargen: the model does not know '中' '😀': skipped\n"
    code, out, err = chargen("sample", "r", "--prompt", "a中", "--unknown", "error")
    assert (code, out) == (2, "")
    assert "'中'" in err


@pytest.mark.parametrize("corpus", [{"min_count": 5}, {"vocabulary": "runs/other"}])
def test_a_model_that_has_read_unknown_characters_reads_those_of_a_prompt(
    corpus: dict[str, object], chargen: Chargen, away: Path
) -> None:
    """The prompt is printed as it was typed."""
    write_model(away / "r", config={"corpus": corpus})
    code, out, err = chargen("sample", "r", "--prompt", "a中b", "--seed", "1", "--length", "5")
    assert (code, err) == (0, "chargen: the model does not know '中': read as the unknown character\n")
    assert out.startswith("a中b")
    generator = TextGenerator(ModelFile.load(away / "r" / "model.safetensors"))
    assert UNKNOWN_ID in generator.encode_prompt("a中b")[0]


def test_an_interrupted_output_file_keeps_what_was_written(launch: Launch, away: Path) -> None:
    write_model(away / "r")
    run = launch("sample", "r", "--length", "100000000", "--output", "out.txt")
    while not any(file.stat().st_size for file in away.glob(".out.txt.*.tmp")):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    told = run.communicate(timeout=20)[1]
    assert (re.fullmatch(rb"chargen: --seed \d+\n", told) is not None, run.returncode) == (True, 130)
    assert len((away / "out.txt").read_text(encoding="utf-8")) > 0


def test_sampling_without_any_run_says_how_to_train_one(chargen: Chargen) -> None:
    code, _, err = chargen("sample")
    assert code == 2
    assert "there is no run in runs/ yet: train one with `chargen train`" in err


def test_a_closed_pipe_is_not_an_error(away: Path) -> None:
    write_model(away / "r")
    command = f"{sys.executable} -m chargen sample r --length 200000 --seed 1 --ignore-eos | head -c 20"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout) == 20


def test_an_interrupt_ends_sampling_without_a_message(launch: Launch, away: Path) -> None:
    write_model(away / "r")
    run = launch("sample", "r", "--length", "10000000", "--ignore-eos", "--seed", "1")
    assert run.stdout is not None
    assert run.stdout.read(1)  # it writes: characters come before the end
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (130, b"")


def test_novelty_is_reported_on_standard_error(learned: str, chargen: Chargen) -> None:
    code, out, err = chargen("sample", learned, "--novelty", "--seed", "1", "--length", "60", "--num-samples", "2")
    assert code == 0
    samples = [part[:-1] for part in re.split(r"\n?--- sample \d\n", out)[1:]]
    told = re.findall(r"training text: (\d+) characters, ('.*'); ([\d.]+)%", err)
    assert len(told) == len(samples) == 2
    for text, (length, run, share) in zip(samples, told, strict=True):
        found = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1) if text[i:j] in TEXT]
        assert max(map(len, found)) == int(length)
        assert eval(run) in text
        assert (float(share) > 0) == (int(length) >= 20)


def test_a_drawn_seed_is_shown_and_writes_the_same_again(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    for more in ([], ["--num-samples", "3"], ["--precision", "int8"]):
        code, out, err = chargen("sample", "r", "--length", "60", *more)
        found = re.fullmatch(r"chargen: (--seed \d+)\n", err)
        assert found is not None
        assert chargen("sample", "r", "--length", "60", *more, *found[1].split()) == (code, out, "")
    drawn = {chargen("sample", "r", "--length", "1")[2] for _ in range(5)}
    assert len(drawn) == 5
    assert chargen("sample", "r", "--temperature", "0")[2] == ""  # nothing is drawn


def test_a_file_is_replaced_only_if_told_to(chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    (away / "out.txt").write_text("a poem of mine")
    words = ("sample", "r", "--seed", "1", "--length", "20", "--output", "out.txt")
    assert chargen(*words) == (
        2, "", "chargen: out.txt exists: write --force to replace it, or the name of another file\n"
    )  # fmt: skip
    assert (away / "out.txt").read_text() == "a poem of mine"
    assert chargen(*words, "--force") == (0, "", "")
    assert chargen(*words[:-2])[1] == (away / "out.txt").read_text()


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1"])
def test_standard_output_may_be_named(name: str, chargen: Chargen, away: Path) -> None:
    write_model(away / "r")
    words = ("sample", "r", "--seed", "1", "--length", "20")
    assert chargen(*words, "--output", name) == chargen(*words)
    assert sorted(file.name for file in away.iterdir()) == ["r"]


def test_devices_and_pipes_are_written_to(away: Path, launch: Launch) -> None:
    """Also where they lead to a file that exists: only its content changes."""
    write_model(away / "r")
    (away / "log").touch()
    before = os.stat(away / "log").st_ino, os.readlink("/dev/stderr")
    with open(away / "log", "ab") as log:
        command = [sys.executable, "-m", "chargen", "sample", "r", "--seed", "1", "--length", "9"]
        assert subprocess.run([*command, "--output", "/dev/stderr"], stderr=log, check=False).returncode == 0
    assert (os.stat(away / "log").st_ino, os.readlink("/dev/stderr")) == before
    assert len((away / "log").read_text()) == 10
    os.mkfifo(away / "pipe")
    run = launch("sample", "r", "--seed", "1", "--length", "9", "--output", "pipe")
    assert (away / "pipe").read_text() == (away / "log").read_text()
    assert run.wait(timeout=20) == 0


def test_a_tilde_is_the_home_folder(chargen: Chargen, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every path of a command line, although the shell leaves it in quotes and behind an equals sign."""
    home = away / "home"
    write_model(home / "r")
    (home / "t.txt").write_text("abc " * 20)
    (away / "~$notes.txt").write_text("ab")
    monkeypatch.setenv("HOME", str(home))
    words = ("sample", "~/r", "--seed", "1", "--length", "9")
    assert chargen(*words, "--prompt-file=~/t.txt")[1].startswith("abc abc")
    assert chargen(*words, "--prompt-file", "~$notes.txt")[1].startswith("ab")
    assert chargen(*words, "--output=~/out.txt")[0] == 0
    assert chargen("evaluate", "~/r/model.safetensors", "--text=~/t.txt", "--json=~/s.json")[0] == 0
    assert sorted(file.name for file in home.iterdir()) == ["out.txt", "r", "s.json", "t.txt"]
    assert sorted(file.name for file in away.iterdir()) == ["home", "~$notes.txt"]
    assert chargen("sample", "~/nowhere")[2].startswith(f"chargen: no such run: {home}/nowhere")


def test_a_prompt_from_within_an_article(chargen: Chargen, away: Path) -> None:
    """It is written on from the state `within`; as the beginning of an article, behind the state `beginning`."""
    model = ModelFile.load(write_model(away / "r") / "model.safetensors")
    shape = (model.config.num_layers * model.config.cell_type.num_states, model.config.hidden_size)
    states = {name: np.full(shape, value, np.float32) for name, value in (("beginning", 0.9), ("within", -0.9))}
    model.with_initial_states(states).save(away / "r" / "model.safetensors")
    written = []
    for options, within in (([], False), (["--within"], True)):
        code, out, _ = chargen("sample", "r", "--prompt", "ab", "--length", "60", "--seed", "3", *options)
        generator = TextGenerator(ModelFile.load(away / "r" / "model.safetensors"))
        assert (code, out) == (0, "ab" + generator.generate("ab", max_length=60, seed=[3, 0], within=within) + "\n")
        written.append(out)
    assert written[0] != written[1]
    code, out, err = chargen("sample", "r", "--within")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--within" in err
