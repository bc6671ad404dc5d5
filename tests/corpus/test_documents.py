"""Documents: pages, books and word processor files that are made here have the text that was put into them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.languages import JAPANESE, SIMPLIFIED, TRADITIONAL

from chargen.corpus.documents import MIN_CHAPTER, UNREADABLE, text_of_html
from chargen.corpus.reader import Cleaning, read_articles
from chargen.errors import TextError

pytest.importorskip("bs4")
docx = pytest.importorskip("docx")


def read(file: Path, **cleaning: Any) -> list[str]:
    """Read the articles that are not empty."""
    articles = read_articles(file, Cleaning(**{"encoding": "auto", **cleaning}))
    found = ["".join(chr(symbol) for piece in article for symbol in piece) for article in articles]
    return [text for text in found if text]


# ------------------------------------------------------------------------------- HTML


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>one</p><p>two</p>", "one\ntwo\n"),
        ("<h1>Title</h1>\n<p>It is\n late.</p>", "Title\n\nIt is late.\n"),
        ("<p>春眠不覺曉，\n    處處聞啼鳥。</p>", "春眠不覺曉，處處聞啼鳥。\n"),
        ("<p>a<b>b</b> <i>c</i><br>d<br/>e</p>", "ab c\nd\ne\n"),
        ("<head><title>no</title><style>p{}</style></head><body><script>var x = '<p>';</script>yes", "yes\n"),
        ("<p>&lt;tag&gt; &amp; &#26149;&nbsp;x</p><!-- no --><?php no ?>", "<tag> & 春\xa0x\n"),
        ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字", "漢字\n"),
        ("<ul><li>a</li><li>b</li></ul><table><tr><td>c</td><td>d</td></tr></table>", "a\nb\nc\nd\n"),
        ("<pre>  keep\n    this</pre>", "keep\nthis\n"),
        ("", ""),
        ("<p> </p>", ""),
        ("<div>" * 3000 + "deep", "deep\n"),
        ("no markup at all", "no markup at all\n"),
    ],
)
def test_text_of_a_page(markup: str, text: str) -> None:
    assert text_of_html(markup) == text


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "big5", "utf-16"])
def test_pages_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    text = TRADITIONAL.replace("\n\n", "\n")
    (tmp_path / "a.html").write_bytes("".join(f"<p>{line}</p>\n" for line in text.splitlines()).encode(encoding))
    assert read(tmp_path / "a.html") == [text]


def test_a_page_may_name_its_encoding(tmp_path: Path) -> None:
    """Three characters alone would be uncertain."""
    (tmp_path / "a.html").write_bytes(b'<meta charset="EUC-JP"><p>' + "山川林".encode("euc_jp") + b"</p>")
    assert read(tmp_path / "a.html") == ["山川林\n"]


# ------------------------------------------------------------------------------- books

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def write_book(file: Path, chapters: dict[str, str], spine: list[str], **more: str) -> Path:
    """Write an .epub: chapters by the names of their files, and the order in which they are read."""
    items = "".join(f'<item id="{name}" href="text/{name}" media-type="application/xhtml+xml"/>' for name in chapters)
    order = "".join(f'<itemref idref="{name}"/>' for name in spine)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/content.opf", f"<package><manifest>{items}</manifest><spine>{order}</spine></package>")
        for name, text in chapters.items():
            page = "".join(f"<p>{line}</p>" for line in text.splitlines())
            archive.writestr(f"OEBPS/text/{name}", f"<?xml version='1.0'?><html><body>{page}</body></html>")
        for name, text in more.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), text)
    return file


def test_chapters_come_in_the_order_in_which_they_are_read(tmp_path: Path) -> None:
    """A cover is no chapter; a part that the spine does not name is not read."""
    texts = [text.replace("\n\n", "\n") for text in (TRADITIONAL, SIMPLIFIED, JAPANESE * 2)]
    chapters = dict(zip(("b.xhtml", "a.xhtml", "c.xhtml"), texts, strict=True))
    chapters |= {"cover.xhtml": "封面", "unused.xhtml": "x" * 500}
    book = write_book(tmp_path / "b.epub", chapters, ["cover.xhtml", "b.xhtml", "a.xhtml", "c.xhtml"])
    assert len("封面") < MIN_CHAPTER
    assert read(book) == texts


def test_a_protected_book_is_refused(tmp_path: Path) -> None:
    listed = '<encryption><EncryptedData><CipherData><CipherReference URI="OEBPS/text/a.xhtml"/></CipherData>'
    more = {"META-INF__encryption_xml": f"{listed}</EncryptedData></encryption>"}
    book = write_book(tmp_path / "b.epub", {"a.xhtml": "x" * 500}, ["a.xhtml"], **more)
    with pytest.raises(TextError, match="is protected against copying"):
        read(book)


def test_a_book_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chargen.corpus.documents.MAX_PART", 1 << 16)
    book = write_book(tmp_path / "b.epub", {"a.xhtml": "x" * (1 << 17)}, ["a.xhtml"])
    with pytest.raises(TextError, match="unpacks to more than"):
        read(book)


def test_external_entities_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the secret " * 20, encoding="utf-8")
    entity = f'<!DOCTYPE html [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]>'
    book = write_book(tmp_path / "b.epub", {"a.xhtml": f"{entity}&e;" + "x" * 500}, ["a.xhtml"])
    assert "secret" not in "".join(read(book)).replace(f"{tmp_path}/secret", "")


@pytest.mark.parametrize("damage", ["no container", "no package", "no chapter", "cut", "no zip"])
def test_damaged_books_are_refused(damage: str, tmp_path: Path) -> None:
    book = tmp_path / "b.epub"
    if damage == "no zip":
        book.write_text("a book")
    elif damage == "cut":
        write_book(book, {"a.xhtml": "x" * 500}, ["a.xhtml"])
        book.write_bytes(book.read_bytes()[:-40])
    else:
        with zipfile.ZipFile(book, "w") as archive:
            archive.writestr("mimetype", "application/epub+zip")
            if damage != "no container":
                archive.writestr("META-INF/container.xml", CONTAINER)
            if damage == "no chapter":
                item = '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
                spine = '<spine><itemref idref="a"/></spine>'
                archive.writestr("OEBPS/content.opf", f"<package><manifest>{item}</manifest>{spine}</package>")
    with pytest.raises(TextError, match=r"b\.epub is (damaged|not an \.epub file)"):
        read(book)


# ------------------------------------------------------------------------------- word processors


def test_paragraphs_and_tables_of_a_word_processor(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_heading("春曉", 1)
    document.add_paragraph("春眠不覺曉，處處聞啼鳥。")
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    document.add_paragraph("夜來風雨聲。")
    document.save(str(tmp_path / "a.docx"))
    text = "春曉\n春眠不覺曉，處處聞啼鳥。\nleft\tright\n夜來風雨聲。\n"
    assert read(tmp_path / "a.docx") == [text]
    assert read(tmp_path / "a.docx", unit="byte") == [text.encode().decode("latin-1")]


def test_another_archive_is_no_word_processor_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(TextError, match=r"a\.docx is damaged or not a \.docx file"):
        read(tmp_path / "a.docx")


@pytest.mark.parametrize("suffix", UNREADABLE)
def test_files_that_cannot_be_read_say_what_to_do(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"%PDF-1.4 ...")
    with pytest.raises(TextError, match=rf"chargen does not read \{suffix} files; "):
        read(tmp_path / f"a{suffix}")
