"""Runs benchmarks, one after the other, and writes RESULTS.md: all of speed, or a long one.

Each script runs in a process of its own. One that fails, or is not there, is named in its place; the
tables of the others are not lost. The table in short, which stands first, is the one of the README.
The long ones take from twenty minutes to an hour; each command leaves the other parts as they were.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import described, first_sentence, machine, markdown, taken

HERE = Path(__file__).resolve().parent
FIRST = ("bench_unroll.py", "bench_training.py")
"""Scripts in the order in which they are read; others follow by name."""

LONG = {"Quality": "bench_quality.py", "Other texts": "bench_texts.py", "An hour": "bench_hour.py"}
"""Parts of one script each, with commands of their own."""

HEAD = (
    "# Results\n\nMeasured, not promised: `make bench` writes the part on speed, `make quality` the one on quality, "
    "`make texts` the one on other texts, `make hour` the last."
)


def section(script: Path, options: Sequence[str], results: dict[str, Any]) -> str:
    """Runs a script: its heading, the command that does it again, its table or why there is none.

    What it measured goes into `results` under its name.
    """
    command = f"`python benchmarks/{' '.join([script.name, *options])}`"
    if not script.is_file():
        return f"## {script.name}\n\nThere is no such script."
    heading = first_sentence(ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))))
    print(f"{script.name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        run = subprocess.run(
            [sys.executable, str(script), *options, "--json", str(file)], capture_output=True, encoding="utf-8"
        )
        print(run.stderr, file=sys.stderr, flush=True)
        if run.returncode:
            reason = (run.stderr.strip().splitlines() or ["it said nothing"])[-1].replace(f"{HERE.parent}/", "")
            return f"## {heading}\n\n{command} failed with exit code {run.returncode}: `{reason}`"
        result = results[script.stem] = json.loads(file.read_text(encoding="utf-8"))
    return f"## {heading}\n\n{command}, {taken(result)}\n\n{run.stdout.strip()}"


def in_short(results: Mapping[str, Any]) -> str:
    """What a reader wants to know first, of the scripts that ran."""
    rows: list[tuple[str, str, str, str]] = []

    def row(what: str, ours: float, other: str, theirs: float) -> None:
        rows.append((what, _rounded(ours), f"{other} {_rounded(theirs)}", f"{ours / theirs:.1f} x"))

    if training := results.get("bench_training"):
        for cell, name in (("gru", "nn.GRU"), ("lstm", "nn.LSTM")):
            speeds = training["cells"][cell]["chars_per_second"]
            row(f"training, {cell} 256", speeds["chargen train"], f"bare loop over `{name}`", speeds["torch.nn loop"])
        speeds = training["cells"]["gru"]["chars_per_second"]
        row("training, gru 256", speeds["chargen train"], "GPT of 0.8 M", speeds["baby GPT"])
    if sampling := results.get("bench_sampling"):
        (speeds,) = (p["speeds"] for p in sampling["points"] if (p["cell"], p["hidden"]) == ("lstm", 256))
        if "float32" in speeds:
            row("sampling, lstm 256, one core", speeds["float32"], "loop over `nn.LSTM`", speeds["torch loop"])
            row("the same in bytes", speeds["int8"], "loop over `nn.LSTM`", speeds["torch loop"])
            many = speeds["float32, 64 streams"]
            row("64 samples side by side", many, "loop over `nn.LSTM`", speeds["torch loop"])
        if training:
            row("sampling, lstm 256", speeds["float32"], "GPT of 0.8 M", training["baby_gpt_sampling"])
    if encoding := results.get("bench_encoding"):
        for text in ("ASCII alone", "Chinese"):
            speeds = encoding["texts"][text]["million_symbols_per_second"]
            row(f"file to ids, {text}", 1e6 * speeds["prepare"], "`tokenizers`", 1e6 * speeds["tokenizers"])
    return markdown(("characters/s", "chargen", "beside it", ""), rows)


def _rounded(number: float) -> str:
    """Three digits, for a person."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{float(f'{number / size:.3g}'):g}{letter}"
    return f"{number:.3g}"


def speed(options: Sequence[str]) -> str:
    """The part on speed: the machine, the table in short, a section for each script."""
    found = machine()
    names = sorted(file.name for file in HERE.glob("bench_*.py") if file.name not in LONG.values())
    results: dict[str, Any] = {}
    sections = [section(HERE / name, options, results) for name in dict.fromkeys([*FIRST, *names])]
    how = "Quick runs: few points, few rounds. " if options else ""
    head = (
        f"# Speed\n\nWritten by `make bench{' ARGS=--quick' if options else ''}`. {how}Absolute times wander on a "
        f"shared machine: read ratios.\n\n{described(found)}."
    )
    return "\n\n".join([head, in_short(results), *sections])


def long(part: str, options: Sequence[str]) -> str:
    """A part of one script."""
    command = f"make {part.split()[-1].lower()}{' ARGS=--quick' if options else ''}"
    head = f"# {part}\n\nWritten by `{command}`.\n\n{described(machine())}."
    return f"{head}\n\n{section(HERE / LONG[part], options, {})}"


def parts(text: str) -> dict[str, str]:
    """What stands in the file, by the words behind a single #."""
    found = {}
    for part in ("\n" + text).split("\n# ")[1:]:
        name = part.split("\n", 1)[0]
        found[name] = f"# {part.strip()}"
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=first_sentence(__doc__))
    parser.add_argument("--quick", action="store_true", help="passed to every script")
    parser.add_argument("--long", choices=LONG, help="run the script of this part, and nothing else")
    given = parser.parse_args()
    options = ["--quick"] if given.quick else []
    file = HERE / "RESULTS.md"
    there = parts(file.read_text(encoding="utf-8")) if file.exists() else {}
    if given.long:
        there[given.long] = long(given.long, options)
    else:
        there["Speed"] = speed(options)
    texts = [there[name] for name in ("Speed", *LONG) if name in there]
    file.write_text("\n\n".join([HEAD, *texts]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
