"""Looks a text over before anything is trained on it: what is in it, what is odd about it, what sizes fit it.

A text is read twice, in pieces, the way training reads it. Memory does not grow with it, but for a digest of each
article and each long line, by which repetitions are noticed.
"""

from __future__ import annotations

import codecs
import hashlib
import math
import os
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chargen.corpus.code_points import NUM_CODE_POINTS, count
from chargen.corpus.encoded import Advance, read_articles
from chargen.corpus.encoded import lines as lines_of

if TYPE_CHECKING:
    from chargen.nn.model import ModelConfig

RARE = 5
"""A symbol that comes less often is rare: too seldom to be learned."""

LONG_LINE = 40
"""Characters from which on a line that comes again counts as a repetition."""

GUESSED_FROM = 1 << 18
"""Bytes of a file that an encoding is guessed from, where it is not what it was said to be."""

_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Rare(NamedTuple):
    """A symbol that comes seldom, and where it comes first.

    Attributes:
        symbol: the character.
        times: how often it comes.
        file: where it comes first,
        line: from 1; in `.jsonl`, of the article's text,
        column: from 1.
    """

    symbol: str
    times: int
    file: Path
    line: int
    column: int

    @property
    def name(self) -> str:
        """What Unicode calls it."""
        return unicodedata.name(self.symbol, "a control character")


@dataclass
class TextProfile:
    """What a text is like.

    Attributes:
        files: that were read.
        num_bytes: in them, as stored.
        byte_order_marks: how many of the files begin with one.
        counts: (NUM_CODE_POINTS,) how often each symbol comes.
        line_ends: how many lines end with LF, CRLF and CR.
        longest_line: characters.
        not_normalized: whether Unicode NFC would change it.
        article_lengths: characters of each article that has any.
        repeated_articles: how many are the same as one before.
        long_lines: of `LONG_LINE` characters and more.
        repeated_lines: how many of them are the same as one before.
        rare: the symbols that come less than `RARE` times, the rarest first.
    """

    files: Sequence[Path]
    num_bytes: int = 0
    byte_order_marks: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(NUM_CODE_POINTS, np.int64))
    line_ends: Counter[str] = field(default_factory=Counter)
    longest_line: int = 0
    not_normalized: bool = False
    article_lengths: list[int] = field(default_factory=list)
    repeated_articles: int = 0
    long_lines: int = 0
    repeated_lines: int = 0
    rare: list[Rare] = field(default_factory=list)

    @property
    def characters(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    @property
    def symbols(self) -> int:
        """How many different ones there are."""
        return int(np.count_nonzero(self.counts))


def profile_text(files: Sequence[Path], encoding: str = "utf-8", advance: Advance = lambda _: None) -> TextProfile:
    """Reads a text and says what it is like.

    Args:
        files: of it.
        encoding: of the files.
        advance: told of the bytes that were read; twice those of the files in all.

    Raises:
        ValueError: a file cannot be read so; the message names an encoding that would do.
    """
    found = TextProfile(files)
    articles: set[bytes] = set()
    lines: set[bytes] = set()
    for file in files:
        try:
            _look_at(file, encoding, found, articles, lines, advance)
        except ValueError as error:
            guess = _encoding_of(file, encoding)
            raise ValueError(f"{error}{f'; it reads as {guess}: corpus.encoding={guess}' if guess else ''}") from None
    places = _places(files, encoding, np.flatnonzero((found.counts > 0) & (found.counts < RARE)), advance)
    found.rare = sorted((Rare(symbol, int(found.counts[ord(symbol)]), *place) for symbol, place in places.items()),
                        key=lambda rare: rare.times)  # fmt: skip
    return found


def _look_at(
    file: Path, encoding: str, found: TextProfile, articles: set[bytes], lines: set[bytes], advance: Advance
) -> None:
    found.num_bytes += file.stat().st_size
    with open(file, "rb") as stream:
        found.byte_order_marks += stream.read(3).startswith(_MARKS)
    for pieces in _articles(file, encoding, advance):
        digest, line = hashlib.blake2b(digest_size=16), ""
        found.article_lengths.append(0)
        for number, following in enumerate(lines_of(_counted(pieces, digest, found))):
            if number:
                _count_line(line, "\n", found, lines)
            line = following
        if line:
            _count_line(line, "", found, lines)
        if not found.article_lengths[-1]:
            found.article_lengths.pop()
            continue
        found.repeated_articles += digest.digest() in articles
        articles.add(digest.digest())


def _counted(pieces: Iterator[np.ndarray], digest: Any, found: TextProfile) -> Iterator[str]:
    """The text of the article that was begun last, counted."""
    for numbers in pieces:
        found.article_lengths[-1] += len(numbers)
        count(numbers, found.counts)
        text = _text(numbers)
        digest.update(text.encode("utf-32-le"))
        found.not_normalized |= not unicodedata.is_normalized("NFC", text)
        yield text


def _count_line(line: str, end: str, found: TextProfile, lines: set[bytes]) -> None:
    """One line up to LF; a CR in it ends a line too."""
    if line.endswith("\r") and end:
        line, end = line[:-1], "\r\n"
    *olds, line = line.split("\r")
    for text, its_end in (*((old, "\r") for old in olds), (line, end)):
        if its_end:
            found.line_ends[{"\n": "LF", "\r\n": "CRLF", "\r": "CR"}[its_end]] += 1
        found.longest_line = max(found.longest_line, len(text))
        if len(text) >= LONG_LINE:
            digest = hashlib.blake2b(text.encode("utf-32-le"), digest_size=8).digest()
            found.long_lines += 1
            found.repeated_lines += digest in lines
            lines.add(digest)


def _places(
    files: Sequence[Path], encoding: str, wanted: np.ndarray, advance: Advance
) -> dict[str, tuple[Path, int, int]]:
    """Where some symbols come first: file, line and column."""
    places: dict[str, tuple[Path, int, int]] = {}
    missing = np.zeros(NUM_CODE_POINTS, bool)
    missing[wanted] = True
    for file in files:
        for pieces in _articles(file, encoding, advance):
            line, column = 1, 1  # of the piece's first character
            for numbers in pieces:
                numbers = numbers.astype(np.int64)
                ends = np.flatnonzero(numbers == ord("\n"))
                for at in np.flatnonzero(missing[numbers]):
                    if missing[numbers[at]]:
                        missing[numbers[at]] = False
                        before = int(np.searchsorted(ends, at))
                        in_line = int(at - ends[before - 1]) if before else int(at) + column
                        places[chr(numbers[at])] = (file, line + before, in_line)
                if len(ends):
                    line, column = line + len(ends), int(len(numbers) - ends[-1])
                else:
                    column += len(numbers)
    return places


def _articles(file: Path, encoding: str, advance: Advance) -> Iterator[Iterator[np.ndarray]]:
    with closing(read_articles(file, encoding, "character", False, False, advance)) as articles:
        yield from (iter(article) for article in articles)


def _text(numbers: np.ndarray) -> str:
    return numbers.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _encoding_of(file: Path, but: str) -> str | None:
    """What a file is probably written in, if not in `but`; None where nobody can say."""
    from charset_normalizer import from_bytes

    with open(file, "rb") as stream:
        guess = from_bytes(stream.read(GUESSED_FROM)).best()
    return guess.encoding if guess is not None and guess.encoding != codecs.lookup(but).name.replace("-", "_") else None


# ------------------------------------------------------------------------------- sizes


class Size(NamedTuple):
    """What a model of some size would cost on this machine.

    Attributes:
        parameters: counted for the text's own symbols.
        megabytes: that training needs, for weights, gradients, the optimizer's means and one window.
        chars_per_second: of training, measured for a moment.
    """

    parameters: int
    megabytes: float
    chars_per_second: float


def parameters_of(settings: dict[str, Any], vocab_size: int) -> int:
    """How many a model has, without building it. `settings` are those of conf/model."""
    import torch

    from chargen.nn.model import CharRNN

    with torch.device("meta"):
        return sum(p.numel() for p in CharRNN(_settings(settings, vocab_size)).parameters())


def megabytes_of(
    parameters: int, settings: dict[str, Any], vocab_size: int, batch_size: int, sequence_length: int
) -> float:
    """What training needs, for weights, gradients, the optimizer's means and one window; as `size_of` takes them."""
    window = batch_size * sequence_length * (settings["num_layers"] * settings["hidden_size"] * 8 + vocab_size)
    return float(4e-6 * (4 * parameters + window))


def machine_megabytes() -> float:
    """The memory of this machine; without end where it does not say."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return math.inf
    return 1e-6 * size if size > 0 else math.inf


def _settings(settings: dict[str, Any], vocab_size: int) -> ModelConfig:
    from chargen.nn.model import ModelConfig

    return ModelConfig(vocab_size, **{**settings, "weight_dropout": settings.get("weight_dropout") or 0.0})


def size_of(settings: dict[str, Any], vocab_size: int, batch_size: int, sequence_length: int) -> Size:
    """Builds a model, lets it learn from noise for a moment, and says what it costs.

    Args:
        settings: of the model, as in conf/model.
        vocab_size: V.
        batch_size: B.
        sequence_length: T.
    """
    import torch

    from chargen.nn.model import CharRNN

    model = CharRNN(_settings(settings, vocab_size))
    ids = torch.randint(vocab_size, (batch_size, sequence_length + 1))
    steps, seconds = 0, 0.0
    while steps < 3 or seconds < 0.3:
        began = time.perf_counter()
        nats, _ = model.nats(ids[:, :-1], ids[:, 1:])
        torch.autograd.grad(nats, list(model.parameters()))
        steps, seconds = steps + 1, seconds + (time.perf_counter() - began if steps else 0.0)  # the first one warms up
    parameters = sum(p.numel() for p in model.parameters())
    megabytes = megabytes_of(parameters, settings, vocab_size, batch_size, sequence_length)
    return Size(parameters, megabytes, (steps - 1) * batch_size * sequence_length / seconds)
