"""Text of documents: `.html`, `.epub` and `.docx` files. A chapter of an `.epub` is an article."""

from __future__ import annotations

import posixpath
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from chargen.corpus.encodings import detect_encoding
from chargen.errors import TextError

if TYPE_CHECKING:
    from bs4 import Tag

PAGES = (".html", ".htm", ".xhtml")
BOOKS = (".epub", ".docx")
DOCUMENTS = (*PAGES, *BOOKS)
"""Suffixes of documents."""

UNREADABLE = {
    ".pdf": "make text of it, such as with pdftotext",
    ".doc": "save it as .docx",
    **dict.fromkeys((".odt", ".rtf", ".pages", ".wps"), "save it as .docx or .txt"),
    **dict.fromkeys((".xls", ".xlsx", ".ods", ".numbers"), "save it as .csv"),
    **dict.fromkeys((".mobi", ".azw", ".azw3", ".fb2"), "convert it to .epub or .txt"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"), "unpack it, and give the folder"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".webp", ".mp3", ".mp4"), "give a file of text"),
}
"""What to do with files that are not text, by suffix."""

MIN_CHAPTER = 100
"""Shorter parts of a book, such as a cover, are no chapters."""

MAX_PART = 1 << 28
"""Bytes of the largest part of a document, unpacked."""


# ------------------------------------------------------------------------------- HTML

_LEFT_OUT = ("script", "style", "head", "title", "template", "noscript", "rt", "rp", "svg", "math", "iframe", "object",
             "button", "select", "nav")  # fmt: skip
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div", "dl"),
    *("dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "li", "main", "ol", "p"),
    *("pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_WIDE = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
_BREAK_IN_WIDE = re.compile(rf"(?<=[{_WIDE}])[ \t\r\f]*\n\s*(?=[{_WIDE}])")


def text_of_html(markup: str) -> str:
    """Return the text of a page: a line for each block, a blank line behind headings, without scripts and menus.

    Raises:
        ImportError: beautifulsoup4 or lxml is not installed.
    """
    import lxml  # noqa: F401 - what beautifulsoup4 parses with
    from bs4 import BeautifulSoup

    with warnings.catch_warnings():  # about text that looks like a path, or XML that is read as HTML
        warnings.simplefilter("ignore")
        page = BeautifulSoup(markup, "lxml")
    pieces: list[str] = []
    _collect(page, pieces)
    lines = (line.strip(" \t\r\f\xa0") for line in "".join(pieces).split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return f"{text}\n" if text else ""


def _collect(page: Tag, pieces: list[str]) -> None:
    """Append the text of a page in pieces. It is not recursive: pages can be nested without limit."""
    from bs4.element import NavigableString, Tag

    stack: list[tuple[Any, bool]] = [(page, False)]  # what follows, the next one last; and whether it is preformatted
    while stack:
        node, is_literal = stack.pop()
        if node is _END_OF_BLOCK or node is _END_OF_HEADING:
            _begin_line(pieces)
            if node is _END_OF_HEADING:
                pieces.append("\n")
        elif isinstance(node, Tag):
            if node.name in _LEFT_OUT:
                continue
            if node.name == "br":
                pieces.append("\n")
            if node.name in _BLOCKS or node.name in _HEADINGS:
                _begin_line(pieces)
                stack.append((_END_OF_HEADING if node.name in _HEADINGS else _END_OF_BLOCK, False))
            stack += [(child, is_literal or node.name == "pre") for child in reversed(list(node.children))]
        elif type(node) is NavigableString:  # comments and the like are subclasses
            text = str(node) if is_literal else _without_breaks(str(node), is_first=_is_new_line(pieces))
            if text:
                pieces.append(text)


_END_OF_BLOCK, _END_OF_HEADING = object(), object()


def _without_breaks(text: str, *, is_first: bool) -> str:
    """Join the lines of a text as a browser does: with a space, but not between two wide characters."""
    text = re.sub(r"[ \t\r\n\f]+", " ", _BREAK_IN_WIDE.sub("", text))
    return text.lstrip(" ") if is_first else text


def _is_new_line(pieces: list[str]) -> bool:
    return not pieces or pieces[-1].endswith("\n")


def _begin_line(pieces: list[str]) -> None:
    """Begin a line, unless one has just begun."""
    if pieces and not pieces[-1].endswith("\n"):
        pieces.append("\n")


# ------------------------------------------------------------------------------- books


def texts_of_book(file: Path) -> Iterator[str]:
    """Yield the chapters of an `.epub`, or the text of a `.docx`.

    Raises:
        ImportError: a package is not installed.
        TextError: the file is damaged or protected.
    """
    if not zipfile.is_zipfile(file):
        raise TextError(f"{file} is not {_an(file.suffix)} file: give an intact one")
    try:
        if file.suffix.lower() == ".docx":
            yield _text_of_docx(file)
        else:
            yield from _chapters(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, TextError):
            raise
        raise TextError(f"{file} is damaged or not {_an(file.suffix)} file ({error}): give an intact one") from None


def _an(suffix: str) -> str:
    return f"an {suffix}" if suffix.lower() == ".epub" else f"a {suffix}"


def _chapters(file: Path) -> Iterator[str]:
    """Yield the text of the parts of a book in the order in which they are read (EPUB 3.3, the spine)."""
    import lxml  # noqa: F401 - what beautifulsoup4 parses with
    from bs4 import BeautifulSoup

    with zipfile.ZipFile(file) as archive:
        container = BeautifulSoup(_part(archive, "META-INF/container.xml"), "lxml-xml")
        root = container.find("rootfile")
        if root is None:
            raise ValueError("it names no package")
        package_path = str(root.get("full-path"))
        package = BeautifulSoup(_part(archive, package_path), "lxml-xml")
        places = {str(item.get("id")): str(item.get("href")) for item in package.find_all("item")}
        kinds = {str(item.get("id")): str(item.get("media-type")) for item in package.find_all("item")}
        encrypted = _encrypted(archive)
        for reference in package.find_all("itemref"):
            name = str(reference.get("idref"))
            if "html" not in kinds.get(name, ""):
                continue
            place = posixpath.normpath(posixpath.join(posixpath.dirname(package_path), unquote(places[name])))
            if place in encrypted:
                raise TextError(f"{file} is protected against copying: give a book without protection")
            data = _part(archive, place)
            text = text_of_html(data.decode(detect_encoding([data]).encoding or "utf-8", "replace"))
            if len(text) >= MIN_CHAPTER:
                yield text


def _encrypted(archive: zipfile.ZipFile) -> set[str]:
    """Return the parts of a book that are encrypted."""
    from bs4 import BeautifulSoup

    if "META-INF/encryption.xml" not in archive.namelist():
        return set()
    listed = BeautifulSoup(_part(archive, "META-INF/encryption.xml"), "lxml-xml")
    return {unquote(str(reference.get("URI"))) for reference in listed.find_all("CipherReference")}


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read a part of an archive, unless it is larger than a text can be."""
    with archive.open(name) as stream:
        data = stream.read(MAX_PART + 1)
    if len(data) > MAX_PART:
        raise ValueError(f"{name} unpacks to more than {MAX_PART >> 20} MB")
    return data


def _text_of_docx(file: Path) -> str:
    """Return the paragraphs and the cells of tables in their order, a line for each."""
    import docx  # python-docx
    from docx.opc.exceptions import PackageNotFoundError
    from docx.table import Table

    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.file_size > MAX_PART:
                raise ValueError(f"{member.filename} unpacks to more than {MAX_PART >> 20} MB")
    try:
        document = docx.Document(str(file))
    except PackageNotFoundError as error:
        raise ValueError(str(error)) from None
    lines = []
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            lines += ["\t".join(cell.text for cell in row.cells) for row in block.rows]
        else:
            lines.append(block.text)
    return "".join(f"{line}\n" for line in lines)
