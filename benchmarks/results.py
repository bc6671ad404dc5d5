"""Runs every benchmark, one after the other, and writes RESULTS.md.

Each script runs in a process of its own. One that fails, or is not there, is named in its place; the
tables of the others are not lost.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measure import described, first_sentence, machine, taken

HERE = Path(__file__).resolve().parent
FIRST = ("bench_unroll.py", "bench_training.py")
"""Scripts in the order in which they are read; others follow by name."""


def section(script: Path, options: Sequence[str]) -> str:
    """Runs a script: its heading, the command that does it again, its table or why there is none."""
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
        result = json.loads(file.read_text(encoding="utf-8"))
    return f"## {heading}\n\n{command}, {taken(result)}\n\n{run.stdout.strip()}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=first_sentence(__doc__))
    parser.add_argument("--quick", action="store_true", help="passed to every script")
    options = ["--quick"] if parser.parse_args().quick else []
    found = machine()
    scripts = dict.fromkeys([*FIRST, *sorted(file.name for file in HERE.glob("bench_*.py"))])
    sections = [section(HERE / name, options) for name in scripts]
    how = "Quick runs: few points, few rounds. " if options else ""
    head = (
        "# Results\n\n"
        f"Written by `make bench{' ARGS=--quick' if options else ''}`. {how}Absolute times wander on a shared machine: "
        f"read ratios.\n\n{described(found)}."
    )
    (HERE / "RESULTS.md").write_text("\n\n".join([head, *sections]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
