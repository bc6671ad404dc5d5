"""From a warm text file to ids on one core: the speed of the whole way and of its parts, and the memory it takes.

`prepare` is the whole way: the digest of the file, the count of its symbols, their ids on the disk. The
parts are timed beside it; `count` and `encode` include reading and decoding, which stand alone as `read`.
A copy of the file, flushed as the ids are, is what the machine allows; `tokenizers` is that package, in
pieces.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from measure import Contender, interleaved, main, markdown, seconds_of

from chargen import native
from chargen.config import CorpusConfig
from chargen.corpus.code_points import NUM_CODE_POINTS, count_code_points
from chargen.corpus.encoded import load_corpus
from chargen.corpus.reader import BLOCK_SIZE, Cleaning, read_articles
from chargen.corpus.tokenizer import Tokenizer, Unit
from chargen.storage.atomic import atomic_write
from chargen.storage.checksum import sha256_of

LIBRARY_PIECE = 4096  # characters: one long string costs the library hundreds of bytes for each
SPARE_BYTES = 1 << 30  # room on the disk that is left alone
ON_REQUEST = "--encode-on-request"


def prose() -> str:
    """The Python language reference: ASCII, with a few other characters."""
    return "".join(topics[topic] for topic in sorted(topics))


def chinese() -> str:
    """5,000 ideographs as often as words are (Zipf), and a comma or a full stop behind every seven."""
    random = np.random.default_rng(1)
    often = 1 / np.arange(1, 5001)
    ideographs = random.choice(np.arange(0x4E00, 0x4E00 + 5000), size=(100_000, 7), p=often / often.sum())
    lines = np.concatenate([ideographs, np.resize([ord("，"), ord("。")], (len(ideographs), 1))], axis=1)
    return "".join(map(chr, lines.ravel()))


TEXTS: dict[str, tuple[Callable[[], str], Unit]] = {
    "prose": (prose, "character"),
    "ASCII alone": (lambda: prose().encode("ascii", "ignore").decode(), "character"),
    "Chinese": (chinese, "character"),
    "bytes of prose": (prose, "byte"),
}


def num_symbols(text: str, unit: Unit) -> int:
    return len(text) if unit == "character" else len(text.encode())


def write_text(file: Path, text: str, num_bytes: int) -> int:
    """Repeats a text until it has about so many bytes; how many times."""
    content = text.encode()
    times = -(-num_bytes // len(content))
    with open(file, "wb") as stream:
        for _ in range(times):
            stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return times


# ------------------------------------------------------------------------------- the whole way


def encode_on_request() -> None:
    """Encodes what each line of standard input says, and tells its peak memory in MB."""
    for line in sys.stdin:
        file, unit, folder = json.loads(line)
        load_corpus(CorpusConfig(name="text", path=file, unit=unit), Path(folder))
        print(peak_megabytes(), flush=True)


def peak_megabytes() -> float:
    """Of this process since it began, all that it holds; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


@contextmanager
def encoder(compiled: bool) -> Iterator[Callable[[Path, Unit, Path], float]]:
    """A process of its own that encodes a file into a folder, and gives its peak memory in MB."""
    environment = dict(os.environ) if compiled else {**os.environ, native.VARIABLE: native.OFF}
    with subprocess.Popen(
        [sys.executable, __file__, ON_REQUEST],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        requests, answers = child.stdin, child.stdout

        def encode(file: Path, unit: Unit, folder: Path) -> float:
            print(json.dumps([str(file), unit, str(folder)]), file=requests, flush=True)
            return float(answers.readline())

        yield encode
        requests.close()


# ------------------------------------------------------------------------------- its parts, and others


def parts(file: Path, unit: Unit, folder: Path) -> dict[str, Callable[[], object]]:
    """What the whole way is made of, and a copy of the file."""
    corpus = load_corpus(CorpusConfig(name="text", path=str(file), unit=unit), folder / "cache")
    some_ids, num_ids = np.array(corpus.ids[:BLOCK_SIZE]), len(corpus.ids)
    counts = np.zeros(NUM_CODE_POINTS, dtype=np.int64)

    def each_piece(use: Callable[[np.ndarray], object]) -> None:
        for article in read_articles(file, Cleaning(unit=unit)):
            for code_points in article:
                use(code_points)

    def write() -> None:
        with atomic_write(folder / "ids") as temporary, open(temporary, "wb") as stream:
            for begin in range(0, num_ids, len(some_ids)):
                stream.write(some_ids[: num_ids - begin].data)

    def copy() -> None:
        with atomic_write(folder / "copy") as temporary, open(file, "rb") as source, open(temporary, "wb") as stream:
            shutil.copyfileobj(source, stream, BLOCK_SIZE)

    return {
        "sha256": lambda: sha256_of(file),
        "read": lambda: each_piece(lambda code_points: None),
        "count": lambda: each_piece(lambda code_points: count_code_points(code_points, counts)),
        "encode": lambda: each_piece(corpus.tokenizer.encode_code_points),
        "write": write,
        "copy": copy,
    }


def by_library(text: str, unit: Unit) -> Callable[[], object]:
    """The same ids from the `tokenizers` package, in pieces."""
    library = Tokenizer(text if unit == "character" else map(chr, range(256)), unit).library
    pieces = [text[begin : begin + LIBRARY_PIECE] for begin in range(0, len(text), LIBRARY_PIECE)]
    return lambda: [np.array(library.encode(piece).ids) for piece in pieces]


# ------------------------------------------------------------------------------- all of it


def measure(quick: bool) -> dict[str, Any]:
    """Million symbols per second of every way for every text, and the peak memory for a long one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, for the children too
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    num_bytes, rounds, library_characters = (1 << 25, 3, 50_000) if quick else (1 << 27, 11, 500_000)
    texts = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, (make, unit) in TEXTS.items():
            text, file = make(), folder / "text.txt"
            symbols = num_symbols(text, unit) * write_text(file, text, num_bytes)
            some = text[:library_characters]
            rates = measure_text(file, unit, symbols, some, rounds, folder)
            texts[label] = {"unit": unit, "symbols": symbols, "million_symbols_per_second": rates}
        memory = measure_memory(folder, 200_000_000 if quick else 2_000_000_000)
    return {"rounds": rounds, "texts": texts, "memory": memory}


def measure_text(file: Path, unit: Unit, symbols: int, some: str, rounds: int, folder: Path) -> dict[str, float]:
    """Million symbols per second of every way; the library has `some` of the text alone."""
    home = folder / "encoded by a child"
    with encoder(compiled=True) as compiled, encoder(compiled=False) as plain:
        ways: dict[str, Contender] = {
            "prepare": lambda: compiled(file, unit, home),
            "by numpy": lambda: plain(file, unit, home),
            **parts(file, unit, folder),
            "tokenizers": by_library(some, unit),
        }
        seconds = interleaved(ways, rounds, between=lambda: shutil.rmtree(home, ignore_errors=True))
    shutil.rmtree(folder / "cache")
    done = dict.fromkeys(ways, symbols) | {"tokenizers": num_symbols(some, unit)}
    return {way: done[way] / seconds[way] / 1e6 for way in ways}


def measure_memory(folder: Path, num_bytes: int) -> dict[str, Any]:
    """The peak of a process that encodes next to nothing, and of one that encodes a long text."""
    needed, room = 2 * num_bytes + SPARE_BYTES, shutil.disk_usage(folder).free
    if room < needed:
        return {"skipped": f"Peak memory needs {needed / 1e9:.1f} GB of disk, and there are {room / 1e9:.1f} GB."}
    peaks: dict[str, Any] = {}
    for label, size in (("short", 1000), ("long", num_bytes)):
        file, home = folder / f"{label}.txt", folder / label
        write_text(file, prose(), size)
        with encoder(compiled=True) as encode:
            peak: list[float] = []
            seconds = seconds_of(lambda: peak.append(encode(file, "character", home)))  # noqa: B023  # called at once
        peaks[label] = {"bytes": file.stat().st_size, "seconds": seconds, "peak_megabytes": peak[0]}
        file.unlink()
        shutil.rmtree(home)
    return peaks


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    rates = {label: text["million_symbols_per_second"] for label, text in result["texts"].items()}
    ways = list(next(iter(rates.values())))
    rows = [
        [label, *(f"{rate[way]:,.{0 if rate[way] >= 10 else 2}f}" for way in ways)] for label, rate in rates.items()
    ]
    speed = f"Million symbols per second, one core, medians of {result['rounds']}:\n\n{markdown(['text', *ways], rows)}"
    memory = result["memory"]
    if "skipped" in memory:
        return f"{speed}\n\n{memory['skipped']}"
    peaks = [
        [f"{one['bytes'] / 1e6:,.1f} MB", f"{one['seconds']:.2f}", f"{one['peak_megabytes']:.0f}"]
        for one in memory.values()
    ]
    return (
        f"{speed}\n\nPeak memory of the process:\n\n{markdown(['text', 'seconds, with its start', 'peak MB'], peaks)}"
    )


if __name__ == "__main__":
    if sys.argv[1:] == [ON_REQUEST]:
        encode_on_request()
    else:
        main(measure, table)
