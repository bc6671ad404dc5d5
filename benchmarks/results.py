"""Run the benchmarks one after the other and write RESULTS.md: the part on speed, or one of the long parts.

Each script runs in its own process. If a script fails or is missing, its section says so, and the sections of the other
scripts are kept. The part on speed begins with a short table, which the README shows too. A long part takes from twenty
minutes to an hour. Each call replaces one part of RESULTS.md and keeps the others.
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

from measure import format_duration_and_load, format_machine, heading_from, machine_info, markdown_table

FOLDER = Path(__file__).resolve().parent
FIRST_SCRIPTS = ("bench_unroll.py", "bench_training.py")
"""Scripts whose sections come first, in this order. The others follow in alphabetical order."""

LONG_PARTS = {
    "Quality": "bench_quality.py",
    "Other texts": "bench_texts.py",
    "An hour": "bench_hour.py",
    "Beginnings": "bench_beginnings.py",
    "A second text": "bench_init.py",
    "Precision": "bench_precision.py",
}
"""The script of each long part by its name."""

TARGETS = {name: name.split()[-1].lower() for name in LONG_PARTS} | {"A second text": "second"}
"""What is written after `make` to run the script of a long part."""

INTRODUCTION = (
    "# Results\n\n`make bench` writes the part on speed, `make quality` the part on quality, `make texts` the part on "
    "other texts, `make hour` the part on a run of one hour, `make beginnings` the part on how samples begin, "
    "`make second` the part on a second text, and `make precision` the part on bf16. All figures are measured."
)


def section(script: Path, options: Sequence[str], results: dict[str, Any]) -> str:
    """Run a script and format its section: a heading, the command, and the table or the reason why there is none.

    Args:
        script: the file of the script.
        options: command line options for it.
        results: the measurements are stored here under the script's name without suffix.
    """
    command = f"`python benchmarks/{' '.join([script.name, *options])}`"
    if not script.is_file():
        return f"## {script.name}\n\nThere is no such script."
    heading = heading_from(ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))))
    print(f"{script.name} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        run = subprocess.run(
            [sys.executable, str(script), *options, "--json", str(file)], capture_output=True, encoding="utf-8"
        )
        print(run.stderr, file=sys.stderr, flush=True)
        if run.returncode:
            reason = (run.stderr.strip().splitlines() or ["no error message"])[-1].replace(f"{FOLDER.parent}/", "")
            return f"## {heading}\n\n{command} failed with exit code {run.returncode}: `{reason}`"
        result = results[script.stem] = json.loads(file.read_text(encoding="utf-8"))
    return f"## {heading}\n\n{command}, {format_duration_and_load(result)}\n\n{run.stdout.strip()}"


def speed_summary(results: Mapping[str, Any]) -> str:
    """Format the short table of the part on speed from the scripts that succeeded."""
    rows: list[tuple[str, str, str, str]] = []

    def add_row(task: str, ours: float, other: str, theirs: float) -> None:
        rows.append((task, _three_digits(ours), f"{other} {_three_digits(theirs)}", f"{ours / theirs:.1f} x"))

    if training := results.get("bench_training"):
        for cell, layer in (("gru", "nn.GRU"), ("lstm", "nn.LSTM")):
            speeds = training["cells"][cell]["chars_per_second"]
            add_row(
                f"training, {cell} 256", speeds["chargen train"], f"bare loop over `{layer}`", speeds["torch.nn loop"]
            )
        speeds = training["cells"]["gru"]["chars_per_second"]
        add_row("training, gru 256", speeds["chargen train"], "GPT of 0.8 M", speeds["baby GPT"])
    if sampling := results.get("bench_sampling"):
        (speeds,) = (p["speeds"] for p in sampling["points"] if (p["cell"], p["hidden_size"]) == ("lstm", 256))
        if "float32" in speeds:
            add_row("sampling, lstm 256, one core", speeds["float32"], "loop over `nn.LSTM`", speeds["torch loop"])
            add_row("sampling in int8, lstm 256, one core", speeds["int8"], "loop over `nn.LSTM`", speeds["torch loop"])
            many = speeds["float32, 64 streams"]
            add_row("sampling 64 streams, lstm 256, one core", many, "loop over `nn.LSTM`", speeds["torch loop"])
            if training:
                add_row("sampling, lstm 256", speeds["float32"], "GPT of 0.8 M", training["baby_gpt_sampling"])
    if encoding := results.get("bench_encoding"):
        for text in ("ASCII only", "Chinese"):
            speeds = encoding["texts"][text]["million_symbols_per_second"]
            add_row(
                f"encoding a file to ids, {text}",
                1e6 * speeds["load_corpus"],
                "`tokenizers`",
                1e6 * speeds["tokenizers"],
            )
    return markdown_table(("characters/s", "chargen", "compared with", "ratio"), rows)


def _three_digits(number: float) -> str:
    """Format a number with three significant digits and a unit prefix."""
    for size, prefix in ((1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{float(f'{number / size:.3g}'):g}{prefix}"
    return f"{number:.3g}"


def speed_part(options: Sequence[str]) -> str:
    """Run the scripts on speed and format their part: the machine, the short table, one section for each script."""
    info = machine_info()
    names = sorted(file.name for file in FOLDER.glob("bench_*.py") if file.name not in LONG_PARTS.values())
    results: dict[str, Any] = {}
    sections = [section(FOLDER / name, options, results) for name in dict.fromkeys([*FIRST_SCRIPTS, *names])]
    note = "A quick run measures few points in few rounds. " if options else ""
    head = (
        f"# Speed\n\nWritten by `make bench{' ARGS=--quick' if options else ''}`. {note}Absolute times vary on a "
        f"shared machine; compare ratios.\n\n{format_machine(info)}."
    )
    return "\n\n".join([head, speed_summary(results), *sections])


def long_part(name: str, options: Sequence[str]) -> str:
    """Run the script of a long part and format the part."""
    command = f"make {TARGETS[name]}{' ARGS=--quick' if options else ''}"
    head = f"# {name}\n\nWritten by `{command}`.\n\n{format_machine(machine_info())}."
    return f"{head}\n\n{section(FOLDER / LONG_PARTS[name], options, {})}"


def split_parts(text: str) -> dict[str, str]:
    """Return the parts of RESULTS.md by their headings, which begin with a single #."""
    parts = {}
    for part in ("\n" + text).split("\n# ")[1:]:
        name = part.split("\n", 1)[0]
        parts[name] = f"# {part.strip()}"
    return parts


def main() -> None:
    """Parse the command line, run the scripts and write RESULTS.md."""
    parser = argparse.ArgumentParser(description=heading_from(__doc__))
    parser.add_argument("--quick", action="store_true", help="pass --quick to every script")
    parser.add_argument("--long", choices=LONG_PARTS, help="run only the script of this part")
    arguments = parser.parse_args()
    options = ["--quick"] if arguments.quick else []
    file = FOLDER / "RESULTS.md"
    parts = split_parts(file.read_text(encoding="utf-8")) if file.exists() else {}
    if arguments.long:
        parts[arguments.long] = long_part(arguments.long, options)
    else:
        parts["Speed"] = speed_part(options)
    texts = [parts[name] for name in ("Speed", *LONG_PARTS) if name in parts]
    file.write_text("\n\n".join([INTRODUCTION, *texts]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
