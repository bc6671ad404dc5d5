"""Articles from records: rows of `.csv`, `.tsv` and `.parquet` files, and objects of `.jsonl` and `.json` files.

`corpus.field` says what of a record becomes text: a field such as `body`, a path to one such as `messages.content`, or
a template of several such as `{title}\\n\\n{body}`.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chargen.corpus.repeated_lines import lines_with_ends
from chargen.errors import TextError
from chargen.schema import nearest

DEFAULT_FIELD = "text"

TABLES = (".csv", ".tsv", ".parquet")
"""Suffixes of tables. Their rows are articles."""

MAX_NAMED = 12
"""How many fields a message names."""

MAX_CELL = 2**31 - 1
"""Characters of the longest cell of a `.csv` file."""

_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


class Template:
    """What of a record becomes text.

    Args:
        field: a name, a path, or a template of these in braces. A brace of the text is written twice; `\\n` and `\\t`
            stand for a new line and a tab.

    Attributes:
        fields: the names and paths in it, in order.
    """

    def __init__(self, field: str) -> None:
        self._pieces: list[tuple[str, bool]] = [(field, True)]  # a text, and whether it is the name of a field
        if "{" in field:
            self._pieces = [_piece(piece) for piece in re.split(r"(\{\{|\}\}|\{[^{}]*\})", field) if piece]
        self.fields = [text for text, is_field in self._pieces if is_field]
        self._found: set[str] = set()  # fields that an earlier record had

    def fill(self, record: Any) -> str:
        """Return the text of a record. A field among several that earlier records had may be missing from this one.

        Raises:
            KeyError: it does not have a field; the argument is the field.
            TypeError: a field is not text, a number or a list of these; the argument is the field.
        """
        return "".join(self._text_of(record, text) if is_field else text for text, is_field in self._pieces)

    def _text_of(self, record: Any, field: str) -> str:
        try:
            text = _text_of(record, field)
        except KeyError:
            if len(self.fields) > 1 and field in self._found:
                return ""
            raise
        self._found.add(field)
        return text


def _piece(piece: str) -> tuple[str, bool]:
    """Return a piece of a template: the name of a field and True, or a text and False."""
    if piece[0] == "{" and piece[-1] == "}":
        return piece[1:-1].strip(), True
    piece = piece.replace("{{", "{").replace("}}", "}")
    return re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], piece), False


def _text_of(record: Any, path: str) -> str:
    """Return the text of a field; the texts of a list are joined by new lines."""
    found = _values(record, [path] if isinstance(record, Mapping) and path in record else path.split("."))
    if found is None:
        raise KeyError(path)
    if not all(isinstance(value, (str, int, float, type(None))) and not isinstance(value, bool) for value in found):
        raise TypeError(path)
    return "\n".join(str(value) for value in found if value is not None)


def _values(value: Any, keys: Sequence[str]) -> list[Any] | None:
    """Return the values at the end of a path, through all elements of lists; None if the path leads nowhere."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if keys and keys[0].lstrip("-").isdigit():
            place = int(keys[0])
            return _values(value[place], keys[1:]) if -len(value) <= place < len(value) else None
        found = [_values(one, keys) for one in value]
        return None if None in found else [leaf for leaves in found if leaves is not None for leaf in leaves]
    if not keys:
        return [value]
    return _values(value[keys[0]], keys[1:]) if isinstance(value, Mapping) and keys[0] in value else None


def paths_in(record: Any, before: str = "") -> list[str]:
    """List the paths of a record that lead to text."""
    if isinstance(record, Mapping):
        return [path for key, value in record.items() for path in paths_in(value, f"{before}.{key}" if before else key)]
    if isinstance(record, Sequence) and not isinstance(record, str):
        return list(dict.fromkeys(path for one in record[:MAX_NAMED] for path in paths_in(one, before)))
    return [before] if isinstance(record, str) and before else []


def _no_field(where: str, field: str, known: Sequence[str]) -> TextError:
    """Say which fields there are."""
    if not known:
        return TextError(f"{where}: there is no field {field}, and no other one with text in it")
    named = ", ".join(known[:MAX_NAMED]) + (f" and {len(known) - MAX_NAMED:,} others" if len(known) > MAX_NAMED else "")
    hint = nearest(field, known) if field != DEFAULT_FIELD else ""
    template = "".join(f"{{{name}}} " for name in known[:2]).strip()
    hint = hint or f"; write corpus.field={known[0]}, or a template such as corpus.field='{template}'"
    return TextError(f"{where}: there is no field {field}, but {named}{hint}")


# ------------------------------------------------------------------------------- JSON


def texts_of_json_lines(file: Path, lines: Iterable[str], field: str) -> Iterator[str]:
    """Yield the text of each line of a `.jsonl` file; blank lines are left out.

    Raises:
        TextError: a line is not a JSON object, or does not have the field.
    """
    template = Template(field)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _text_of_json(f"{file}, line {number}", line, template)


def texts_of_json(file: Path, text: str, field: str) -> Iterator[str]:
    """Yield the text of each object in the array that a `.json` file holds, or of its only object.

    Raises:
        TextError: it is not JSON of objects, or one does not have the field.
    """
    template = Template(field)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TextError(f"{file} is not JSON ({error}): give an intact file") from None
    for number, record in enumerate(content if isinstance(content, list) else [content], start=1):
        yield _filled(f"{file}, object {number}", record, template)


def _text_of_json(where: str, line: str, template: Template) -> str:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, Mapping):
        example = '{"text": "…"}'
        raise TextError(f"{where}: expected a JSON object like {example} on every line")
    return _filled(where, record, template)


def _filled(where: str, record: Any, template: Template) -> str:
    try:
        text = template.fill(record)
        text.encode()  # fails on lone surrogates
    except KeyError as error:
        raise _no_field(where, error.args[0], paths_in(record)) from None
    except TypeError as error:
        known = [path for path in paths_in(record) if path.startswith(f"{error.args[0]}.")]
        raise _no_field(where, error.args[0], known or paths_in(record)) from None
    except UnicodeEncodeError:
        raise TextError(f"{where}: it contains half of a surrogate pair, which is no character") from None
    return text


# ------------------------------------------------------------------------------- tables


def texts_of_table(file: Path, pieces: Iterable[str], field: str) -> Iterator[str]:
    """Yield the text of each row of a `.csv` or `.tsv` file, whose first row names the columns.

    Args:
        file: the file.
        pieces: its text.
        field: a column, or a template of columns.

    Raises:
        TextError: the file is not such a table, or does not have a column.
    """
    template = Template(field)
    lines = lines_with_ends(pieces)
    first = next(lines, "")
    is_tabs = file.name.lower().removesuffix(".gz").endswith(".tsv")
    delimiter = "\t" if is_tabs else max(",;\t|", key=lambda mark: _without_quotes(first).count(mark))
    csv.field_size_limit(MAX_CELL)
    rows = csv.reader(_chain(first, lines), delimiter=delimiter, strict=not is_tabs)
    columns: list[str] = []
    try:
        for row in rows:
            if not row:
                continue
            if not columns:
                columns = [name.strip() for name in row]
                _require_columns(f"{file}, line 1", columns, template)
                continue
            if len(row) > len(columns):
                raise TextError(
                    f"{file}, line {rows.line_num}: {len(row)} cells, but {len(columns)} columns; a cell with "
                    f"{delimiter!r} in it needs quotes"
                )
            yield template.fill(dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=True)))
    except csv.Error as error:
        raise TextError(f"{file}, line {rows.line_num}: {error}; mend the quotes of this row") from None


def _chain(first: str, lines: Iterable[str]) -> Iterator[str]:
    yield first
    yield from lines


def _without_quotes(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line)


def _require_columns(where: str, columns: Sequence[str], template: Template) -> None:
    for field in template.fields:
        if field not in columns:
            raise _no_field(where, field, [name for name in columns if name])
        if columns.count(field) > 1:
            raise TextError(f"{where}: {columns.count(field)} columns have the name {field}: rename one of them")


def texts_of_parquet(file: Path, field: str) -> Iterator[str]:
    """Yield the text of each row of a `.parquet` file.

    Raises:
        ImportError: pyarrow is not installed.
        TextError: the file is damaged, or it does not have a column.
    """
    import pyarrow.parquet as parquet  # imported late: it is an extra
    from pyarrow import ArrowException

    template = Template(field)
    try:
        table = parquet.ParquetFile(file)
        names = table.schema_arrow.names
        for field in template.fields:
            if field not in names and field.split(".")[0] not in names:
                raise _no_field(str(file), field, names)
        columns = [field if field in names else field.split(".")[0] for field in template.fields]
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=list(dict.fromkeys(columns))):
            for record in batch.to_pylist():
                number += 1
                yield _filled(f"{file}, row {number}", record, template)
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TextError(f"{file} cannot be read as .parquet ({reason}): give an intact file") from None
