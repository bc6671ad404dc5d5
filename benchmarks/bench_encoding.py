"""Encoding a cached text file to ids on one core: speed of `load_corpus` and of its steps, and peak memory.

- `load_corpus`: the whole function, which computes the digest of the file, counts its symbols, encodes them and writes
  the ids to disk.
- `without kernels`: the same function without compiled kernels, which then uses numpy.
- `sha256`, `read`, `count`, `encode`, `write`: its steps. `read` reads and decodes the file; `count` and `encode`
  include `read`.
- `copy`: a copy of the file, flushed to disk like the ids. It shows what the disk allows.
- `tokenizers`: the `tokenizers` package, which encodes the text in pieces.

Dimensions: N symbols of a text: characters, or bytes in the byte unit.
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
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
from measure import Contender, main, markdown_table, time_call, time_interleaved

from chargen import native
from chargen.config import CorpusConfig
from chargen.corpus.code_points import NUM_CODE_POINTS, count_code_points
from chargen.corpus.encoded import load_corpus
from chargen.corpus.reader import BLOCK_SIZE, Cleaning, read_articles
from chargen.corpus.tokenizer import Tokenizer, Unit
from chargen.storage.atomic import atomic_write
from chargen.storage.checksum import sha256_of

LIBRARY_PIECE = 4096  # characters; for one long string, `tokenizers` needs hundreds of bytes of memory per character
SPARE_BYTES = 1 << 30  # disk space that must stay free
ON_REQUEST = "--encode-on-request"


def prose() -> str:
    """Return the Python language reference: ASCII text with a few other characters."""
    return "".join(topics[topic] for topic in sorted(topics))


def chinese() -> str:
    """Return random text of 5,000 ideographs with Zipf's distribution, with punctuation after every seventh one."""
    rng = np.random.default_rng(1)
    frequencies = 1 / np.arange(1, 5001)
    p = frequencies / frequencies.sum()
    ideographs = rng.choice(np.arange(0x4E00, 0x4E00 + 5000), size=(100_000, 7), p=p)
    lines = np.concatenate([ideographs, np.resize([ord("，"), ord("。")], (len(ideographs), 1))], axis=1)
    return "".join(map(chr, lines.ravel()))


TEXTS: dict[str, tuple[Callable[[], str], Unit]] = {
    "prose": (prose, "character"),
    "ASCII only": (lambda: prose().encode("ascii", "ignore").decode(), "character"),
    "Chinese": (chinese, "character"),
    "bytes of prose": (prose, "byte"),
}


def num_symbols(text: str, unit: Unit) -> int:
    """Return the number of characters or bytes of a text."""
    return len(text) if unit == "character" else len(text.encode())


def write_text(file: Path, text: str, num_bytes: int) -> int:
    """Write a text to a file repeatedly until it has at least `num_bytes` bytes. Return the number of repetitions."""
    content = text.encode()
    num_repetitions = -(-num_bytes // len(content))
    with open(file, "wb") as stream:
        for _ in range(num_repetitions):
            stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return num_repetitions


# ------------------------------------------------------------------------------- load_corpus


def encode_on_request() -> None:
    """Encode the file named by each line of standard input, and print the peak memory of this process in MB."""
    for line in sys.stdin:
        file, unit, folder = json.loads(line)
        load_corpus(CorpusConfig(name="text", path=file, unit=unit), Path(folder))
        print(process_peak_megabytes(), flush=True)


def process_peak_megabytes() -> float:
    """Return the peak memory of this process since its start in MB; NaN if the system does not report it."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


@contextmanager
def encoder(compiled: bool) -> Iterator[Callable[[Path, Unit, Path], float]]:
    """Start a process that encodes files.

    Args:
        compiled: whether the process uses the compiled kernels.

    Yields:
        A function that takes a file, its unit and a folder for the ids, encodes the file in the process, and returns
        the peak memory of the process in MB.
    """
    environment = dict(os.environ) if compiled else {**os.environ, native.VARIABLE: native.OFF}
    with subprocess.Popen(
        [sys.executable, __file__, ON_REQUEST],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        requests, replies = child.stdin, child.stdout

        def encode(file: Path, unit: Unit, folder: Path) -> float:
            print(json.dumps([str(file), unit, str(folder)]), file=requests, flush=True)
            return float(replies.readline())

        yield encode
        requests.close()


# ------------------------------------------------------------------------------- steps, copy, tokenizers


def steps_and_copy(file: Path, unit: Unit, folder: Path) -> dict[str, Callable[[], object]]:
    """Return functions that run the steps of `load_corpus` one by one, and one that copies the file."""
    corpus = load_corpus(CorpusConfig(name="text", path=str(file), unit=unit), folder / "cache")
    first_ids, num_ids = np.array(corpus.ids[:BLOCK_SIZE]), len(corpus.ids)
    counts = np.zeros(NUM_CODE_POINTS, dtype=np.int64)

    def each_piece(use: Callable[[np.ndarray], object]) -> None:
        for article in read_articles(file, Cleaning(unit=unit)):
            for code_points in article:
                use(code_points)

    def write() -> None:
        with atomic_write(folder / "ids") as temporary, open(temporary, "wb") as stream:
            for begin in range(0, num_ids, len(first_ids)):
                stream.write(first_ids[: num_ids - begin].data)

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


def encode_with_tokenizers(text: str, unit: Unit) -> Callable[[], object]:
    """Return a function that computes the same ids with the `tokenizers` package, in pieces."""
    library = Tokenizer(text if unit == "character" else map(chr, range(256)), unit).library
    pieces = [text[begin : begin + LIBRARY_PIECE] for begin in range(0, len(text), LIBRARY_PIECE)]
    return lambda: [np.array(library.encode(piece).ids) for piece in pieces]


# ------------------------------------------------------------------------------- measuring


def measure(quick: bool) -> dict[str, Any]:
    """Measure the speed of every method on every text, and the peak memory for a short and a long text."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, inherited by child processes
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    num_bytes, rounds, library_characters = (1 << 25, 3, 50_000) if quick else (1 << 27, 11, 500_000)
    texts = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, (make, unit) in TEXTS.items():
            text, file = make(), folder / "text.txt"
            symbols = num_symbols(text, unit) * write_text(file, text, num_bytes)
            start = text[:library_characters]
            rates = measure_text(file, unit, folder, num_all=symbols, start=start, rounds=rounds)
            texts[label] = {"unit": unit, "symbols": symbols, "million_symbols_per_second": rates}
        memory = measure_memory(folder, 200_000_000 if quick else 2_000_000_000)
    return {"rounds": rounds, "texts": texts, "memory": memory}


def measure_text(file: Path, unit: Unit, folder: Path, *, num_all: int, start: str, rounds: int) -> dict[str, float]:
    """Measure the speed of every method on one text.

    Args:
        file: the text.
        unit: what a symbol is.
        folder: a folder for ids and copies.
        num_all: the number of symbols in the file.
        start: the beginning of the text, which is all that the slow `tokenizers` package encodes.
        rounds: the number of timed calls of each method.

    Returns:
        Million symbols per second by method.
    """
    data_dir = folder / "data"
    with encoder(compiled=True) as encode_compiled, encoder(compiled=False) as encode_numpy:
        methods: dict[str, Contender] = {
            "load_corpus": lambda: encode_compiled(file, unit, data_dir),
            "without kernels": lambda: encode_numpy(file, unit, data_dir),
            **steps_and_copy(file, unit, folder),
            "tokenizers": encode_with_tokenizers(start, unit),
        }
        remove_ids = partial(shutil.rmtree, data_dir, ignore_errors=True)
        seconds = time_interleaved(methods, rounds, before_each=remove_ids)
    shutil.rmtree(folder / "cache")
    symbols = dict.fromkeys(methods, num_all) | {"tokenizers": num_symbols(start, unit)}
    return {method: symbols[method] / seconds[method] / 1e6 for method in methods}


def measure_memory(folder: Path, num_bytes: int) -> dict[str, Any]:
    """Measure the peak memory of a process that encodes a short text, and of one that encodes a long text."""
    needed, free = 2 * num_bytes + SPARE_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        sizes = f"it needs {needed / 1e9:.1f} GB of disk space, and {free / 1e9:.1f} GB are free"
        return {"skipped": f"Peak memory was not measured: {sizes}."}
    peaks: dict[str, Any] = {}
    for label, size in (("short", 1000), ("long", num_bytes)):
        file, data_dir = folder / f"{label}.txt", folder / label
        write_text(file, prose(), size)
        with encoder(compiled=True) as encode:
            peak: list[float] = []
            seconds = time_call(lambda: peak.append(encode(file, "character", data_dir)))  # noqa: B023  # called here
        peaks[label] = {"bytes": file.stat().st_size, "seconds": seconds, "peak_megabytes": peak[0]}
        file.unlink()
        shutil.rmtree(data_dir)
    return peaks


def table(result: dict[str, Any]) -> str:
    """Format the speeds, then the peak memory."""
    rates = {label: text["million_symbols_per_second"] for label, text in result["texts"].items()}
    methods = list(next(iter(rates.values())))
    rows = [
        [label, *(f"{rate[method]:,.{0 if rate[method] >= 10 else 2}f}" for method in methods)]
        for label, rate in rates.items()
    ]
    speed = (
        f"Million symbols per second, one core, medians of {result['rounds']}. `count` and `encode` include `read`; "
        f"`copy` copies the file:\n\n{markdown_table(['text', *methods], rows)}"
    )
    memory = result["memory"]
    if "skipped" in memory:
        return f"{speed}\n\n{memory['skipped']}"
    peaks = [
        [f"{one['bytes'] / 1e6:,.1f} MB", f"{one['seconds']:.2f}", f"{one['peak_megabytes']:.0f}"]
        for one in memory.values()
    ]
    headings = ("size of the text", "seconds, including the start of the process", "peak memory, MB")
    return f"{speed}\n\nPeak memory of a process that encodes a text:\n\n{markdown_table(headings, peaks)}"


if __name__ == "__main__":
    if sys.argv[1:] == [ON_REQUEST]:
        encode_on_request()
    else:
        main(measure, table)
