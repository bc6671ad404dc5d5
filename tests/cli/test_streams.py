"""What reaches pipes, files and terminals: every character, whatever the locale, the disk and the environment say."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.environment import Command
from support.models import TEXT, TINY, write_model

from chargen.cli.console import console, training_console, warn
from chargen.cli.streams import ENCODING, prepare_streams, tell, unfailing_stdout

POEM = "床前明月光 caf\u00e9"
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class Stream(io.TextIOWrapper):
    """An output in memory, which may claim to be a terminal."""

    def __init__(self, encoding: str = "utf-8", *, is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal

    def written(self) -> bytes:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue()


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Stream, Stream]]:
    """Replaces standard output and standard error, and prepares them."""

    def replace(encoding: str = "utf-8", *, is_terminal: bool = False, chosen: str = "") -> tuple[Stream, Stream]:
        monkeypatch.setenv(ENCODING, chosen)
        out, err = Stream(encoding, is_terminal=is_terminal), Stream(encoding, is_terminal=is_terminal)
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        prepare_streams()
        return out, err

    return replace


@pytest.mark.parametrize("locale", ["ascii", "latin-1", "cp950", "utf-8"])
def test_pipes_get_utf8_in_every_locale(locale: str, streams: Callable[..., tuple[Stream, Stream]]) -> None:
    out, err = streams(locale)
    print(POEM)
    warn(POEM)
    assert out.written().decode() == POEM + "\n"
    assert err.written().decode() == f"chargen: {POEM}\n"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("latin-1", POEM.encode("latin-1", "replace")),
        ("ascii:strict", POEM.encode("ascii", "replace")),
        ("ascii:backslashreplace", POEM.encode("ascii", "backslashreplace")),
        ("ascii:no-such-handler", POEM.encode("ascii", "replace")),
        ("cp950", POEM.encode("cp950", "replace")),
    ],
)
def test_a_chosen_encoding_is_kept_and_its_losses_are_told_once(
    chosen: str, expected: bytes, streams: Callable[..., tuple[Stream, Stream]]
) -> None:
    encoding = chosen.partition(":")[0]
    out, err = streams(encoding, chosen=chosen)
    for _ in range(3):
        print(POEM)
    assert out.written() == (expected + b"\n") * 3
    told = err.written().decode()
    assert told.count("\n") == 1
    assert f"standard output is in {encoding}" in told.replace("iso8859-1", "latin-1")
    assert "choose PYTHONIOENCODING=utf-8" in told


def test_only_errors_chosen_leaves_the_encoding_to_chargen(streams: Callable[..., tuple[Stream, Stream]]) -> None:
    out, _ = streams("ascii", chosen=":replace")
    print(POEM)
    assert out.written().decode() == POEM + "\n"


def test_a_terminal_keeps_its_encoding(streams: Callable[..., tuple[Stream, Stream]]) -> None:
    out, err = streams("ascii", is_terminal=True)
    print(POEM, "\udce9")
    assert out.written() == POEM.encode("ascii", "replace") + rb" \udce9" + b"\n"
    assert " ".join(err.written().decode().split()).endswith("or --output FILE")


def test_bytes_of_a_name_that_are_not_utf8_are_escaped(streams: Callable[..., tuple[Stream, Stream]]) -> None:
    out, err = streams()
    print(os.fsdecode(b"caf\xe9.png"))
    assert (out.written(), err.written()) == (rb"caf\udce9.png" + b"\n", b"")


def test_samples_are_utf8_in_an_ascii_locale(away: Path) -> None:
    """The whole command, in the environment of a cron job or a container."""
    write_model(away / "r", text="白日依山尽\n")
    run = subprocess.run(
        [sys.executable, "-m", "chargen", "sample", "r", "--seed", "1", "--length", "20", "--prompt", "白日"],
        env={**os.environ, **ASCII_LOCALE, ENCODING: ""},
        capture_output=True,
        check=True,
    )
    assert run.stdout.decode().startswith("白日")
    assert len(run.stdout.decode()) == 23
    assert run.stderr == b""


def test_closed_streams_are_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    prepare_streams()
    with sys.stdin, sys.stdout, sys.stderr:
        print("nobody reads this")
        warn("nor this")
        assert sys.stdin.read() == ""


class FullDisk(Stream):
    """A log on a disk that is full from the second line on."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_run_goes_on_without_its_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk()
    monkeypatch.setattr("sys.stdout", disk)
    with unfailing_stdout():
        for _ in range(3):
            training_console().print("a line")
    assert capsys.readouterr().err == (
        "chargen: standard output: No space left on device; the run goes on without it\n"
    )
    disk.__class__ = Stream


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full")
def test_a_full_disk_ends_a_sample_and_not_a_run(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(away / "r")
    (away / "t.txt").write_text(TEXT)

    def on_full_disk(*words: str) -> tuple[int, str]:
        with open("/dev/full", "w") as full:
            monkeypatch.setattr("sys.stdout", full)
            code, _, told = chargen(*words)
        return code, told

    assert on_full_disk("sample", "r", "--seed", "1") == (2, "chargen: standard output: No space left on device\n")
    assert on_full_disk("--help") == (2, "chargen: No space left on device\n")
    code, told = on_full_disk("train", "t.txt", *TINY, "run_dir=new")
    assert (code, told) == (0, "chargen: standard output: No space left on device; the run goes on without it\n")
    assert (away / "new" / "summary.json").is_file()


@pytest.mark.parametrize("words", ["--help", "sample --help", "train --help", "info"])
def test_a_reader_may_go_away(words: str) -> None:
    command = f"{sys.executable} -m chargen {words} | true"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


FORCED = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "1", "CLICOLOR_FORCE": "1"}


def test_a_log_holds_no_movements_of_the_cursor(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FORCED.items():
        monkeypatch.setenv(name, value)
    (away / "t.txt").write_text(TEXT)
    for words in (["train", "t.txt", *TINY, "run_dir=r"], ["evaluate", "r"], ["--help"]):
        code, out, err = chargen(*words)
        assert code == 0
        assert "\x1b" not in out + err
        assert "\r" not in out + err


@pytest.mark.parametrize("width", [40, 60])
@pytest.mark.parametrize("to_stderr", [False, True])
def test_terminals_wrap_at_words_and_pipes_do_not(
    width: int, to_stderr: bool, streams: Callable[..., tuple[Stream, Stream]], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["a", "sentence", "about", "明月光", "repeated"] * 20
    monkeypatch.setenv("COLUMNS", str(width))
    for is_terminal in (True, False):
        out, err = streams(is_terminal=is_terminal)
        if to_stderr:
            tell(" ".join(words))
        else:
            console().print(" ".join(words))
        lines = (err if to_stderr else out).written().decode().splitlines()
        assert " ".join(lines).split() == words  # no word is cut
        assert len(lines) == 1 or is_terminal
        assert all(cell_len(line) <= width for line in lines) == is_terminal


WITHOUT_DOCSTRINGS = """
import sys
from chargen.cli.app import main
from chargen.cli.overrides import hydra_arguments
from hydra.core.override_parser.overrides_parser import OverridesParser

for words in {commands}:
    sys.argv = ["chargen", *words]
    try:
        main()
    except SystemExit:
        pass
for word in ("seed=range(1,3)", "trainer.max_time={{minutes:1}}", "model.cell=choice(gru,lstm)"):
    override = OverridesParser.create().parse_override(*hydra_arguments([word]))
    print(list(override.sweep_iterator()) if override.is_sweep_override() else override.value())
"""


def test_python_without_assertions_and_docstrings_does_the_same() -> None:
    """Hydra's parser and typer's help rely on them."""
    commands = [[], ["sample", "--help"], ["evaluate", "--help"], ["plot", "--help"], ["train", "--help"]]
    code = WITHOUT_DOCSTRINGS.format(commands=commands)
    outputs = [
        subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True).stdout
        for flags in ([], ["-O"], ["-OO"])
    ]
    assert outputs[0].endswith("[1, 2]\n{'minutes': 1}\n['gru', 'lstm']\n")
    assert outputs[1] == outputs[0]
    assert outputs[2] == outputs[0]
