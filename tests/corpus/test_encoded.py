"""A text becomes the right ids, is encoded once, and is split where it should be."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.corpora import articles_of, load_text
from support.hosts import Host
from support.languages import SIMPLIFIED, TRADITIONAL

from chargen import native
from chargen.config import CorpusConfig
from chargen.corpus.encoded import encode_file, load_corpus, load_stored_corpus
from chargen.corpus.encoded_folder import load_encoded
from chargen.corpus.reader import Cleaning, read_articles
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer
from chargen.errors import ConfigError, TextError, UserError

# ------------------------------------------------------------------------------- texts


def test_one_file_is_one_article(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n", encoding="utf-8")
    corpus = load_text(tmp_path / "a.txt", tmp_path)
    assert articles_of(corpus) == ["to be or not to be\n"]
    assert corpus.sha256 == hashlib.sha256(b"to be or not to be\n").hexdigest()
    assert (len(corpus.train), len(corpus.validation)) == (13, 7)  # the held-out six and the id before them
    assert corpus.start_id == corpus.tokenizer.encode("\n")[0]


def test_folder_is_a_sequence_of_articles(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.txt").write_text("second")
    (tmp_path / "in" / "a.md").write_text("first")
    (tmp_path / "in" / "deep" / "c.jsonl").write_text('{"text": "third"}\n\n{"text": "fourth", "other": 1}\n')
    (tmp_path / "in" / "deep" / "d.txt.gz").write_bytes(gzip.compress(b"fifth"))
    (tmp_path / "in" / "empty.txt").write_text("")
    (tmp_path / "in" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "in" / ".hidden.txt").write_text("secret")
    corpus = load_text(tmp_path / "in", tmp_path)
    assert articles_of(corpus) == ["first", "second", "third", "fourth", "fifth"]
    assert (corpus.num_articles, corpus.start_id) == (5, END_ID)


def test_list_of_files_keeps_its_order(tmp_path: Path) -> None:
    for name in ("one [x].txt", "two.txt"):
        (tmp_path / name).write_text(name)
    both = [str(tmp_path / "two.txt"), str(tmp_path / "one [x].txt")]
    assert articles_of(load_text(both, tmp_path)) == ["two.txt", "one [x].txt"]


@pytest.mark.parametrize(
    ("content", "settings", "text"),
    [
        ("白日依山尽".encode("gb18030"), {"encoding": "gb18030"}, "白日依山尽"),
        ("白日依山尽".encode("gb18030"), {"encoding": "gb18030", "unit": "byte"}, "白日依山尽"),
        (b"a\r\nb\rc", {"normalize_newlines": True}, "a\nb\nc"),
        ("cafe\u0301 ".encode() * 3, {"normalize_unicode": True}, "caf\u00e9 " * 3),
    ],
)
def test_settings_reach_the_reader(content: bytes, settings: dict[str, Any], text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert articles_of(load_text(tmp_path / "a.txt", tmp_path, **settings)) == [text]


def test_byte_unit_takes_any_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2
    (tmp_path / "a.bin").write_bytes(content)
    corpus = load_text(tmp_path / "a.bin", tmp_path, unit="byte")
    assert (corpus.ids - 2).astype(np.uint8).tobytes() == content


@pytest.mark.parametrize(("num_symbols", "dtype"), [(254, "uint8"), (255, "uint16")])
def test_ids_have_the_smallest_integer_type(num_symbols: int, dtype: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(map(chr, range(0x4E00, 0x4E00 + num_symbols))), encoding="utf-8")
    assert load_text(tmp_path / "a.txt", tmp_path).ids.dtype == dtype


def test_rare_characters_become_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aaabbbxc aaabbbxc")
    corpus = load_text(tmp_path / "a.txt", tmp_path, min_count=3)
    assert corpus.tokenizer.symbols == ["a", "b"]
    assert corpus.ids[:8].tolist() == [2, 2, 2, 3, 3, 3, UNKNOWN_ID, UNKNOWN_ID]


def test_embedded_corpus_is_the_language_reference(tmp_path: Path) -> None:
    from pydoc_data.topics import topics

    corpus = load_corpus(CorpusConfig(name="python_reference"), tmp_path)
    assert articles_of(corpus) == [topics[topic] for topic in sorted(topics)]
    assert load_corpus(CorpusConfig(name="python_reference", unit="byte"), tmp_path).num_articles == len(topics)


def test_real_corpora(shared: Path, tmp_path: Path) -> None:
    """The sizes are those that the page of these corpora gives, and the split is the usual one."""
    plays = load_corpus(CorpusConfig(name="text", path=str(shared / "tinyshakespeare.txt")), tmp_path)
    assert (len(plays.ids), len(plays.tokenizer.symbols), plays.num_train) == (1_115_394, 65, 1_003_854)
    poems = load_corpus(CorpusConfig(name="text", path=str(shared / "tang_couplets.txt")), tmp_path)
    assert (len(poems.ids), len(poems.tokenizer.symbols), poems.ids.dtype) == (942_681, 5_387, np.uint16)
    assert articles_of(poems) == [(shared / "tang_couplets.txt").read_text(encoding="utf-8")]


def test_encode_file_gives_the_ids_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("ab")
    (tmp_path / "in" / "b.TXT").write_text("ba\r\n")
    (tmp_path / "in" / "c.jsonl").write_text('{"text": "a"}\n{"text": "b"}')
    corpus = load_text(tmp_path / "in", tmp_path, normalize_newlines=True)
    ids = encode_file(str(tmp_path / "in"), corpus.tokenizer, Cleaning(normalize_newlines=True))
    assert ids.tolist() == corpus.ids.tolist()
    assert ids.dtype == corpus.ids.dtype
    assert corpus.num_articles == 4


def test_encode_file_needs_the_unit_of_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab")
    with pytest.raises(ValueError, match="unit is character, but the tokenizer's unit is byte"):
        encode_file(str(tmp_path / "a.txt"), Tokenizer("ab", "byte"), Cleaning())


# ------------------------------------------------------------------------------- split


def test_split_by_articles_follows_the_end_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": letter * 10}) + "\n" for letter in "abcdefghij"))
    corpus = load_text(tmp_path / "a.jsonl", tmp_path, split="article", validation_fraction=0.25)
    assert corpus.ids[corpus.num_train - 1] == END_ID
    assert corpus.tokenizer.decode(corpus.ids[corpus.num_train :]) == "i" * 10 + "j" * 10


# ------------------------------------------------------------------------------- compiled or not

TEXTS = [
    b"plain ASCII, and nothing else\n",
    "白日依山尽，黄河入海流。".encode(),
    "mostly ASCII — with a dash\r\n".encode(),
    "😀\U0001f469\u200d\U0001f469\u200d\U0001f467e\u0301\U0010ffff|".encode(),
    "\ufeffa byte order mark, and \ufeff another".encode(),
    "éèàüÿ\x80\x7f".encode(),
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "cache" / "encoded").glob("*/*")}


@pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
@pytest.mark.parametrize("settings", [{}, {"min_count": 2}, {"unit": "byte"}, {"unit": "byte", "min_count": 2}])
def test_encoded_files_are_the_same_with_and_without_kernels(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they hold the text, wherever in a character a block ends."""
    unit = settings.get("unit", "character")
    for block_size in (3, 4, 5, 1000):
        monkeypatch.setattr("chargen.corpus.decoding.BLOCK_SIZE", block_size)
        folder = tmp_path / str(block_size)
        folder.mkdir()
        for number, content in enumerate([*TEXTS, b""]):
            (folder / f"{number}.txt").write_bytes(content)
        (folder / "packed.txt.gz").write_bytes(gzip.compress(TEXTS[1] * 9))
        (folder / "some.jsonl").write_text('{"text": "first 山"}\n{"text": ""}\n{"text": "second"}\n')
        outcomes = []
        for library in (native.library(), None):
            with monkeypatch.context() as patch:
                patch.setattr(native, "library", lambda found=library: found)
                home = tmp_path / f"{block_size} {library is None}"
                corpus = load_text(folder, home, **settings)
                outcomes.append(files_of(home))
        assert outcomes[0].keys() - {".lock"} == {"ids.bin", "tokenizer.json", "manifest.json"}
        assert outcomes[0] == outcomes[1]
        articles: list[Any] = [*TEXTS, TEXTS[1] * 9, "first 山".encode(), b"second"]
        if unit == "character":
            articles = [list(article.decode().removeprefix("\ufeff")) for article in articles]
        counts = Counter(symbol for article in articles for symbol in article)
        known = sorted(symbol for symbol in counts if counts[symbol] >= settings.get("min_count", 1))
        vocabulary = {symbol: id for id, symbol in enumerate(known, start=2)}
        ids = [id for article in articles for id in (END_ID, *(vocabulary.get(s, UNKNOWN_ID) for s in article))]
        assert corpus.ids.tolist() == ids[1:]


# ------------------------------------------------------------------------------- long texts


def run_python(code: str, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], text=True, check=True, **options)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux reports the peak memory of a process")
@pytest.mark.parametrize("settings", [{}, {"split": "article"}, {"unit": "byte"}], ids=str)
def test_memory_does_not_grow_with_the_text(settings: dict[str, str], tmp_path: Path) -> None:
    """Texts of 64 MB and 4 MB need the same memory within 32 MB, also to find the end of an article."""
    (tmp_path / "first.txt").write_text("the one article that ends")
    for name, megabytes in (("small", 4), ("large", 64)):
        with open(tmp_path / f"{name}.txt", "wb") as stream:
            for _ in range(megabytes):
                stream.write(b"0123456789abcdef" * (1 << 16))
    code = """
import re, sys
from pathlib import Path
from chargen.config import CorpusConfig
from chargen.corpus.encoded import load_corpus
for name in ("small", "large"):
    load_corpus(CorpusConfig(name=name, path=["first.txt", f"{name}.txt"], **eval(sys.argv[1])), Path("cache"))
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    small, large = run_python(code, settings, cwd=tmp_path, capture_output=True).stdout.split()
    assert int(large) - int(small) < 32


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_progress_is_shown_on_a_terminal_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 9)
    code = """
from pathlib import Path
from chargen.config import CorpusConfig
from chargen.corpus.encoded import load_corpus
load_corpus(CorpusConfig(name="plays", path="a.txt"), Path("cache"))
"""
    assert run_python(code, cwd=tmp_path, capture_output=True).stdout == ""
    ours, theirs = os.openpty()
    run_python(code, cwd=tmp_path, stdout=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"})
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "encoding plays" in shown


# ------------------------------------------------------------------------------- encodings


MIXED = (
    ("a.txt", "big5", TRADITIONAL), ("b.txt", "gb18030", SIMPLIFIED), ("c.txt", "latin-1", "Le garçon était étonné.\n"),
    ("d.txt", "utf-8", TRADITIONAL), ("e.txt", "utf-16", SIMPLIFIED),
)  # fmt: skip


def write_mixed(folder: Path) -> None:
    """Write files in five encodings."""
    folder.mkdir()
    for name, encoding, text in MIXED:
        (folder / name).write_bytes(text.encode(encoding))


@pytest.mark.parametrize("block_size", [1 << 20, 5])
def test_each_file_of_a_folder_is_read_in_its_own_encoding(
    block_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chargen.corpus.decoding.BLOCK_SIZE", block_size)
    write_mixed(tmp_path / "t")
    corpus = load_text(tmp_path / "t", tmp_path)
    assert articles_of(corpus) == [text for _, _, text in MIXED]
    assert corpus.encodings == ("big5", "gb18030", "cp1252", "utf-8", "utf-16")
    assert "big5: a.txt" in corpus.note
    again = load_text(tmp_path / "t", tmp_path)  # from the encoded folder
    assert (again.encodings, again.note) == (corpus.encodings, corpus.note)
    assert len(list((tmp_path / "cache" / "encoded").iterdir())) == 1


def test_a_known_encoding_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run continues with the encodings that it began with, wherever its text is, also from its ids alone."""
    write_mixed(tmp_path / "t")
    corpus = load_text(tmp_path / "t", tmp_path)
    monkeypatch.setattr("chargen.corpus.text_files.detect_encodings", lambda *_: pytest.fail("searched"))
    config = CorpusConfig(name="text", path=str(tmp_path / "t"), validation_fraction=0.3)
    known = {"expected_sha256": corpus.sha256, "encodings": corpus.encodings}
    assert articles_of(load_corpus(config, tmp_path / "new", **known)) == [text for _, _, text in MIXED]
    for file in (tmp_path / "t").iterdir():
        file.unlink()
    for encodings in (corpus.encodings, ()):
        stored = load_stored_corpus(config, tmp_path / "new", corpus.sha256, encodings)
        assert stored is not None
        assert articles_of(stored) == [text for _, _, text in MIXED]


def test_one_encoding_for_all_files_has_the_folder_of_that_encoding(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for name in "ab":
        (tmp_path / "t" / name).with_suffix(".txt").write_bytes((SIMPLIFIED + name).encode("gb18030"))
    for encoding in ("auto", "gb18030"):
        assert articles_of(load_text(tmp_path / "t", tmp_path, encoding=encoding))[1] == SIMPLIFIED + "b"
    assert len(list((tmp_path / "cache" / "encoded").iterdir())) == 1


@pytest.mark.parametrize(("errors", "mark"), [("replace", "\ufffd"), ("skip", "")])
@pytest.mark.parametrize("block_size", [1 << 20, 3])
def test_bytes_that_do_not_fit_are_replaced_or_skipped(
    errors: str, mark: str, block_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chargen.corpus.decoding.BLOCK_SIZE", block_size)
    good, file = TRADITIONAL * 2, tmp_path / "a.txt"
    data = good.encode()
    file.write_bytes(data[:30] + b"\xff\xfe" + data[30:60] + b"\xe5" + data[60:])
    with pytest.raises(TextError, match=r"a\.txt is not utf-8 at byte 30: .*corpus\.errors=replace"):
        load_text(file, tmp_path)
    corpus = load_text(file, tmp_path, errors=errors)
    assert articles_of(corpus) == [good[:10] + 2 * mark + good[10:20] + mark + good[20:]]
    assert "3 bytes that do not fit the encoding, first at byte 30 of" in corpus.note
    assert load_text(file, tmp_path, errors=errors).note == corpus.note


def test_repeated_lines_are_dropped_on_request(tmp_path: Path) -> None:
    """A line counts over all articles."""
    (tmp_path / "t").mkdir()
    for number in range(4):
        text = f"　第{number}章\n（求推薦票，求收藏！）\n山雨欲來\n\n"
        (tmp_path / "t" / f"{number}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "t" / "4.txt").write_text("尾聲　（求推薦票，求收藏！）\n", encoding="utf-8")
    dropped = articles_of(load_text(tmp_path / "t", tmp_path, drop_repeated_lines=3))
    assert dropped == [*(f"　第{number}章\n\n" for number in range(4)), "尾聲　（求推薦票，求收藏！）\n"]
    kept = articles_of(load_text(tmp_path / "t", tmp_path, drop_repeated_lines=4))
    assert kept == articles_of(load_text(tmp_path / "t", tmp_path))


@pytest.mark.parametrize(
    ("content", "settings", "note"),
    [
        (TRADITIONAL.encode("big5"), {"encoding": "gb18030", "errors": "skip"}, "reads better as big5"),
        (TRADITIONAL.encode(), {"encoding": "latin-1"}, "reads better as utf-8"),
        (("déjà vu, café crème\n" * 9).encode().decode("latin-1").encode(), {}, "UTF-8 that was read as cp1252"),
        ("ab\ufffdc\n".encode() * 20, {}, "U+FFFD occurs 20 times"),
        (b"to be\r\nor not to be\r\n", {}, "lines end with CRLF, and samples too"),
        ("是\n".encode("gb18030") * 2, {}, "too short to be sure of the encoding: a.txt"),
        (TRADITIONAL.encode(), {}, ""),
        (b"to be\r\nor not to be\r\n", {"normalize_newlines": True}, ""),
    ],
)
def test_what_looks_wrong_is_noted(content: bytes, settings: dict[str, Any], note: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    for _ in range(2):
        found = load_text(tmp_path / "a.txt", tmp_path, **settings).note
        assert note in found
        assert bool(found) == bool(note)


# ------------------------------------------------------------------------------- encoded folders

KEYS = [
    ({"path": "a.txt"}, "97ba937561ea068d5ce9"),
    ({"path": "a.txt", "unit": "byte"}, "9feacbfc4843877c0dd9"),
    (
        {"path": "a.txt", "encoding": "UTF8", "min_count": 2, "normalize_newlines": True, "normalize_unicode": True},
        "081108f63ad7960e695e",
    ),
    ({"path": ["a.txt", "b.jsonl"], "encoding": "gbk"}, "5069f303ebb08e6dfd0a"),
]


@pytest.mark.parametrize(("settings", "name"), KEYS)
def test_folders_encoded_by_version_1_stay_valid(settings: dict[str, Any], name: str, away: Path) -> None:
    """The names were written by chargen before load_corpus took a CorpusConfig, format version 1."""
    (away / "a.txt").write_bytes(b"to be or not to be\n")
    (away / "b.jsonl").write_bytes(b'{"text": "one"}\n{"text": "two"}\n')
    load_corpus(CorpusConfig(name="text", **settings), away / "data")
    assert [folder.name for folder in (away / "data" / "encoded").iterdir()] == [name]


def test_tables_and_pages_that_are_read_as_they_are_have_the_folder_of_version_1(away: Path) -> None:
    """As they were before `corpus.field`; the name is what version 0.2 gave to this file."""
    (away / "t.csv").write_bytes(b"text\na\nb\n" * 9)
    read = {
        field: load_corpus(CorpusConfig(name="text", path="t.csv", field=field), away / str(field))
        for field in (None, "text")
    }
    assert articles_of(read[None]) == ["text\na\nb\n" * 9]
    assert articles_of(read["text"])[:2] == ["a", "b"]
    names = {field: [folder.name for folder in (away / str(field) / "encoded").iterdir()] for field in read}
    assert names[None] == ["8296e1c647ac4acd530a"]
    assert names["text"] != names[None]


def test_content_of_an_encoded_folder(away: Path) -> None:
    """Symbols by code point: newline, space, b, e, n, o, r, t; ids from 2 on."""
    (away / "a.txt").write_bytes(b"to be or not to be\n")
    load_corpus(CorpusConfig(name="text", path="a.txt"), away)
    digest = "4e40bfdae6cdc9353075d9e1473b7854a1b834bb60146d6f16cb640fff79996c"
    key = "97ba937561ea068d5ce9a31a9a430bae3bd98e3df74ff2afec7c8649b274fc2e"
    folder = away / "encoded" / key[:20]
    assert sorted(file.name for file in folder.iterdir()) == [".lock", "ids.bin", "manifest.json", "tokenizer.json"]
    assert list((folder / "ids.bin").read_bytes()) == [9, 7, 3, 4, 5, 3, 7, 8, 3, 6, 7, 9, 3, 9, 7, 3, 4, 5, 2]
    assert list(json.loads((folder / "manifest.json").read_text(encoding="utf-8")).items()) == [
        ("key", key), ("name", "text"), ("sha256", digest), ("version", 1), ("text", digest), ("kinds", [".txt"]),
        ("encoding", "utf-8"), ("unit", "character"), ("normalize_newlines", False), ("normalize_unicode", False),
        ("dtype", "uint8"), ("num_ids", 19), ("num_articles", 1),
    ]  # fmt: skip


def test_encoded_folder_is_used_again_and_never_stale(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("first version")
    load_text(text, tmp_path)
    (ids_file,) = (tmp_path / "cache" / "encoded").glob("*/ids.bin")
    os.utime(ids_file, (0, 0))
    assert articles_of(load_text(text, tmp_path)) == ["first version"]
    assert ids_file.stat().st_mtime == 0  # not written again
    text.write_text("other version")  # the same number of bytes
    assert articles_of(load_text(text, tmp_path)) == ["other version"]
    assert articles_of(load_text(text, tmp_path, min_count=2)) != ["other version"]
    assert len(list((tmp_path / "cache" / "encoded").iterdir())) == 3
    assert ids_file.stat().st_mtime == 0


@pytest.mark.parametrize("damage", ["ids.bin", "tokenizer.json", "manifest.json", "short ids", "torn manifest"])
def test_interrupted_folder_is_written_again(damage: str, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("all of it, please")
    load_text(text, tmp_path)
    (home,) = (tmp_path / "cache" / "encoded").iterdir()
    if damage == "short ids":
        (home / "ids.bin").write_bytes((home / "ids.bin").read_bytes()[:-1])
    elif damage == "torn manifest":
        (home / "manifest.json").write_text((home / "manifest.json").read_text()[:40])
    else:
        (home / damage).unlink()
    assert articles_of(load_text(text, tmp_path)) == ["all of it, please"]


@pytest.mark.parametrize(
    "change",
    [{"key": "other"}, {"dtype": "uint16"}, {"num_ids": 3.0}, {"num_ids": 4}, {"num_ids": 2}, {"num_articles": "one"}],
)
def test_folder_of_another_text_is_not_loaded(change: dict[str, object], tmp_path: Path) -> None:
    manifest = {"key": "key", "dtype": "uint8", "num_ids": 3, "num_articles": 1}
    (tmp_path / "ids.bin").write_bytes(bytes([2, 3, 2]))
    (tmp_path / "tokenizer.json").write_text(Tokenizer("ab").to_json(), encoding="utf-8")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    loaded = load_encoded(tmp_path, "key")
    assert loaded is not None
    assert (loaded.ids.tolist(), loaded.tokenizer.symbols, loaded.num_articles) == ([2, 3, 2], ["a", "b"], 1)
    for content in (json.dumps({**manifest, **change}), "[" * 100_000, "[]"):
        (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
        assert load_encoded(tmp_path, "key") is None


def test_text_that_changes_while_it_is_read_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "a.txt"
    text.write_text("before")

    def read(file: Path, *rest: Any) -> Any:
        file.write_text("and after")
        return read_articles(file, *rest)

    monkeypatch.setattr("chargen.corpus.text_files.read_articles", read)
    with pytest.raises(TextError, match="changed while it was read"):
        load_text(text, tmp_path)
    assert not list(tmp_path.rglob("manifest.json"))
    monkeypatch.undo()
    assert articles_of(load_text(text, tmp_path)) == ["and after"]


def test_text_with_another_digest_is_not_encoded(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n")
    config = CorpusConfig(name="plays", path=str(tmp_path / "a.txt"))
    with pytest.raises(TextError, match="the text of corpus plays has changed since the run"):
        load_corpus(config, tmp_path / "data", expected_sha256="0" * 64)
    assert not (tmp_path / "data").exists()
    digest = hashlib.sha256(b"to be or not to be\n").hexdigest()
    assert load_corpus(config, tmp_path / "data", expected_sha256=digest).sha256 == digest


# ------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("content", "settings", "kind", "message"),
    [
        (b"", {}, TextError, "is empty"),
        (b"a", {}, TextError, "too few"),
        (b"abc\0def", {}, TextError, "looks binary .* corpus.unit=byte"),
        (b"plain then \xff", {}, TextError, "is not utf-8 at byte 11: .*corpus.encoding="),
        (b"abc", {"encoding": "klingon"}, ConfigError, "corpus.encoding=klingon: no such encoding"),
        (b"abc", {"encoding": "base64"}, ConfigError, "corpus.encoding=base64: no such encoding"),
        (b"abc", {"min_count": 2}, ConfigError, "corpus.min_count=2: no character occurs that often"),
        (b"abcdef", {"split": "article"}, ConfigError, "corpus.split=article"),
    ],
)
def test_mistakes_in_a_text_or_its_settings(
    content: bytes, settings: dict[str, Any], kind: type[UserError], message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(kind, match=message):
        load_text(tmp_path / "a.txt", tmp_path, **settings)


def test_corpus_without_a_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus=text needs a text: corpus\.path=FILE"):
        load_corpus(CorpusConfig(name="text"), tmp_path)


@pytest.mark.parametrize("missing", ["file", "size", "sha256"])
def test_download_needs_file_size_and_digest(missing: str, tmp_path: Path) -> None:
    settings = {"url": "https://127.0.0.1:9/a", "file": "a", "size": 1, "sha256": "0" * 64, missing: None}
    with pytest.raises(ConfigError, match=r"^corpus\.url=https:.*: set corpus\.file, corpus\.size and corpus\.sha256"):
        load_corpus(CorpusConfig(name="text", **settings), tmp_path)


# ------------------------------------------------------------------------------- texts that are gone


def test_a_text_that_is_gone_is_known_by_its_digest(tmp_path: Path) -> None:
    """Its ids are used, if they were encoded with the same settings and nothing lies where it was."""
    text, cache = tmp_path / "a.txt", tmp_path / "cache"
    text.write_text("to be or not to be\n")
    before = load_text(text, tmp_path)
    config = CorpusConfig(name="text", path=str(text), validation_fraction=0.3)
    assert load_stored_corpus(config, cache, before.sha256) is None  # the text itself is there
    text.rename(tmp_path / "moved.txt")
    found = load_stored_corpus(config, cache, before.sha256)
    assert found is not None
    assert (found.ids.tolist(), found.num_train, found.sha256) == (before.ids.tolist(), before.num_train, before.sha256)
    assert found.note == f"no such file, folder or pattern: {text}; its ids are in {cache}"
    for changed, digest, folder in (
        ({"min_count": 2}, before.sha256, cache),
        ({"unit": "byte"}, before.sha256, cache),
        ({}, "0" * 64, cache),
        ({}, before.sha256, tmp_path / "elsewhere"),
    ):
        assert load_stored_corpus(replace(config, **changed), folder, digest) is None
    (manifest,) = cache.rglob("manifest.json")
    content = json.loads(manifest.read_text())
    for wrong in (
        "[" * 100_000,
        "{}",
        json.dumps({**content, "kinds": None}),
        json.dumps({**content, "key": "0" * 64}),
    ):
        manifest.write_text(wrong)
        assert load_stored_corpus(config, cache, before.sha256) is None
    manifest.unlink()
    os.mkfifo(manifest)
    assert load_stored_corpus(config, cache, before.sha256) is None


def test_a_download_that_is_gone_is_not_fetched_again(host: type[Host], tmp_path: Path) -> None:
    digest = hashlib.sha256(host.content).hexdigest()
    config = CorpusConfig(name="text", url=host.url, file="t.txt", size=len(host.content), sha256=digest)
    before = load_corpus(config, tmp_path)
    assert json.loads(next(tmp_path.rglob("manifest.json")).read_text())["download"] == "t.txt"
    assert load_stored_corpus(config, tmp_path, digest) is None
    (tmp_path / "t.txt").unlink()
    found = load_stored_corpus(config, tmp_path, digest)
    assert found is not None
    assert found.note == f"the download t.txt is not in {tmp_path}; its ids are in {tmp_path}"
    assert found.ids.tolist() == before.ids.tolist()
    assert host.asked == [None]


def test_the_language_reference_of_another_python_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CorpusConfig(name="python_reference")
    before = load_corpus(config, tmp_path)
    assert load_stored_corpus(config, tmp_path, before.sha256) is None
    monkeypatch.setattr("chargen.corpus.text_files.python_reference", lambda: ["other topics"])
    with pytest.raises(TextError, match="has changed since the run, or is another one"):
        load_corpus(config, tmp_path, expected_sha256=before.sha256)
    found = load_stored_corpus(config, tmp_path, before.sha256)
    assert found is not None
    assert found.num_articles == before.num_articles


def test_what_was_left_out_of_a_new_text_is_noted(tmp_path: Path) -> None:
    """A text that is known already needs no words."""
    run = tmp_path / "in" / "runs" / "r"
    run.mkdir(parents=True)
    for name in ("samples.txt", "metrics.csv"):
        (run / name).write_text("what a model wrote")
    (tmp_path / "in" / "a.txt").write_text("to be or not to be\n")
    corpus = load_text(tmp_path / "in", tmp_path)
    assert articles_of(corpus) == ["to be or not to be\n"]
    assert corpus.note == f"left out: 1 that chargen wrote ({run / 'samples.txt'})"
    config = CorpusConfig(name="text", path=str(tmp_path / "in"))
    assert load_corpus(config, tmp_path, expected_sha256=corpus.sha256).note == ""
