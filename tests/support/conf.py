"""Compose conf/ as `chargen train` does, without running anything."""

from __future__ import annotations

from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from chargen.config import TrainConfig
from support.environment import ROOT

CONF = ROOT / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """Compose overrides to plain data."""
    ConfigStore.instance().store(name="train_schema", node=TrainConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        container = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def files(group: str) -> list[str]:
    """The names of the files of a group."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))
