"""The packages that chargen needs: a line for one that is missing or broken, and how to install it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires
from traceback import walk_tb

MODULES = {
    **{name: name for name in ("torch", "lightning", "omegaconf", "numpy", "tokenizers", "safetensors", "typer")},
    **{name: name for name in ("rich", "filelock", "matplotlib", "tensorboard", "wandb", "mlflow")},
    **{"hydra": "hydra-core", "yaml": "pyyaml"},
    **{"bs4": "beautifulsoup4", "lxml": "lxml", "docx": "python-docx", "pyarrow": "pyarrow"},
}
"""The name of the package by the name of its module, for all that chargen imports."""


def message_of_import(error: ImportError) -> str | None:
    """Return the line for a package that cannot be imported; None for a module of chargen itself.

    A package is broken if another one that it needs is missing, or has a version that it does not work with.
    """
    words = re.search(r"No module named '?(\w+)", str(error))
    missing = (error.name or (words[1] if words else "")).partition(".")[0]
    if missing == "chargen":
        return None
    is_absent = isinstance(error, ModuleNotFoundError)
    if is_absent and missing in sys.stdlib_module_names:
        return f"this Python was built without its module {missing}: install chargen into another one"
    if is_absent and missing in MODULES:
        return f"{MODULES[missing]} is not installed: write {_install(MODULES[missing])}"
    broken = next((name for name in (missing, *_modules_on_the_way(error)) if name in MODULES), None)
    if broken is None:
        return None
    options = "" if is_absent else "--force-reinstall "
    return f"{MODULES[broken]} cannot be imported ({error}): write {_install(MODULES[broken], options)}"


def _modules_on_the_way(error: ImportError) -> Iterator[str]:
    """Yield the top-level modules that chargen was importing, the outermost first."""
    frames = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    names = [str(name).partition(".")[0] for name in frames]
    yield from names[len(names) - names[::-1].index("chargen") :] if "chargen" in names else names


def _install(package: str, options: str = "") -> str:
    """Return the command that installs a package, and all others that are missing, in the versions chargen needs."""
    try:
        texts = {_name(text): text.partition(";") for text in requires("chargen") or []}
    except PackageNotFoundError:
        texts = {}
    missing = [name for name, (_, _, marker) in texts.items() if not (marker or _is_installed(name))]
    wanted = dict.fromkeys([package, *missing])
    arguments = " ".join(shlex.quote(texts.get(name, (name,))[0].strip()) for name in wanted)
    return f"{shlex.quote(sys.executable)} -m pip install {options}{arguments}"


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower()


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
