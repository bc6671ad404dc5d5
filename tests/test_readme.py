"""The commands in the READMEs work, their figures are measured ones, and the documents agree with the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from support.environment import ROOT, Command

from chargen.storage.checkpoint import TrainingState
from chargen.training.metrics import COLUMNS

READMES = ("README.md", "README.zh-TW.md")
ARTICLES = ("docs/rnn-explained.md", "docs/rnn-explained.zh-TW.md")
DOCUMENTS = (*READMES, *ARTICLES, "docs/中文.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/DESIGN.md", "docs/TRUST.md")
SMALL = ["model.hidden_size=8", "model.embedding_size=4", "sequence_length=16", "batch_size=4", "sample_length=20"]
STORY = "It is late, and nobody reads. Once more, said the clock.\n" * 120


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", read(document), re.DOTALL)


def commands(document: str) -> list[str]:
    """Return every line of the shell blocks, without its comment."""
    lines = "".join(blocks(document, "sh")).splitlines()
    return [re.sub(r"\s+# .*", "", line).strip() for line in lines if line.strip()]


def is_make_target(line: str) -> bool:
    """Tell whether `make x` names a target of the Makefile."""
    return re.search(rf"^{line.split()[1]}:", read("Makefile"), re.MULTILINE) is not None


# ------------------------------------------------------------------------------- commands


def test_the_commands_work(chargen: Command, away: Path) -> None:
    """Every command runs, with a small model and few updates. Those of the other language are the same."""
    for name in ("my.txt", "other.txt", "poems/one.txt", "articles/a.md"):
        (away / name).parent.mkdir(exist_ok=True)
        (away / name).write_text(STORY, encoding="utf-8")
    ran = 0
    for line in commands(READMES[0]):
        if line.startswith("make "):
            assert is_make_target(line), line
            continue
        if "|" in line:  # a pipe needs a shell
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


def test_the_python_code_works(chargen: Command, away: Path) -> None:
    (away / "my.txt").write_text(STORY, encoding="utf-8")
    assert chargen("train", "my.txt", *SMALL, "trainer.max_steps=4", "run_dir=runs/mine")[0] == 0
    (code,) = blocks("README.md", "python")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(result.stdout.strip("\n")) > 0


def test_the_commands_of_the_article_work(chargen: Command, away: Path) -> None:
    """With small models and few updates: what they show is tested elsewhere."""
    for name in ("my.txt", "a.txt"):
        (away / name).write_text(STORY, encoding="utf-8")
    assert chargen("train", "my.txt", *SMALL, "trainer.max_steps=4", "run_dir=runs/mine")[0] == 0
    for line in commands(ARTICLES[0]):
        words = shlex.split(line)
        if words[1] == "train":
            words += ["corpus.path=my.txt", *SMALL, "trainer.max_steps=20", "trainer.max_time=null"]
        if words[1:3] == ["explain", "copying"]:
            words += ["--updates", "1"]
        code, out, err = chargen(*words[1:])
        assert code == 0, f"{line}\n{err}"
        assert out.strip()


@pytest.mark.parametrize(("english", "chinese"), [READMES, ARTICLES])
def test_both_languages_show_the_same_commands(english: str, chinese: str) -> None:
    assert commands(english) == commands(chinese)


def test_make_commands_of_other_documents_exist() -> None:
    lines = [line for line in commands("CONTRIBUTING.md") if line.startswith("make ")]
    lines += re.findall(r"`(make [a-z-]+)", "".join(map(read, DOCUMENTS)))
    assert len(lines) >= 10
    for line in lines:
        assert is_make_target(line), line


# ------------------------------------------------------------------------------- links and names


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)#]+)[)#]", read(document)):
        assert target.startswith("http") or (folder / target).exists(), target


def section_of(title: str) -> str:
    """Return the anchor that GitHub gives to a title."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower().replace("`", "")).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_a_document_lead_to_a_section(document: str) -> None:
    sections = {section_of(title) for title in re.findall(r"^#+ (.*)$", read(document), re.MULTILINE)}
    for anchor in re.findall(r"\]\(#([^)]+)\)", read(document)):
        assert anchor in sections, anchor


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/DESIGN.md", "docs/TRUST.md"])
def test_tests_that_are_named_exist(document: str) -> None:
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(test_\w+))?", read(document))
    assert named
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert not test or f"def {test}(" in read(file), test


def is_selected(expression: str, file: Path, test: str) -> bool:
    """Tell whether `pytest -k expression` selects a test by the names of its file and function."""
    words = re.sub(r"\b(?!and\b|or\b|not\b)\w+", lambda found: repr(found[0] in f"{file.name} {test}"), expression)
    return bool(eval(words))


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/TRUST.md"])
def test_selections_of_tests_select_some(document: str) -> None:
    """Every `pytest tests/... -k ...` that a document names, without starting pytest."""
    selections = re.findall(r"`(?:\.venv/bin/)?(pytest [^`]*tests/[^`]*)`", read(document))
    assert len(selections) >= 10
    for line in selections:
        words = shlex.split(line)
        expression = words[words.index("-k") + 1] if "-k" in words else "test"
        paths = [ROOT / word for word in words if word.startswith("tests/")]
        files = [file for path in paths for file in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])]
        tests = [(file, test) for file in files for test in re.findall(r"^def (test_\w+)", file.read_text(), re.M)]
        assert all(path.exists() for path in paths), line
        assert any(is_selected(expression, *test) for test in tests), line


def test_the_trees_show_every_folder_and_module() -> None:
    """The README lists the folders and the modules beside them; DESIGN.md has them in its table of floors."""
    package = ROOT / "src" / "chargen"
    folders = {f"{file.parent.name}/" for file in package.glob("*/__init__.py")}
    modules = {file.name for file in package.glob("*.py") if not file.name.startswith("__")}
    (tree,) = (block for block in blocks("README.md", "text") if "src/chargen/" in block)
    assert folders <= set(re.findall(r"^  (\w+/) ", tree, re.MULTILINE))
    for name in modules:
        assert name in tree, name
    floors = read("docs/DESIGN.md").split("## Path of a training run")[0]
    assert set(re.findall(r"^\| \d \| `([\w/.]+)`", floors, re.MULTILINE)) == folders | modules


def test_the_formats_are_described() -> None:
    """Every column of `metrics.csv` and every key of the training state has a row in a table of DESIGN.md."""
    rows = re.findall(r"^\| (`[^|]*`) \|", read("docs/DESIGN.md"), re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(COLUMNS) <= described
    assert {field.name for field in fields(TrainingState)} <= described


# ------------------------------------------------------------------------------- figures


def rows_with(pattern: str, document: str) -> list[str]:
    """Return the rows of tables that match a pattern."""
    return [line for line in read(document).splitlines() if line.startswith("|") and re.search(pattern, line)]


@pytest.mark.parametrize(("pattern", "least"), [(r" x \|$", 5), (r"\d\.\d{4}", 6)], ids=["speed", "quality"])
def test_the_tables_are_the_measured_ones(pattern: str, least: int) -> None:
    rows = rows_with(pattern, "README.md")
    assert len(rows) >= least
    assert not set(rows) - set(read("benchmarks/RESULTS.md").splitlines())


@pytest.mark.parametrize("pattern", [r" x \|$", r"\d\.\d{4}"], ids=["speed", "quality"])
def test_the_tables_in_chinese_have_the_same_numbers(pattern: str) -> None:
    """Words are translated. A number may stand elsewhere in its cell."""

    def numbers_of(document: str) -> list[list[set[str]]]:
        rows = rows_with(pattern, document)
        return [[set(re.findall(r"\d[\d.,]*\d|\d", cell)) for cell in row.split("|")] for row in rows]

    assert numbers_of("README.zh-TW.md") == numbers_of("README.md")


def test_both_languages_have_the_same_sections() -> None:
    levels = [
        re.findall(r"^(#+) ", re.sub(r"```.*?```", "", read(name), flags=re.DOTALL), re.MULTILINE) for name in READMES
    ]
    assert levels[0] == levels[1]
