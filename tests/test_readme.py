"""What the READMEs tell a person to type works, at smoke size."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.environment import ROOT

READMES = ("README.md", "README.zh-TW.md")
SMALL = ["model.hidden_size=8", "model.embedding_size=4", "sequence_length=16", "batch_size=4", "sample_length=20"]
STORY = "It is late, and nobody reads. Once more, said the clock.\n" * 50


def blocks(readme: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)


def commands(readme: str) -> list[str]:
    """Every line of the shell blocks, without its comment."""
    lines = "".join(blocks(readme, "sh")).splitlines()
    return [re.sub(r"\s+# .*", "", line).strip() for line in lines if line.strip()]


@pytest.mark.parametrize("readme", READMES)
def test_the_commands_work(readme: str, chargen: Callable[..., tuple[int, str, str]], away: Path) -> None:
    for name in ("my.txt", "other.txt", "poems/one.txt", "articles/a.md"):
        (away / name).parent.mkdir(exist_ok=True)
        (away / name).write_text(STORY, encoding="utf-8")
    ran = 0
    for line in commands(readme):
        if line.startswith("make "):
            assert re.search(rf"^{line.split()[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
            continue
        if "|" in line:  # a pipe: as a shell would
            shell = line.replace("chargen", f"{sys.executable} -m chargen")
            assert subprocess.run(shell, shell=True, capture_output=True, check=True).stdout
            continue
        words = shlex.split(line)
        assert words[0] == "chargen", line
        if words[1] == "train" and not any(word.startswith(("resume=", "--cfg")) for word in words):
            length = [] if "trainer.max_steps" in line else ["trainer.max_steps=4"]
            words += [*SMALL, *length, *([] if "run_dir" in line else [f"run_dir=runs/{ran}"])]
        code, out, err = chargen(*words[1:])
        assert code == 0, f"{line}\n{err}"
        assert out.strip() or "--output" in line
        ran += 1
    assert ran >= 10


def test_the_python_works(chargen: Callable[..., tuple[int, str, str]], away: Path) -> None:
    (away / "my.txt").write_text(STORY, encoding="utf-8")
    assert chargen("train", "my.txt", *SMALL, "trainer.max_steps=4", "run_dir=runs/mine")[0] == 0
    (code,) = blocks("README.md", "python")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(result.stdout.strip("\n")) > 0


@pytest.mark.parametrize("readme", READMES)
def test_links_lead_somewhere(readme: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / readme).read_text(encoding="utf-8")):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.parametrize("readme", READMES)
def test_the_table_of_speeds_is_the_measured_one(readme: str) -> None:
    rows = [line for line in (ROOT / readme).read_text(encoding="utf-8").splitlines() if re.search(r" x \|$", line)]
    assert len(rows) >= 5
    measured = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    assert not set(rows) - set(measured)


@pytest.mark.parametrize("readme", READMES)
def test_the_table_of_qualities_is_the_measured_one(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|") and re.search(r"\d\.\d{4}", line)]
    assert len(rows) >= 6
    measured = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8").splitlines()
    assert not set(rows) - set(measured)


def test_both_languages_show_the_same_commands() -> None:
    assert commands(READMES[0]) == commands(READMES[1])
