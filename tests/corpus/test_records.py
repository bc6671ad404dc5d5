"""Records become the texts that Python's own readers and a plain format string give."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chargen.corpus.reader import Cleaning, read_articles
from chargen.corpus.records import Template, paths_in
from chargen.errors import ConfigError, TextError

ROWS = [
    {"title": "春眠不覺曉，處處聞啼鳥。", "body": 'He said "no",\nand went.\r\n', "number": 3},
    {"title": "Rain; wind", "body": "one\ttwo", "number": 4.5},
    {"title": "", "body": "x", "number": 0},
]


def read(file: Path, **cleaning: Any) -> list[str]:
    """Read the articles that are not empty."""
    articles = read_articles(file, Cleaning(**{"encoding": "auto", **cleaning}))
    found = ["".join(chr(symbol) for piece in article for symbol in piece) for article in articles]
    return [text for text in found if text]


def table_of(rows: list[dict[str, Any]], delimiter: str = ",", **format: Any) -> str:
    """Write rows with Python's csv module."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, **format)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


# ------------------------------------------------------------------------------- templates


@given(st.text("ab{}\\ n", max_size=20), st.text("xy", max_size=5), st.text("xy", max_size=5))
def test_a_template_equals_a_format_string(literal: str, one: str, two: str) -> None:
    escaped = literal.replace("\\", "\\\\").replace("{", "{{").replace("}", "}}")
    template = Template("{a}" + escaped + "{b}")
    assert template.fill({"a": one, "b": two}) == one + literal + two
    assert template.fields == ["a", "b"]


def test_new_lines_in_a_template() -> None:
    assert Template(r"{a}\n\n{b}\t.").fill({"a": "1", "b": 2}) == "1\n\n2\t."


@pytest.mark.parametrize("field", ["{", "{}", "{{title}}", "a {title} {}"])
def test_a_template_that_names_no_field_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.field=.*: it names no field"):
        Cleaning(field=field)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("messages.content", "hello\nbye"),
        ("messages.0.content", "hello"),
        ("messages.-1.content", "bye"),
        ("a.b", "exact"),
        ("meta.title", "T"),
        ("tags", "x\ny"),
        ("{meta.title}: {messages.role}", "T: user\nbot"),
        ("nothing", ""),
    ],
)
def test_paths(field: str, text: str) -> None:
    record = {
        "messages": [{"role": "user", "content": "hello"}, {"role": "bot", "content": "bye"}],
        "a.b": "exact", "a": {"b": "nested"}, "meta": {"title": "T"}, "tags": ["x", "y"], "nothing": None,
    }  # fmt: skip
    assert Template(field).fill(record) == text
    assert paths_in(record)[:3] == ["messages.role", "messages.content", "a.b"]


# ------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".csv", ";"), (".csv", "|"), (".tsv", "\t")])
@pytest.mark.parametrize("block_size", [1 << 20, 3])
def test_rows_are_those_of_the_csv_module(
    suffix: str, delimiter: str, encoding: str, block_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chargen.corpus.decoding.BLOCK_SIZE", block_size)
    file = (tmp_path / "t").with_suffix(suffix)
    file.write_bytes(table_of(ROWS, delimiter).encode(encoding))
    assert read(file, field="body") == [row["body"] for row in ROWS]
    assert read(file, field=r"{title}\n\n{body}") == [f"{row['title']}\n\n{row['body']}" for row in ROWS]
    packed = tmp_path / f"p{suffix}.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert read(packed, field="title") == [ROWS[0]["title"], "Rain; wind"]


def test_the_column_text_is_taken_by_default_and_null_reads_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text\n1,one\n2,\n3,three\n", encoding="utf-8")
    assert read(tmp_path / "t.csv") == ["one", "three"]
    assert read(tmp_path / "t.csv", field=None) == ["id,text\n1,one\n2,\n3,three\n"]


def test_a_cell_of_megabytes(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f'text\n"{"long " * 1_000_000}"\n', encoding="utf-8")
    assert [len(text) for text in read(tmp_path / "t.csv")] == [5_000_000]


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        (
            "id,body\n1,x\n",
            "text",
            r"t\.csv, line 1: there is no field text, but id, body; write corpus\.field=id",
        ),
        ("id,body\n1,x\n", "bodi", r"there is no field bodi, but id, body; did you mean body\?"),
        ("id,body\n1,x\n", "{id} {txt}", "there is no field txt, but id, body"),
        ("text,n\na,b,c\n", "text", r"t\.csv, line 2: 3 cells, but 2 columns; a cell with ',' in it needs quotes"),
        ('text\n"never closed\n', "text", r"t\.csv, line 2: .*; mend the quotes of this row"),
        ("text,text\na,b\n", "text", "2 columns have the name text: rename one of them"),
        ("", "text", None),
        ("text\n", "text", None),
    ],
)
def test_mistakes_in_a_table(content: str, field: str, message: str | None, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    if message is None:
        assert read(tmp_path / "t.csv", field=field) == []
        return
    with pytest.raises(TextError, match=message):
        read(tmp_path / "t.csv", field=field)


def test_rows_of_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{**row, "number": float(row["number"]), "talk": [{"content": row["body"]}]} for row in ROWS] * 700
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", field="body") == [row["body"] for row in rows]
    assert read(tmp_path / "t.parquet", field="{title}: {talk.content}") == [f"{r['title']}: {r['body']}" for r in rows]
    with pytest.raises(TextError, match=r"t\.parquet: there is no field text, but title, body, number, talk"):
        read(tmp_path / "t.parquet")
    (tmp_path / "d.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:100])
    with pytest.raises(TextError, match=r"d\.parquet cannot be read as \.parquet"):
        read(tmp_path / "d.parquet")


# ------------------------------------------------------------------------------- JSON


def test_fields_of_json_lines_and_of_json(tmp_path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "t.json").write_text(f"[{','.join(lines)}]", encoding="utf-8")
    for name in ("t.jsonl", "t.json"):
        assert read(tmp_path / name, field="body") == [row["body"] for row in ROWS]
        assert read(tmp_path / name, field="{number}") == ["3", "4.5", "0"]
        with pytest.raises(TextError, match=r"there is no field bdy, but title, body; did you mean body\?"):
            read(tmp_path / name, field="bdy")
    assert read(tmp_path / "t.json") == [f"[{','.join(lines)}]"]  # JSON itself, as before there were fields


def test_a_field_among_several_may_be_missing(tmp_path: Path) -> None:
    """Not in the first record: then the name is probably wrong. And not if it is the only one."""
    records = [{"title": "A", "body": "b"}, {"body": "c"}, {"title": None, "body": "d"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert read(tmp_path / "t.jsonl", field="{title}: {body}") == ["A: b", ": c", ": d"]
    with pytest.raises(TextError, match="line 2: there is no field title"):
        read(tmp_path / "t.jsonl", field="title")
    with pytest.raises(TextError, match="line 1: there is no field heading"):
        read(tmp_path / "t.jsonl", field="{heading}: {body}")


@pytest.mark.parametrize(
    ("record", "field", "message"),
    [
        ({"messages": [{"role": "u", "content": "c"}]}, "text", "but messages.role, messages.content; write corpus"),
        (
            {"prompt": "p", "completion": "c"},
            "text",
            "but prompt, completion; write corpus.field=prompt, or a template such as corpus.field='{prompt} {comp",
        ),
        ({"messages": [{"content": "c"}]}, "messages", "there is no field messages, but messages.content; did you"),
        ({"n": 1}, "text", "there is no field text, and no other one with text in it"),
        ({"text": True}, "text", "there is no field text, and no other one"),
        ({"text": "\ud800"}, "text", "half of a surrogate pair"),
    ],
)
def test_the_fields_of_a_record_are_named(record: Any, field: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(TextError, match=message):
        read(tmp_path / "t.jsonl", field=field)
