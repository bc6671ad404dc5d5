"""Text becomes ids on disk: find, fetch, clean, encode, split, memory-map.

A corpus is a sequence of articles with one end-of-article id between two of them. The text is read
twice in pieces, once to count its symbols and once to encode them; neither it nor its ids are ever in
memory whole. The ids stand in the smallest sufficient unsigned integer in `ids.bin`, beside
`tokenizer.json` and `manifest.json`, in a folder named by a hash of the text's bytes and of every
setting that shapes the ids: another text or setting is another folder, so a cache cannot be stale.
The manifest is written last: a folder without one was interrupted, and is written again.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import sys
import unicodedata
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from chargen.corpus.code_points import NUM_CODE_POINTS, Utf8Decoder, code_points_of, count
from chargen.corpus.tokenizer import END_ID, Tokenizer, Unit
from chargen.storage.atomic import CHUNK_BYTES, atomic_write, folder_lock, open_no_follow, sha256_of

FORMAT_VERSION = 1
TEXT_SUFFIXES = (".txt", ".md", ".jsonl")
MOST_UNPACKED = 100
"""Times its size that a downloaded archive may come to; text comes to five or ten times."""

Article = Iterable[np.ndarray]
"""One document, in pieces: the numbers of its characters or bytes, as `symbols` has them."""

Advance = Callable[[int], None]
"""Told how many bytes of the files have been read since it was last told."""


@dataclass(frozen=True)
class Corpus:
    """A text as ids, split in two.

    Attributes:
        name: what it is called.
        ids: (N,) unsigned integers on disk, mapped into memory.
        tokenizer: what made them.
        sha256: of the text's bytes, for one file that file's own.
        num_articles: documents in it.
        num_train: the first so many ids train, the others validate.
    """

    name: str
    ids: np.memmap
    tokenizer: Tokenizer
    sha256: str
    num_articles: int
    num_train: int

    @property
    def train(self) -> np.ndarray:
        """The ids to learn from."""
        return self.ids[: self.num_train]

    @property
    def validation(self) -> np.ndarray:
        """The held-out ids behind the last one of training, so that each held-out one has a predecessor."""
        return self.ids[self.num_train - 1 :]

    @property
    def start_id(self) -> int:
        """What a model reads before the first character of a new article.

        The end of an article where the model has met one; in a corpus of a single article a
        newline, or its most common symbol.
        """
        if self.num_articles > 1:
            return END_ID
        newline = int(self.tokenizer.encode("\n")[0])
        return newline or int(np.bincount(self.train[:CHUNK_BYTES]).argmax())


def load_corpus(
    name: str,
    folder: Path,
    *,
    path: str | Sequence[str] | None = None,
    url: str | None = None,
    file: str | None = None,
    size: int | None = None,
    sha256: str | None = None,
    encoding: str = "utf-8",
    unit: Unit = "character",
    min_count: int = 1,
    normalize_newlines: bool = False,
    normalize_unicode: bool = False,
    validation_fraction: float = 0.1,
    split: Literal["contiguous", "article"] = "contiguous",
    learned: str | None = None,
) -> Corpus:
    """Finds a corpus, encodes it if that has not been done, and maps it into memory.

    Args:
        name: `python_reference` for the embedded one, otherwise a label.
        folder: where downloads and encoded corpora live.
        path: a file, several, a glob or a folder.
        url: where to fetch it instead, with the `file` name to keep it under, its `size` in bytes
            and its `sha256`. A zip archive of one file is opened.
        encoding: of the files; a byte order mark is understood.
        unit: `character` or `byte`. Bytes are learned as they stand in the file or, where another
            encoding than UTF-8 is named, as those of the same text in UTF-8.
        min_count: symbols that come less often become unknown.
        normalize_newlines: CRLF and CR become LF.
        normalize_unicode: Unicode NFC.
        validation_fraction: the last part of the ids, held out.
        split: `contiguous` cuts at that very id, `article` at the end of the article around it.
        learned: the digest of the text that a run has learned from; another one is not even encoded.

    Raises:
        ValueError: there is no such text, or it cannot be read as described. The message says
            what to write.
    """
    if url is not None:
        if file is None or size is None or sha256 is None:
            raise ValueError(f"corpus={name}: with a url it needs file, size and sha256 too")
        path = str(fetch(url, folder / file, size, sha256))
    elif path is None and name != "python_reference":
        raise ValueError(f"corpus={name} needs a text: corpus.path=FILE, FOLDER or 'GLOB'")

    cleaning: dict[str, Any] = {
        "encoding": _known_encoding(encoding),
        "unit": unit,
        "normalize_newlines": normalize_newlines,
        "normalize_unicode": normalize_unicode,
    }
    files = [] if path is None else find_files(path)
    stamps = _stamps(files)
    with _bytes_bar(f"encoding {name}", sum(size for size, _ in stamps), 0) as advance_bar:

        def advance(num_bytes: int) -> None:
            advance_bar(num_bytes / 3)  # each is read three times: for the digest, to count, to encode

        if path is None:
            topics = _python_reference()
            digest = hashlib.sha256("\0".join(topics).encode()).hexdigest()

            def articles() -> Generator[Article, None, None]:
                return ([_numbers(text, unit)] for text in topics)

        else:
            digests = [sha256_of(file, advance) for file in files]
            digest = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()

            def articles() -> Generator[Article, None, None]:
                return (article for file in files for article in read_articles(file, **cleaning, advance=advance))

        if learned not in (None, digest):
            raise ValueError(f"the text of corpus {name} has changed since the run: start a new one")
        shape = {"version": FORMAT_VERSION, "text": digest, "kinds": ["".join(f.suffixes[-2:]) for f in files]}
        key = hashlib.sha256(json.dumps({**shape, **cleaning, "min_count": min_count}).encode()).hexdigest()
        home = folder / "encoded" / key[:20]
        encoded = _load(home, key)
        if encoded is None:
            with folder_lock(home, wait=True, say=lambda text: print(f"chargen: {text}", file=sys.stderr)):
                encoded = _load(home, key)  # whoever was waited for may have written the same
                if encoded is None:
                    manifest = {"key": key, "name": name, "sha256": digest, **shape, **cleaning}
                    _encode(articles, home, manifest, unit, min_count)
                    if _stamps(files) != stamps:
                        (home / "manifest.json").unlink()
                        raise ValueError(f"the text of corpus {name} changed while it was read: run the command again")
                    encoded = _load(home, key)
            assert encoded is not None, f"{home} was written and cannot be read"
    ids, tokenizer, num_articles = encoded
    num_train = _cut(ids, validation_fraction, split)
    return Corpus(name, ids, tokenizer, digest, num_articles, num_train)


def encode_file(
    path: str,
    tokenizer: Tokenizer,
    encoding: str = "utf-8",
    normalize_newlines: bool = False,
    normalize_unicode: bool = False,
) -> np.ndarray:
    """The ids of a file under a tokenizer that exists, read as `prepare` reads it.

    Returns:
        (N,), of the tokenizer's `dtype`.

    Raises:
        ValueError: it cannot be read so.
    """
    encoding = _known_encoding(encoding)
    articles = (
        article
        for file in find_files(path)
        for article in read_articles(file, encoding, tokenizer.unit, normalize_newlines, normalize_unicode)
    )
    with closing(articles):
        pieces = list(_encoded(articles, tokenizer))
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=tokenizer.dtype)


def _stamps(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Size and time of change of each file."""
    return [(status.st_size, status.st_mtime_ns) for status in (file.stat() for file in files)]


def _cut(ids: np.memmap, validation_fraction: float, split: str) -> int:
    """How many ids train."""
    num_train = int(len(ids) * (1 - validation_fraction))
    if split == "article":
        end = _article_end(ids, num_train)
        if end is None:
            raise ValueError("corpus.split=article needs several articles, and this corpus is one: write contiguous")
        num_train = end
    if num_train < 2 or len(ids) - num_train < 1:
        raise ValueError(f"the corpus has {len(ids)} characters, too few to train on and to hold some out: add text")
    return num_train


def _article_end(ids: np.memmap, wanted: int) -> int | None:
    """The place behind the first end of an article from `wanted` on, or else behind the last one of all.

    The file is read in pieces: what is looked at through a map stays in memory.
    """
    first = max(wanted - 1, 0)  # the place of an end whose successor is `wanted`
    forward = range(first, len(ids), CHUNK_BYTES)
    backward = (max(stop - CHUNK_BYTES, 0) for stop in range(first, 0, -CHUNK_BYTES))
    for begins, which in ((forward, 0), (backward, -1)):
        for begin in begins:
            piece = np.fromfile(str(ids.filename), ids.dtype, CHUNK_BYTES, offset=begin * ids.itemsize)
            ends = np.flatnonzero(piece == END_ID)
            if len(ends):
                return begin + int(ends[which]) + 1
    return None


# ------------------------------------------------------------------------------- find and fetch


def find_files(path: str | Sequence[str]) -> list[Path]:
    """The files that a path, several, a glob or a folder stand for, in a stable order.

    A folder gives its `.txt`, `.md` and `.jsonl` files at any depth, also with `.gz` behind.

    Raises:
        ValueError: there are none.
    """
    if not isinstance(path, str):
        return [file for one in path for file in find_files(one)]
    place = Path(path).expanduser()
    if place.is_dir():
        found = sorted(
            f
            for f in place.rglob("*")
            if f.is_file()
            and not any(part.startswith(".") for part in f.relative_to(place).parts)
            and f.name.lower().removesuffix(".gz").endswith(TEXT_SUFFIXES)
        )
        if not found:
            raise ValueError(f"no text in the folder {path}: it should hold {', '.join(TEXT_SUFFIXES)} files (or .gz)")
        return found
    if place.is_file():
        return [place]
    found = sorted(Path(match) for match in glob.glob(str(place), recursive=True) if Path(match).is_file())
    if not found:
        raise ValueError(f"no such file, folder or pattern: {path}")
    return found


def unpacked(target: Path) -> Path:
    """Where the text of a download is: the file that was in an archive, or the file itself."""
    return target.with_suffix("") if target.suffix == ".zip" else target


def fetch(url: str, target: Path, size: int, sha256: str) -> Path:
    """Downloads a file once, goes on where an earlier try stopped, and opens a zip of one file.

    A file put at `target` by hand is used as it is, if it is the right one.

    Args:
        url: https; plain http is for this machine alone.
        target: where to keep the file.
        size: its exact size, in bytes.
        sha256: its digest.

    Returns:
        `target`, or the file that was in the archive.

    Raises:
        ValueError: it cannot be had, or is not what it should be.
    """
    content = unpacked(target)
    if content != target and content.is_file():
        return content
    by_hand = f"download {url} by hand and put it at {target}"
    if not target.is_file():
        address = urllib.parse.urlsplit(url)
        if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1"):
            raise ValueError(f"{url} is not https: {by_hand}")
        part = target.with_name(target.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            _download(url, part, size)
        except (OSError, EOFError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ValueError(f"cannot fetch {target.name} ({reason}): {by_hand}") from None
        if sha256_of(part) != sha256:
            part.unlink()
            raise ValueError(f"what {url} sent is not {target.name} (its sha256 differs): {by_hand}")
        os.replace(part, target)
    elif target.stat().st_size != size or sha256_of(target) != sha256:
        raise ValueError(f"{target} is not the file that is expected (sha256 {sha256[:12]}…): remove it, or {by_hand}")
    if content != target:
        try:
            with zipfile.ZipFile(target) as archive, atomic_write(content) as temporary:
                (member,) = archive.infolist()  # whose name is of no interest: it may lead anywhere
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise ValueError("packed in a way that may come to anything")
                with archive.open(member) as packed, open(temporary, "wb") as stream:
                    while block := packed.read(CHUNK_BYTES):
                        stream.write(block)
                        if stream.tell() > MOST_UNPACKED * size:
                            raise ValueError(f"more than {MOST_UNPACKED} times its size comes out of it")
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise ValueError(f"{target} is not a zip archive of one file ({error}): remove it") from None
    return content


def _download(url: str, part: Path, size: int) -> None:
    """Appends to `part` until it has `size` bytes, never more."""
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    if have == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "chargen"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.build_opener(_NoDowngrade).open(request, timeout=30) as response:
        if response.status != 206:
            have = 0
        with open_no_follow(part, "ab" if have else "wb") as stream, _bytes_bar(part.stem, size, have) as advance:
            while block := response.read(1 << 16):
                have += len(block)
                if have > size:
                    raise EOFError(f"more than the expected {size:,} bytes came")
                stream.write(block)
                advance(len(block))
    if have < size:
        raise EOFError(f"{have:,} of {size:,} bytes came; the next try goes on from there")


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows a redirection from https to https alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The next request, or an error where it would be readable for everyone on the way."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise OSError(f"it leads from https to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _bytes_bar(label: str, total: int, done: int) -> Iterator[Callable[[float], None]]:
    """A progress bar over bytes on a terminal, and nothing elsewhere."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), transient=True, disable=not sys.stdout.isatty()) as progress:
        task = progress.add_task(label, total=total, completed=done)
        yield lambda num_bytes: progress.advance(task, num_bytes)


# ------------------------------------------------------------------------------- read and clean


def _python_reference() -> list[str]:
    """The articles of the Python language reference that come with every CPython, by topic."""
    from pydoc_data.topics import topics

    return [topics[topic] for topic in sorted(topics)]


def read_articles(
    file: Path,
    encoding: str,
    unit: Unit,
    normalize_newlines: bool,
    normalize_unicode: bool,
    advance: Advance = lambda _: None,
) -> Generator[Article, None, None]:
    """The articles of a file, each in pieces: a line's `text` in `.jsonl`, else the whole file.

    Raises:
        ValueError: while a piece is read: it is not in that encoding, or binary, or not JSON lines.
    """
    clean = _Cleaner(file, unit, normalize_newlines, normalize_unicode)
    to_text = codecs.getincrementaldecoder(encoding)("strict")
    with closing(_blocks(file, advance)) as blocks:
        if file.name.lower().removesuffix(".gz").endswith(".jsonl"):
            for number, line in enumerate(lines(_decoded(file, blocks, encoding, to_text)), start=1):
                if line.strip():
                    yield clean.text([_json_text(file, number, line)])
        elif unit == "byte" and encoding == "utf-8":
            yield clean.raw(blocks)
        elif encoding == "utf-8" and not (normalize_newlines or normalize_unicode):
            yield clean.numbers(_decoded(file, blocks, encoding, Utf8Decoder()))
        else:
            yield clean.text(_decoded(file, blocks, encoding, to_text))


def _blocks(file: Path, advance: Advance) -> Generator[bytes, None, None]:
    """The bytes of a file, unpacked if they are packed; `advance` is told of those in the file."""
    try:
        with open(file, "rb") as stored:
            stream = gzip.GzipFile(fileobj=stored) if file.suffix == ".gz" else stored
            begin = 0
            while block := stream.read(CHUNK_BYTES):
                yield block
                advance(stored.tell() - begin)
                begin = stored.tell()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def _decoded(file: Path, blocks: Iterable[bytes], encoding: str, decoder: codecs.IncrementalDecoder) -> Iterator[Any]:
    """What the decoder makes of a file, in pieces; an error names the byte where it begins."""
    offset = 0  # of the first byte that the decoder has not been given
    for block in blocks:
        if offset == 0 and encoding == "utf-8":
            if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise ValueError(f"{file} begins with a UTF-16 byte order mark: write corpus.encoding=utf-16")
            if block.startswith(codecs.BOM_UTF8):
                block, offset = block[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
        pending = len(decoder.getstate()[0])
        try:
            yield decoder.decode(block)
        except UnicodeError as error:
            raise _wrong_encoding(file, encoding, offset - pending + getattr(error, "start", 0)) from None
        offset += len(block)
    try:
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise _wrong_encoding(file, encoding, offset - len(decoder.getstate()[0])) from None


def _wrong_encoding(file: Path, encoding: str, offset: int) -> ValueError:
    return ValueError(
        f"{file} is not {encoding} at byte {offset:,}: name its encoding (corpus.encoding=latin-1, gb18030, …; "
        "--encoding to evaluate) or, if it is no text, learn it with corpus.unit=byte"
    )


def lines(pieces: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in pieces, the last one however it ends."""
    begun: list[str] = []  # what there is of a line, which may be as long as the text
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        if others:
            yield "".join(begun)
            yield from others[:-1]
            begun = others[-1:]
    yield "".join(begun)


def _numbers(text: str, unit: Unit) -> np.ndarray:
    """The symbols of a text: its characters, or the bytes of its UTF-8."""
    return code_points_of(text, "strict") if unit == "character" else code_points_of(text.encode())


def _json_text(file: Path, number: int, line: str) -> str:
    try:
        text = json.loads(line)["text"]
        text.encode()  # a lone surrogate is no character
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f'{file}, line {number}: expected a JSON object like {{"text": "…"}} on every line') from None
    return str(text)


def _known_encoding(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        codecs.getincrementaldecoder(name)
        "".encode(name)
    except (LookupError, TypeError):
        raise ValueError(f"corpus.encoding={encoding}: no such encoding; try utf-8, utf-16, latin-1, gb18030") from None
    return "utf-8" if name == "utf-8-sig" else name


class _Cleaner:
    """What happens to text between the file and the vocabulary."""

    def __init__(self, file: Path, unit: Unit, normalize_newlines: bool, normalize_unicode: bool) -> None:
        self.file, self.unit = file, unit
        self.newlines, self.unicode = normalize_newlines, normalize_unicode and unit == "character"

    def text(self, pieces: Iterable[str]) -> Article:
        """The symbols of text that comes in pieces, cleaned as if they were one."""
        if self.newlines:
            pieces = _with_lf(pieces)
        if self.unicode:
            pieces = _with_nfc(pieces)
        return self.numbers(_numbers(piece, self.unit) for piece in pieces)

    def raw(self, blocks: Iterable[bytes]) -> Article:
        """The same of bytes that are to be learned as they stand."""
        if self.newlines:
            blocks = (piece.encode("latin-1") for piece in _with_lf(block.decode("latin-1") for block in blocks))
        return self.numbers(map(code_points_of, blocks))

    def numbers(self, pieces: Iterable[np.ndarray]) -> Article:
        """The same of what needs no cleaning."""
        for numbers in pieces:
            if self.unit == "character" and len(numbers) and not numbers.min():
                raise ValueError(
                    f"{self.file} looks binary (it has NUL characters): to train on it, write corpus.unit=byte"
                )
            yield numbers


def _with_lf(pieces: Iterable[str]) -> Iterator[str]:
    """CRLF and CR become LF, also where a piece ends between them."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode("", final=True)


# Characters that never join the one before them: text may be cut in front of these.
_NFC_STARTER = re.compile("[\u0000-\u02ff\u3000-\u3029\u3400-\u9fff]")


def _with_nfc(pieces: Iterable[str]) -> Iterator[str]:
    """Unicode NFC; what could still join the next piece's first characters waits for it."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        cut = len(waiting) - 1
        while cut > 0 and not _NFC_STARTER.match(waiting, cut):
            cut -= 1
        if cut > 0:
            yield unicodedata.normalize("NFC", waiting[:cut])
            waiting = waiting[cut:]
    yield unicodedata.normalize("NFC", waiting)


# ------------------------------------------------------------------------------- encode and load


def _encoded(articles: Iterable[Article], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Ids piece by piece, a piece of `END_ID` alone between two articles; an empty article is none."""
    separator = np.array([END_ID], dtype=tokenizer.dtype)
    begun = False
    for article in articles:
        fresh = True
        for numbers in filter(len, article):
            if fresh and begun:
                yield separator
            fresh, begun = False, True
            yield tokenizer.encode_numbers(numbers)


def _encode(
    articles: Callable[[], Generator[Article, None, None]],
    home: Path,
    manifest: dict[str, Any],
    unit: Unit,
    min_count: int,
) -> None:
    """Reads the articles twice and writes the folder of an encoded corpus, its manifest last."""
    counts = np.zeros(NUM_CODE_POINTS, dtype=np.int64)
    with closing(articles()) as opened:
        for numbers in (piece for article in opened for piece in article):
            count(numbers, counts)
    if not counts.any():
        raise ValueError(f"the corpus {manifest['name']} is empty: give a text with characters in it")
    tokenizer = Tokenizer(map(chr, np.flatnonzero(counts >= max(min_count, 1))), unit)
    if not tokenizer.symbols:
        raise ValueError(f"corpus.min_count={min_count}: no character comes that often; the most common one comes "
                         f"{counts.max()} times")  # fmt: skip

    num_ids, num_articles = 0, 1
    with atomic_write(home / "ids.bin") as temporary, open(temporary, "wb") as stream, closing(articles()) as opened:
        for ids in _encoded(opened, tokenizer):
            stream.write(ids.data)
            num_ids += len(ids)
            num_articles += int(ids[0] == END_ID)  # which no text can spell
    with atomic_write(home / "tokenizer.json") as temporary:
        temporary.write_text(tokenizer.to_json(), encoding="utf-8")
    manifest = {**manifest, "dtype": tokenizer.dtype.name, "num_ids": num_ids, "num_articles": num_articles}
    with atomic_write(home / "manifest.json") as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")


def _load(home: Path, key: str) -> tuple[np.memmap, Tokenizer, int] | None:
    """The ids, tokenizer and number of articles of an encoded corpus; None where it is not whole."""
    try:
        manifest = json.loads((home / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_json((home / "tokenizer.json").read_text(encoding="utf-8"))
        dtype = tokenizer.dtype
        whole_ids = (home / "ids.bin").stat().st_size == manifest["num_ids"] * dtype.itemsize
        if manifest["key"] != key or manifest["dtype"] != dtype.name or not whole_ids:
            return None
        ids = np.memmap(home / "ids.bin", dtype=dtype, mode="r", shape=(manifest["num_ids"],))
        return ids, tokenizer, int(manifest["num_articles"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
