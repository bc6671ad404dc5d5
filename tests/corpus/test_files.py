"""The files of a text are found in a stable order, each once, and nothing that chargen wrote is among them."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shlex
from pathlib import Path

import pytest
from support.corpora import load_text
from support.hosts import Host

from chargen.config import CorpusConfig
from chargen.corpus.encoded import load_corpus
from chargen.corpus.files import find_files, find_text
from chargen.errors import TextError
from chargen.storage.checkpoint import CHECKPOINT
from chargen.storage.run_folder import CONFIG, METRICS, MODEL, SAMPLES, TOKENIZER


def test_glob_list_and_literal_brackets(tmp_path: Path) -> None:
    for name in ("one [x].txt", "two.txt", "three.log"):
        (tmp_path / name).write_text(name)
    assert [f.name for f in find_files(str(tmp_path / "t*"))] == ["three.log", "two.txt"]
    assert [f.name for f in find_files(str(tmp_path / "one [x].txt"))] == ["one [x].txt"]
    both = [str(tmp_path / "two.txt"), str(tmp_path / "one [x].txt")]
    assert [f.name for f in find_files(both)] == ["two.txt", "one [x].txt"]


def test_folder_gives_its_text_files_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".git").mkdir(parents=True)
    for name in ("b.txt", "a.md", "deep/c.jsonl", "deep/d.txt.gz", "UPPER.TXT"):
        (tmp_path / name).touch()
    for name in ("picture.png", ".hidden.txt", "deep/.git/e.txt"):
        (tmp_path / name).touch()
    names = ["UPPER.TXT", "a.md", "b.txt", "deep/c.jsonl", "deep/d.txt.gz"]
    assert [str(f.relative_to(tmp_path)) for f in find_files(str(tmp_path))] == names


def test_mistakes_in_paths(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("nowhere.txt", "no such file, folder or pattern: .*nowhere"),
        ("no*.txt", r"no such file, folder or pattern: .*no\*"),
        ("empty", "no text in the folder"),
        ("x" * 5000, "cannot read .*x: File name too long"),
    ):
        with pytest.raises(TextError, match=message):
            find_files(str(tmp_path / path))
        with pytest.raises(TextError, match=message):
            load_text(tmp_path / path, tmp_path)
    with pytest.raises(TextError, match=r"no such file, folder or pattern: ~nobody-of-this-name/a\.txt"):
        find_files("~nobody-of-this-name/a.txt")
    with pytest.raises(TextError, match="no files"):
        find_files([])


def names_of(files: list[Path], folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in files]


# ------------------------------------------------------------------------------- names


NAMES = [
    "~$notes.txt",
    "~nobody.txt",
    "~",
    "a b.txt",
    'it\'s "x".txt',
    "line\nend.txt",
    "[x].txt",
    "\U0001f600.txt",
    "-",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_found_under_the_name_that_is_typed(name: str, away: Path) -> None:
    with pytest.raises(TextError, match="no such file, folder or pattern"):
        load_text(name if name != "~" else "~~", away)  # `~` alone is a folder
    (away / name).write_text("a text of any name\n")
    assert find_files(name) == [Path(name)]
    assert find_files([name, name]) == [Path(name)]
    assert len(load_text(name, away).ids) == 19


def test_a_tilde_is_the_home_folder(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called `~`, which a shell or an earlier chargen may have left behind, is not."""
    home = away / "home"
    for folder in (home, away / "~"):
        folder.mkdir()
        (folder / "a.txt").write_text(f"the text in {folder.name}\n")
    monkeypatch.setenv("HOME", str(home))
    for typed in ("~", "~/a.txt", "~/*.txt", "~/**/*.txt"):
        assert find_files(typed) == [home / "a.txt"]
    assert find_files("./~/a.txt") == [Path("~/a.txt")]


def test_names_that_are_not_utf8_are_found(tmp_path: Path) -> None:
    folder, name = tmp_path / os.fsdecode(b"\xe9t\xe9"), os.fsdecode(b"\xff.txt")
    try:
        folder.mkdir()
        (folder / name).write_text("text")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    for typed in (folder, folder / name, folder / "*.txt", tmp_path / "**" / "*.txt"):
        assert find_files(str(typed)) == [folder / name]


def test_lock_files_of_word_processors_are_hidden(tmp_path: Path) -> None:
    """A pattern or a name can still name them."""
    for name in ("~$x.docx.txt", ".#y.txt", "x.docx.txt"):
        (tmp_path / name).touch()
    assert names_of(find_files(str(tmp_path)), tmp_path) == ["x.docx.txt"]
    assert names_of(find_files(str(tmp_path / "*.txt")), tmp_path) == ["x.docx.txt"]
    assert names_of(find_files(str(tmp_path / "~$*")), tmp_path) == ["~$x.docx.txt"]
    assert names_of(find_files(str(tmp_path / ".#*")), tmp_path) == [".#y.txt"]
    assert names_of(find_files(str(tmp_path / "~$x.docx.txt")), tmp_path) == ["~$x.docx.txt"]


@pytest.mark.parametrize(
    "pattern", ["*.txt", "*/*.txt", "d*/[bc].*", "**/*.txt", "**", "**/e/**/*", "d/e/?.txt", "*/e/*"]
)
def test_a_pattern_matches_what_glob_matches(pattern: str, tmp_path: Path) -> None:
    for name in ("a.txt", "d/b.txt", "d/c.abc", "d/e/f.txt", "d/e/g/h.txt", ".i/j.txt", "d/.k.txt", "[x]/l.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = sorted(f for f in map(Path, glob.glob(str(tmp_path / pattern), recursive=True)) if f.is_file())
    assert find_files(str(tmp_path / pattern)) == expected != []
    assert find_files(str(tmp_path / "[x]" / "*.txt")) == [tmp_path / "[x]" / "l.txt"]


# ------------------------------------------------------------------------------- links


def test_links_are_followed_once(tmp_path: Path) -> None:
    """Linked files and folders are taken, loops end, and a file with several names is taken once."""
    top, other = tmp_path / "top", tmp_path / "other"
    for folder in (top / "real", other / "deep"):
        folder.mkdir(parents=True)
    for file in (top / "z.txt", top / "real" / "b.txt", other / "c.txt", other / "deep" / "d.txt", tmp_path / "e.txt"):
        file.write_text(file.name)
    links = {"a.txt": "z.txt", "e.txt": "../e.txt", "again.txt": "../e.txt", "linked": "../other", "twice": "../other"}
    links |= {"loop": ".", "real/up": "..", "all": "real", "self": "self", "gone.txt": "nowhere", "lost": "nowhere"}
    links |= {".hidden": "../other", "c.txt": "../other/c.txt"}
    for name, target in links.items():
        (top / name).symlink_to(target)
    (other / "back").symlink_to(top)
    taken = ["again.txt", "linked/c.txt", "linked/deep/d.txt", "real/b.txt", "z.txt"]
    for typed in (str(top), str(top / "**" / "*.txt")):
        assert names_of(find_files(typed), top) == taken
    found = find_text(str(top))
    assert names_of(found.unreadable, top) == ["gone.txt", "lost", "self"]
    assert found.left_out == f"3 that cannot be read ({', '.join(map(str, found.unreadable))})"
    assert names_of(find_files(str(top / "*.txt")), top) == ["again.txt", "c.txt", "z.txt"]


# ------------------------------------------------------------------------------- what chargen wrote


def make_run(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names or (CONFIG, METRICS, MODEL, SAMPLES, TOKENIZER, CHECKPOINT):
        (folder / name).write_text(name)


@pytest.mark.parametrize("typed", [".", "**/*.txt"])
def test_what_a_run_wrote_is_no_training_text(typed: str, away: Path) -> None:
    """Wherever its folder was moved, and whatever else was put into it."""
    make_run(away / "runs" / "2026")
    (away / "runs" / "notes.txt").touch()
    make_run(away / "old" / "renamed")
    (away / "old" / "renamed" / "deeper").mkdir()
    (away / "old" / "renamed" / "deeper" / "story.txt").touch()
    make_run(away / "began", CONFIG, TOKENIZER, SAMPLES)
    (away / "link.txt").symlink_to("old/renamed/samples.txt")
    (away / "linked").symlink_to("runs/2026")
    (away / "poem.txt").touch()
    make_run(away / "mine", SAMPLES)  # one file of such a name is not a run
    make_run(away / "a model of another program", MODEL, TOKENIZER)
    (away / "a model of another program" / "about.txt").touch()
    (away / "diary" / "runs").mkdir(parents=True)
    (away / "diary" / "runs" / "marathon.txt").touch()
    texts = ["a model of another program/about.txt", "diary/runs/marathon.txt", "mine/samples.txt", "poem.txt"]
    found = find_text(typed)
    assert [str(file) for file in found.files] == texts
    own = ["began/samples.txt", "old/renamed/deeper/story.txt", "old/renamed/samples.txt"]
    assert [str(file) for file in found.own] == [*own, "runs/2026/samples.txt", "runs/notes.txt"]
    assert found.left_out == f"5 that chargen wrote ({', '.join(own)} and 2 more)"


def test_a_file_of_a_run_is_taken_if_it_is_named(away: Path) -> None:
    make_run(away / "runs" / "a")
    for typed in ("runs/a/samples.txt", ["runs/a/samples.txt"]):
        assert find_files(typed) == [Path("runs/a/samples.txt")]
    for typed, message in (
        ("runs/a", r"no text in the folder runs/a but 1 that chargen wrote \(runs/a/samples\.txt\): name a file"),
        ("runs", "no text in the folder runs but 1 that chargen wrote"),
        ("runs/a/*.txt", r"runs/a/\*\.txt: chargen wrote what this pattern names \(runs/a/samples\.txt\)"),
    ):
        with pytest.raises(TextError, match=message):
            find_files(typed)
    (away / "runs" / "a" / "mine.txt").touch()
    assert find_files("runs/a") == [Path("runs/a/mine.txt")]  # a text in the folder that is typed


def test_downloads_are_no_training_text(host: type[Host], away: Path) -> None:
    """Those that were encoded are known by name; another text in the data folder is the user's own."""
    digest = hashlib.sha256(host.content).hexdigest()
    for name in ("down.txt", "other.txt"):
        url = dict(url=host.url, file=name, size=len(host.content), sha256=digest) if name == "down.txt" else {}
        if not url:
            (away / "data" / name).write_text("my own text " * 9)
        config = CorpusConfig(name="text", **(url or {"path": f"data/{name}"}))
        load_corpus(config, away / "data")
    (away / "poem.txt").touch()
    found = find_text(".")
    assert [str(file) for file in found.files] == ["data/other.txt", "poem.txt"]
    assert [str(file) for file in found.own] == ["data/down.txt"]
    assert find_files("data/down.txt") == [Path("data/down.txt")]
    os.rename("data", "moved")
    assert [str(file) for file in find_text(".").own] == ["moved/down.txt"]


def test_a_folder_without_text_gives_its_documents_or_else_its_tables(tmp_path: Path) -> None:
    names = ["a.csv", "b.parquet", "c.html", "more/d.EPUB", "e.docx", "f.txt", "g.png"]
    (tmp_path / "more").mkdir()
    for name in names:
        (tmp_path / name).touch()
    assert names_of(find_files(str(tmp_path)), tmp_path) == ["f.txt"]
    (tmp_path / "f.txt").unlink()
    assert names_of(find_files(str(tmp_path)), tmp_path) == ["c.html", "e.docx", "more/d.EPUB"]
    for name in ("c.html", "more/d.EPUB", "e.docx"):
        (tmp_path / name).unlink()
    assert names_of(find_files(str(tmp_path)), tmp_path) == ["a.csv", "b.parquet"]


# ------------------------------------------------------------------------------- no text


@pytest.mark.parametrize(
    ("names", "there", "pattern"),
    [
        (["a.abc", "b.abc", "c.png"], ".abc (2), .png (1)", "tunes/*.abc"),
        (["a.abc", "more/b.abc"], ".abc (2)", "'tunes/**/*.abc'"),
        (["a.py", "b.xml", "c.xml", "d.tex", "e.c"], ".xml (2), .c (1), .py (1)", "tunes/*.xml"),
        (["a.abc.gz"], ".abc.gz (1)", "'tunes/*.abc.gz'"),
        (["LICENSE"], "no suffix (1)", "'tunes/*'"),
        (["it's [x].a b"], ".a b (1)", "tunes/*.a b"),
        (["a.png"], ".png (1)", None),
        ([".hidden.abc"], "", None),
    ],
)
def test_a_folder_of_other_files_names_a_pattern_that_works(
    names: list[str], there: str, pattern: str | None, away: Path
) -> None:
    for name in names:
        (away / "tunes" / name).parent.mkdir(parents=True, exist_ok=True)
        (away / "tunes" / name).write_bytes(b"\x89PNG\0" if name.endswith("png") else b"X:1\n")
    with pytest.raises(
        TextError, match=r"^no text in the folder tunes: it should contain \.txt, \.md, \.jsonl"
    ) as raised:
        find_files("tunes")
    message, found, advice = str(raised.value).partition("; a pattern takes them: ")
    assert ("but its files have" in message) == bool(there)
    assert message.endswith(there)
    assert bool(found) == (pattern is not None)
    if pattern is not None:
        *_, typed = shlex.split(advice)
        assert typed == pattern.strip("'")
        suffix = Path(typed).suffix
        assert names_of(find_files(typed), Path("tunes")) == sorted(n for n in names if n.endswith(suffix))


def test_what_chargen_wrote_is_not_suggested(away: Path) -> None:
    """Nor is it read by a pattern for any depth."""
    (away / "a.abc").write_text("X:1 a tune\n")
    make_run(away / "runs" / "r", CONFIG, TOKENIZER, METRICS)
    load_text("a.abc", away)
    with pytest.raises(
        TextError, match=r"but its files have \.abc \(1\); a pattern takes them: chargen train '\*\.abc'$"
    ):
        find_files(".")
    assert find_files("**/*") == [Path("a.abc")]


def test_unreadable_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system refuses, as for any user but the one who may read everything."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.txt").touch()
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        if folder.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("os.scandir", refuse)
    assert find_text(str(tmp_path)).unreadable == [tmp_path / "closed"]
    with pytest.raises(TextError, match=r"^cannot read .*closed: Permission denied$"):
        find_files(str(tmp_path / "closed"))
