"""Text becomes the right ids from every kind of file, once, and says what is wrong with it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hosts import Host, get

import chargen.corpus.encoded
from chargen import native
from chargen.corpus.encoded import Corpus, encode_file, fetch, find_files, load_corpus, read_articles
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID


def encoded(path: object, folder: Path, **settings) -> Corpus:
    settings = {"validation_fraction": 0.3, **settings}
    return load_corpus("text", folder / "cache", path=path if isinstance(path, list) else str(path), **settings)


def text_of(corpus: Corpus) -> list[str]:
    """The articles, decoded."""
    ids = corpus.ids.tolist()
    articles, article = [], []
    for id in [*ids, END_ID]:
        if id == END_ID:
            articles.append(corpus.tokenizer.decode(article))
            article = []
        else:
            article.append(id)
    return articles


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bytes at a time, so that every boundary is met."""
    monkeypatch.setattr(chargen.corpus, "CHUNK_BYTES", 3)


# ------------------------------------------------------------------------------- kinds of files


def test_one_file_is_one_article(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n", encoding="utf-8")
    corpus = encoded(tmp_path / "a.txt", tmp_path)
    assert text_of(corpus) == ["to be or not to be\n"]
    assert corpus.sha256 == hashlib.sha256(b"to be or not to be\n").hexdigest()
    assert (len(corpus.train), len(corpus.validation)) == (13, 7)  # one id of context stands before the held-out six
    assert corpus.start_id == corpus.tokenizer.encode("\n")[0]


def test_a_folder_is_its_articles(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.txt").write_text("second")
    (tmp_path / "in" / "a.md").write_text("first")
    (tmp_path / "in" / "deep" / "c.jsonl").write_text('{"text": "third"}\n\n{"text": "fourth", "other": 1}\n')
    (tmp_path / "in" / "deep" / "d.txt.gz").write_bytes(gzip.compress(b"fifth"))
    (tmp_path / "in" / "empty.txt").write_text("")
    (tmp_path / "in" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "in" / ".hidden.txt").write_text("secret")
    corpus = encoded(tmp_path / "in", tmp_path)
    assert text_of(corpus) == ["first", "second", "third", "fourth", "fifth"]
    assert (corpus.num_articles, corpus.start_id) == (5, END_ID)


def test_a_glob_and_a_list(tmp_path: Path) -> None:
    for name in ("one [x].txt", "two.txt", "three.log"):
        (tmp_path / name).write_text(name)
    assert [f.name for f in find_files(str(tmp_path / "t*"))] == ["three.log", "two.txt"]
    assert [f.name for f in find_files(str(tmp_path / "one [x].txt"))] == ["one [x].txt"]
    both = [str(tmp_path / "two.txt"), str(tmp_path / "one [x].txt")]
    assert text_of(encoded(both, tmp_path)) == ["two.txt", "one [x].txt"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030", "big5", "utf-32"])
@pytest.mark.usefixtures("small_pieces")
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = "白日依山盡\r\n黃河 into the sea\n"
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    corpus = encoded(tmp_path / "a.txt", tmp_path, encoding="utf-8" if "utf-8" in encoding else encoding)
    assert text_of(corpus) == [text]


@pytest.mark.usefixtures("small_pieces")
def test_newlines_on_request(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\r\nbc\r\r\nd\re\n\r")
    assert text_of(encoded(tmp_path / "a.txt", tmp_path)) == ["a\r\nbc\r\r\nd\re\n\r"]
    for unit in ("character", "byte"):
        corpus = encoded(tmp_path / "a.txt", tmp_path, normalize_newlines=True, unit=unit)
        assert text_of(corpus) == ["a\nbc\n\nd\ne\n\n"]


@given(text=st.text(st.sampled_from("aeé\u0301\u0323\u0308 がか\u3099한\u1112\u1161\u11ab山"), min_size=4, max_size=60))
def test_nfc_in_pieces_is_nfc_of_the_whole(text: str) -> None:
    pieces = [text[k : k + 3] for k in range(0, len(text), 3)]
    assert "".join(chargen.corpus._with_nfc(pieces)) == unicodedata.normalize("NFC", text)


def test_nfc_on_request(tmp_path: Path) -> None:
    text = "cafe\u0301 " * 3
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert text_of(encoded(tmp_path / "a.txt", tmp_path, normalize_unicode=True)) == ["café " * 3]


def test_files_to_score_are_read_as_corpora_are(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("ab")
    (tmp_path / "in" / "b.TXT").write_text("ba\r\n")
    (tmp_path / "in" / "c.jsonl").write_text('{"text": "a"}\n{"text": "b"}')
    corpus = encoded(tmp_path / "in", tmp_path, normalize_newlines=True)
    ids = encode_file(str(tmp_path / "in"), corpus.tokenizer, normalize_newlines=True)
    assert ids.tolist() == corpus.ids.tolist()
    assert corpus.num_articles == 4


def test_bytes_of_another_encoding_are_those_of_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("白日依山尽".encode("gb18030"))
    corpus = encoded(tmp_path / "a.txt", tmp_path, unit="byte", encoding="gb18030")
    assert text_of(corpus) == ["白日依山尽"]


def test_the_byte_unit_takes_anything(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2
    (tmp_path / "a.bin").write_bytes(content)
    corpus = encoded(tmp_path / "a.bin", tmp_path, unit="byte")
    assert (corpus.ids - 2).astype(np.uint8).tobytes() == content


@pytest.mark.parametrize(("num_symbols", "dtype"), [(254, "uint8"), (255, "uint16")])
def test_ids_take_the_smallest_integer(num_symbols: int, dtype: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(map(chr, range(0x4E00, 0x4E00 + num_symbols))), encoding="utf-8")
    assert encoded(tmp_path / "a.txt", tmp_path).ids.dtype == dtype


def test_rare_characters_become_unknown(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aaabbbxc aaabbbxc")
    corpus = encoded(tmp_path / "a.txt", tmp_path, min_count=3)
    assert corpus.tokenizer.symbols == ["a", "b"]
    assert corpus.ids[:8].tolist() == [2, 2, 2, 3, 3, 3, UNKNOWN_ID, UNKNOWN_ID]


def test_the_embedded_corpus_is_the_language_reference(tmp_path: Path) -> None:
    from pydoc_data.topics import topics

    corpus = load_corpus("python_reference", tmp_path)
    assert text_of(corpus) == [topics[topic] for topic in sorted(topics)]
    assert load_corpus("python_reference", tmp_path, unit="byte").num_articles == len(topics)


def test_real_corpora(shared: Path, tmp_path: Path) -> None:
    """The counts that the corpora's own page gives, and the split that everyone uses."""
    plays = load_corpus("text", tmp_path, path=str(shared / "tinyshakespeare.txt"))
    assert (len(plays.ids), len(plays.tokenizer.symbols), plays.num_train) == (1_115_394, 65, 1_003_854)
    poems = load_corpus("text", tmp_path, path=str(shared / "tang_couplets.txt"))
    assert (len(poems.ids), len(poems.tokenizer.symbols), poems.ids.dtype) == (942_681, 5_387, np.uint16)
    assert text_of(poems) == [(shared / "tang_couplets.txt").read_text(encoding="utf-8")]


def test_the_split_by_articles_cuts_behind_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": letter * 10}) + "\n" for letter in "abcdefghij"))
    corpus = encoded(tmp_path / "a.jsonl", tmp_path, split="article", validation_fraction=0.25)
    assert corpus.ids[corpus.num_train - 1] == END_ID
    assert corpus.tokenizer.decode(corpus.ids[corpus.num_train :]) == "i" * 10 + "j" * 10


@pytest.mark.parametrize("chunk_ids", [1, 2, 5, 100])
def test_the_end_of_an_article_is_found_in_pieces(
    chunk_ids: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first end from there on, else the last one: as with all ids at once."""
    monkeypatch.setattr(chargen.corpus, "CHUNK_BYTES", chunk_ids)
    random = np.random.default_rng(3)
    for case in range(40):
        content = np.where(random.random(23) < case / 100, END_ID, 7).astype(np.uint16)
        content.tofile(tmp_path / "ids.bin")
        ids = np.memmap(tmp_path / "ids.bin", dtype=np.uint16, mode="r")
        behind = [place + 1 for place, id in enumerate(content) if id == END_ID]
        for wanted in range(24):
            expected = next((place for place in behind if place >= wanted), behind[-1] if behind else None)
            assert chargen.corpus._article_end(ids, wanted) == expected


# ------------------------------------------------------------------------------- compiled or not

TEXTS = [
    b"plain ASCII, and nothing else\n",
    "白日依山尽，黄河入海流。".encode(),
    "mostly ASCII — with a dash\r\n".encode(),
    "😀👩‍👩‍👧é􏿿|".encode(),
    "﻿a mark of the byte order, and ﻿ another".encode(),
    "éèàüÿ".encode(),
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (folder / "cache" / "encoded").glob("*/*")}


@pytest.mark.skipif(native.library() is None, reason="the kernels were not built here")
@pytest.mark.parametrize("settings", [{}, {"min_count": 2}, {"unit": "byte"}, {"unit": "byte", "min_count": 2}])
def test_compiled_or_not_the_files_are_the_same(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they hold the text, wherever a piece of it ends within a character."""
    unit = settings.get("unit", "character")
    for chunk in (3, 4, 5, 1000):
        monkeypatch.setattr(chargen.corpus, "CHUNK_BYTES", chunk)
        (tmp_path / str(chunk)).mkdir()
        for number, content in enumerate([*TEXTS, b""]):
            (tmp_path / str(chunk) / f"{number}.txt").write_bytes(content)
        (tmp_path / str(chunk) / "packed.txt.gz").write_bytes(gzip.compress(TEXTS[1] * 9))
        (tmp_path / str(chunk) / "some.jsonl").write_text('{"text": "first 山"}\n{"text": ""}\n{"text": "second"}\n')
        outcomes = []
        for library in (native.library(), None):
            with monkeypatch.context() as patch:
                patch.setattr(native, "library", lambda found=library: found)
                home = tmp_path / f"{chunk} {library is None}"
                corpus = encoded(tmp_path / str(chunk), home, **settings)
                outcomes.append(files_of(home))
        assert outcomes[0].keys() - {".lock"} == {"ids.bin", "tokenizer.json", "manifest.json"}
        assert outcomes[0] == outcomes[1]
        articles = [*TEXTS, TEXTS[1] * 9, "first 山".encode(), b"second"]
        if unit == "character":
            articles = [list(article.decode().removeprefix("﻿")) for article in articles]
        often = Counter(symbol for article in articles for symbol in article)
        known = sorted(symbol for symbol in often if often[symbol] >= settings.get("min_count", 1))
        vocabulary = {symbol: id for id, symbol in enumerate(known, start=2)}
        ids = [id for article in articles for id in (END_ID, *(vocabulary.get(s, UNKNOWN_ID) for s in article))]
        assert corpus.ids.tolist() == ids[1:]


fragments = st.sampled_from([b"a", b"\n", "é山😀﻿".encode(), b"\xe5\xb1", b"\xb1", b"\xf0\x9f\x98", b"\xc0\x80",
                             b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\0"])  # fmt: skip


@given(content=st.binary() | st.text().map(str.encode) | st.lists(fragments).map(b"".join), chunk=st.integers(3, 9))
def test_takes_what_python_decodes_and_names_the_byte_where_it_does_not(
    content: bytes, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.txt"
    file.write_bytes(content)
    mark = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chargen.corpus, "CHUNK_BYTES", chunk)

        def read() -> str:
            articles = read_articles(file, "utf-8", "character", False, False)
            return "".join(chr(number) for article in articles for piece in article for number in piece)

        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            with pytest.raises(ValueError, match="UTF-16 byte order mark"):
                read()
            return
        try:
            text = content[mark:].decode()
        except UnicodeDecodeError as error:
            before = content[mark : mark + error.start]
            with pytest.raises(ValueError, match=f"is not utf-8 at byte {mark + error.start}:|looks binary") as raised:
                read()
            assert "NUL" not in str(raised.value) or b"\0" in before
            return
        if "\0" in text:
            with pytest.raises(ValueError, match="looks binary"):
                read()
        else:
            assert read() == text


# ------------------------------------------------------------------------------- long texts


def in_a_new_process(code: str, *words: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], text=True, check=True, **options)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone tells a process's own peak")
@pytest.mark.parametrize("settings", [{}, {"split": "article"}, {"unit": "byte"}], ids=str)
def test_memory_does_not_grow_with_the_text(settings: dict, tmp_path: Path) -> None:
    """64 MB and 4 MB need the same, within 32 MB, be it to encode or to search for the end of an article."""
    (tmp_path / "first.txt").write_text("the one article that ends")
    for name, megabytes in (("small", 4), ("large", 64)):
        with open(tmp_path / f"{name}.txt", "wb") as stream:
            for _ in range(megabytes):
                stream.write(b"0123456789abcdef" * (1 << 16))
    code = """
import re, sys
from pathlib import Path
from chargen.corpus.encoded import load_corpus
for name in ("small", "large"):
    load_corpus(name, Path("cache"), path=["first.txt", f"{name}.txt"], **eval(sys.argv[1]))
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""
    small, large = in_a_new_process(code, settings, cwd=tmp_path, capture_output=True).stdout.split()
    assert int(large) - int(small) < 32


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
@pytest.mark.usefixtures("small_pieces")
def test_told_of_every_byte_that_is_read(name: str, tmp_path: Path) -> None:
    """Of a packed file those that are stored."""
    content = b'{"text": "some"}\n' * 5
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    told: list[int] = []
    for article in read_articles(tmp_path / name, "utf-8", "character", False, False, told.append):
        assert sum(map(len, article)) > 0
    assert sum(told) == (tmp_path / name).stat().st_size


@pytest.mark.skipif(sys.platform == "win32", reason="terminals are another thing there")
def test_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 9)
    code = """
from pathlib import Path
from chargen.corpus.encoded import load_corpus
load_corpus("plays", Path("cache"), path="a.txt")
"""
    assert in_a_new_process(code, cwd=tmp_path, capture_output=True).stdout == ""
    ours, theirs = os.openpty()
    in_a_new_process(code, cwd=tmp_path, stdout=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"})
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "encoding plays" in shown


# ------------------------------------------------------------------------------- the cache


def test_the_cache_is_used_and_never_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "a.txt"
    text.write_text("first version")
    encoded(text, tmp_path)
    encodings = []
    real = chargen.corpus._encode
    monkeypatch.setattr(chargen.corpus, "_encode", lambda *args: (encodings.append(1), real(*args)))
    assert text_of(encoded(text, tmp_path)) == ["first version"]
    assert len(encodings) == 0
    text.write_text("other version")  # as many bytes
    assert text_of(encoded(text, tmp_path)) == ["other version"]
    assert text_of(encoded(text, tmp_path, min_count=2)) != ["other version"]
    assert len(encodings) == 2


@pytest.mark.parametrize("damage", ["ids.bin", "tokenizer.json", "manifest.json", "short ids", "torn manifest"])
def test_an_interrupted_cache_is_rebuilt(damage: str, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("all of it, please")
    encoded(text, tmp_path)
    (home,) = (tmp_path / "cache" / "encoded").iterdir()
    if damage == "short ids":
        (home / "ids.bin").write_bytes((home / "ids.bin").read_bytes()[:-1])
    elif damage == "torn manifest":
        (home / "manifest.json").write_text((home / "manifest.json").read_text()[:40])
    else:
        (home / damage).unlink()
    assert text_of(encoded(text, tmp_path)) == ["all of it, please"]


# ------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"", {}, "is empty"),
        (b"a", {}, "too few"),
        (b"abc\0def", {}, "looks binary .* corpus.unit=byte"),
        (b"plain then \xff", {}, "is not utf-8 at byte 11: .*corpus.encoding="),
        ("é".encode() * 5 + b"\xe9 latin", {}, "is not utf-8 at byte 10"),
        (b"\xef\xbb\xbfabc\xff", {}, "is not utf-8 at byte 6"),
        ("山".encode()[:2], {}, "is not utf-8 at byte 0"),
        (b"abcd" + "山".encode()[:2], {}, "is not utf-8 at byte 4"),
        ("ab".encode("utf-16"), {}, "UTF-16 byte order mark: write corpus.encoding=utf-16"),
        (b"abc +2AA- def", {"encoding": "utf-7"}, "surrogates not allowed"),
        (b"abc", {"encoding": "klingon"}, "corpus.encoding=klingon: no such encoding"),
        (b"abc", {"encoding": "base64"}, "corpus.encoding=base64: no such encoding"),
        (b"abc", {"min_count": 2}, "corpus.min_count=2: no character comes that often"),
        (b"abcdef", {"split": "article"}, "corpus.split=article"),
    ],
)
@pytest.mark.usefixtures("small_pieces")
def test_mistakes_in_a_text(content: bytes, settings: dict, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        encoded(tmp_path / "a.txt", tmp_path, **settings)


@pytest.mark.parametrize("line", ["no json", "[1]", '{"txt": "a"}', '{"text": 5}', '{"text": "\\ud800"}', "null"])
def test_mistakes_in_json_lines(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match="line 2: expected a JSON object"):
        encoded(tmp_path / "a.jsonl", tmp_path)


@pytest.mark.usefixtures("small_pieces")
def test_json_lines_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "白日"}\n{"text": "依山"}\n', encoding="utf-16")
    assert text_of(encoded(tmp_path / "a.jsonl", tmp_path, encoding="utf-16")) == ["白日", "依山"]
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(ValueError, match=r"b\.jsonl is not utf-8 at byte 30"):
        encoded(tmp_path / "b.jsonl", tmp_path)


def test_mistakes_in_paths(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"abc" * 100)[:20])
    (tmp_path / "b.txt.gz").write_bytes(b"never compressed")
    for path, message in (
        ("nowhere.txt", "no such file, folder or pattern: .*nowhere"),
        ("empty", "no text in the folder"),
        ("a.txt.gz", "cannot read .*a.txt.gz"),
        ("b.txt.gz", "cannot read .*b.txt.gz"),
    ):
        with pytest.raises(ValueError, match=message):
            encoded(tmp_path / path, tmp_path)
    with pytest.raises(ValueError, match=r"corpus\.path=FILE"):
        load_corpus("text", tmp_path)


# ------------------------------------------------------------------------------- downloads


def test_a_download_is_made_once(host: type[Host], tmp_path: Path) -> None:
    for _ in range(2):
        assert get(host, tmp_path / "t.txt").read_bytes() == host.content
    assert host.asked == [None]
    assert [file.name for file in tmp_path.iterdir()] == ["t.txt"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(ranges: bool, host: type[Host], tmp_path: Path) -> None:
    host.breaks_after, host.ranges = 70_000, ranges
    with pytest.raises(ValueError, match=r"cannot fetch t.txt .*by hand and put it at .*t\.txt"):
        get(host, tmp_path / "t.txt")
    assert not (tmp_path / "t.txt").exists()
    host.breaks_after = None
    assert get(host, tmp_path / "t.txt").read_bytes() == host.content
    assert host.asked == [None, "bytes=70000-"]


def test_a_finished_part_is_not_asked_for_again(host: type[Host], tmp_path: Path) -> None:
    (tmp_path / "t.txt.part").write_bytes(host.content)
    assert get(host, tmp_path / "t.txt").read_bytes() == host.content
    assert host.asked == []


def test_another_content_is_refused(host: type[Host], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="its sha256 differs"):
        get(host, tmp_path / "t.txt", sha256="0" * 64)
    with pytest.raises(ValueError, match="more than the expected 10 bytes"):
        get(host, tmp_path / "t.txt", size=10)
    assert not (tmp_path / "t.txt").exists()


def test_offline_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"by hand and put it at .*t\.txt"):
        fetch("http://127.0.0.1:9/t.txt", tmp_path / "t.txt", 10, "0" * 64)
    with pytest.raises(ValueError, match="is not https"):
        fetch("http://example.org/t.txt", tmp_path / "t.txt", 10, "0" * 64)


def test_a_file_put_there_by_hand_is_used(host: type[Host], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(host.content)
    get(host, tmp_path / "t.txt")
    assert host.asked == []
    (tmp_path / "t.txt").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not the file that is expected"):
        get(host, tmp_path / "t.txt")


def test_an_archive_is_opened(host: type[Host], tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inside", b"the text itself")
    host.content = packed.getvalue()
    for _ in range(2):
        assert get(host, tmp_path / "t.zip").read_bytes() == b"the text itself"
    assert host.asked == [None]
    host.content = b"no archive"
    with pytest.raises(ValueError, match="not a zip archive"):
        get(host, tmp_path / "u.zip")
