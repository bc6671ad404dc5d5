"""The command that builds the kernels again, from where this chargen was installed."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from chargen.native import loader

SOURCE = "FOLDER_OF_THE_SOURCE"
"""Stands for a checkout in the command, where chargen was installed from a wheel or an index."""


def build_command() -> str:
    """Return a shell command that builds the kernels for this installation, or fails and says why."""
    root = loader.FOLDER.parents[2]
    if not (root / "setup.py").is_file():
        source = _installed_from()
    elif Path(sys.prefix) == root / ".venv" and (root / "Makefile").is_file():
        return f"make -C {shlex.quote(str(root))} kernels"
    else:
        source = f"-e {shlex.quote(str(root))}"
    # Without --no-cache-dir, pip installs a wheel that it has built before, and --no-deps leaves torch alone.
    options = "--no-cache-dir --force-reinstall --no-deps"
    return f"CHARGEN_KERNELS=require {shlex.quote(sys.executable)} -m pip install {options} {source}"


def _installed_from() -> str:
    """Return what pip has installed chargen from (PEP 610), as an argument of pip."""
    try:
        origin = json.loads(distribution("chargen").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return SOURCE
    url, version_control = origin.get("url", ""), origin.get("vcs_info")
    if version_control is not None:
        subfolder = f"#subdirectory={origin['subdirectory']}" if "subdirectory" in origin else ""
        return shlex.quote(f"{version_control['vcs']}+{url}@{version_control['commit_id']}{subfolder}")
    if "archive_info" in origin and not url.endswith(".whl"):
        return shlex.quote(url)
    path = Path(url2pathname(urlsplit(url).path))
    return shlex.quote(str(path)) if "dir_info" in origin and path.is_dir() else SOURCE
