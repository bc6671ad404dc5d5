"""The files in conf/, which Hydra composes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZES = ("tiny", "small", "medium", "large")
"""The models of conf/model, the smallest first."""


def conf_folder() -> Path:
    """Return conf/: inside the installed package, or at the root of the repository."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def choices(group: str) -> list[str]:
    """List the names of a group, such as `model`."""
    return sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))


def values(group: str, name: str) -> dict[str, Any]:
    """Read the settings of one file of a group."""
    import yaml

    return dict(yaml.safe_load((conf_folder() / group / f"{name}.yaml").read_text(encoding="utf-8")))
