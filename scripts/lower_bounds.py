"""Try chargen with the lowest versions that pyproject.toml allows, all installed together.

    make lower-bounds                        # ARGS="--python python3.10" for another Python

A requirement `name>=1.2` is installed as `name==1.2`, the build requirements and all extras included. torch keeps the
version of constraints.txt, because each of its versions is a download of gigabytes. The script builds a copy of the
source tree in a new environment, and then runs every command and the quick tests there. It needs the network, so it
is not one of the tests.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PINNED = ("torch",)
"""Packages that keep the version of constraints.txt."""

COMMANDS = (
    "chargen --help",
    "chargen train --help",
    "chargen info",
    "chargen doctor t.txt",
    "chargen train t.txt model=tiny trainer.max_steps=20 run_dir=r",
    "chargen train resume=r trainer.max_steps=30",
    "chargen train t.txt model=tiny trainer.max_time=00:00:00:05",
    "chargen train t.txt model=tiny trainer.max_steps=3 run_dir=tensorboard logger=tensorboard",
    "chargen train t.txt model=tiny trainer.max_steps=3 run_dir=wandb logger=wandb",
    "chargen train t.txt model=tiny trainer.max_steps=3 run_dir=mlflow logger=mlflow",
    "chargen train -m t.txt model=tiny trainer.max_steps=3 seed=1,2",
    "chargen sample r --length 50 --seed 1 --novelty --unknown skip --precision int8",
    "chargen sample r/last.ckpt --length 50",
    "chargen evaluate r --dynamic --baselines",
    "chargen plot r",
    'python -c \'import chargen; print(chargen.load("r").generate("a", max_length=9))\'',
)
"""What a user may type, in the order in which it works."""

CHECKS = (
    "ruff check src tests benchmarks scripts setup.py",
    # Packages of different years warn each other of what will be removed.
    "pytest -n 2 -p no:cacheprovider -m 'not slow and not gpu and not starts' -W ignore::DeprecationWarning",
)
"""What is run in the copy of the source tree; mypy is not, because it needs the types of numpy 2."""


def lowest_versions() -> Iterator[str]:
    """Yield a requirement of the lowest version for each one in pyproject.toml."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    texts = [*pyproject["build-system"]["requires"], *project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        texts += extra
    pins = {pin.name: pin for pin in map(Requirement, _lines(ROOT / "constraints.txt"))}
    for requirement in map(Requirement, texts):
        if requirement.name in PINNED:
            yield f"{requirement.name}{pins[requirement.name].specifier}"
            continue
        lowest = [Version(bound.version) for bound in requirement.specifier if bound.operator in (">=", "==")]
        marker = f" ; {requirement.marker}" if requirement.marker else ""
        yield f"{requirement.name}{f'=={max(lowest)}' if lowest else ''}{marker}"


def main() -> None:
    """Install the lowest versions and try chargen with them; exit with 1 if something fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="the Python to try")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work in this new folder, and keep it")
    options = parser.parse_args()
    requirements = sorted(set(lowest_versions()))
    print("\n".join(requirements))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        tree, away = folder / "tree", folder / "away"
        _copy_tree(tree)
        away.mkdir()
        (folder / "lowest.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
        (away / "t.txt").write_text("The lowest versions have to work together.\n" * 400, encoding="utf-8")
        subprocess.run([options.python, "-m", "venv", folder / "venv"], check=True)
        bin_folder = folder / "venv" / "bin"
        environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
        environment |= {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "CHARGEN_KERNELS": "require"}
        pip = "python -m pip install -q --disable-pip-version-check"
        install = (f"{pip} -U pip", f"{pip} -r ../lowest.txt", f"{pip} --no-build-isolation --no-deps -e .")
        failed = _run(install, tree, environment)
        if not failed:
            failed = [*_run(COMMANDS, away, environment), *_run(CHECKS, tree, environment)]
    print(f"\nfailed: {'; '.join(failed)}" if failed else "\neverything works with the lowest versions")
    sys.exit(bool(failed))


def _run(commands: Sequence[str], folder: Path, environment: dict[str, str]) -> list[str]:
    """Run commands one after the other and return those that fail."""
    failed = []
    for command in commands:
        print(f"\n$ {command}", flush=True)
        if subprocess.run(command, shell=True, cwd=folder, env=environment).returncode:
            failed.append(command)
    return failed


def _copy_tree(to: Path) -> None:
    """Copy the source tree without what was built in it."""
    ignored = shutil.ignore_patterns(
        "__pycache__", "*.so", "*.egg-info", ".venv", ".git", "build", "runs", "data", ".*"
    )
    shutil.copytree(ROOT, to, ignore=ignored)


def _lines(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    main()
