"""Translate what is typed after `chargen train` into what Hydra reads, and Hydra's errors into one line.

Hydra's grammar refuses many paths: `文章.txt`, a quote in a name, a comma. A value that Hydra cannot read, and every
path, is therefore quoted before Hydra sees it. A bare path is short for `corpus=text corpus.path=...`, and
`trainer.anything` needs no plus.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from chargen.config import unknown_setting
from chargen.errors import ConfigError, TextError

PATHS = ("corpus.path", "run_dir", "data_dir", "resume")
"""The keys whose value is a path and is taken as typed."""

OPTIONS_WITH_A_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-name", "-cn")
OPTIONS = (*OPTIONS_WITH_A_VALUE, "--multirun", "-m", "--resolve", "--info", "-i", "--hydra-help", "--version")
"""Hydra's own options."""


def hydra_arguments(words: Sequence[str]) -> list[str]:
    """Return overrides and options as Hydra reads them.

    Args:
        words: overrides, options of Hydra, and bare paths, as typed.

    Raises:
        ConfigError: a word is none of these.
        TextError: a bare path does not exist.
    """
    spelled: list[str] = []
    paths = []
    for word, before in zip(words, ("", *words), strict=False):
        key, equals, value = word.partition("=")
        if word.startswith("-") and key not in OPTIONS:
            name = key.lstrip("-").replace("-", "_") or "seed"
            raise ConfigError(f"{word}: settings have no dashes; write {name}={value or '…'}")
        if word.startswith(("-", "~")) or before in OPTIONS_WITH_A_VALUE:
            spelled.append(word)
        elif equals and not _exists(word):
            if not key.strip("+"):
                raise ConfigError(f"{word}: a setting has a name; write KEY={value}")
            spelled.append(_override(key, value))
        else:
            paths.append(word)
    if paths:
        _require_paths(paths)
        spelled += ["corpus=text", f"corpus.path={_quoted(paths[0]) if len(paths) == 1 else _listed(paths)}"]
    flags = [word for word in spelled if word in ("-m", "--multirun")]  # after an override, Hydra would not accept them
    return flags + [word for word in spelled if word not in flags]


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # the name is too long for a path
        return False


def _require_paths(paths: Sequence[str]) -> None:
    for path in paths:
        looks_like_one = re.search(r"[/\\.*?\[]", path) or _exists(path)
        if not looks_like_one:
            raise TextError(f"{path}: no such file; write KEY=VALUE for a setting, or the path of a text")


def _override(key: str, value: str) -> str:
    if re.match(r"trainer\.\w", key):
        key = "++" + key  # conf/trainer does not list all settings of Lightning
    if key.lstrip("+") in PATHS and value and value != "null":
        return f"{key}={_path(value)}"
    try:
        OverridesParser.create().parse_override(f"{key}={value}")
    except (HydraException, ValueError):  # ValueError: a number of thousands of digits
        return f"{key}={_quoted(value)}"
    return f"{key}={value}"


def _path(value: str) -> str:
    """Quote a path or each path of a list, unless it is quoted; a file whose name looks like a list is a file."""
    if value[0] == "[" and value[-1] == "]" and not _exists(value):
        return _listed([path.strip() for path in value[1:-1].split(",") if path.strip()])
    return value if _is_quoted(value) and not _exists(value) else _quoted(value)


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in ("'", '"') and value[-1] == value[0]


def _listed(paths: Sequence[str]) -> str:
    return f"[{','.join(path if _is_quoted(path) else _quoted(path) for path in paths)}]"


def _quoted(value: str) -> str:
    """Return a string in Hydra's grammar, whatever characters it has."""
    value = re.sub(r'(\\*)"', lambda found: found[1] * 2 + '\\"', value)
    value = re.sub(r"(\\+)$", lambda found: found[1] * 2, value)
    return '"' + value.replace("${", "\\${") + '"'


def one_line_of(error: HydraException | OmegaConfBaseException) -> str:
    """Return in one line what is wrong with the settings: the full key, what was given and what is allowed."""
    cause = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    key = next((line.split(":", 1)[1].strip() for line in str(cause).splitlines() if "full_key:" in line), "")
    if found := re.search(r"(?:Could not override|Could not delete from config\.) '([^']+)'", str(error)):
        return str(unknown_setting(found[1]))
    if found := re.search(r"Could not find '([^']+)'", str(error)):
        group, _, choice = found[1].rpartition("/")
        choices = re.search(r"Available options in '[^']*':\s+(.*?)\s+Config search path", str(error), re.DOTALL)
        options = ", ".join(choices[1].split()) if choices else "a name from conf/"
        return f"{group}={choice}: there is no such {group or 'choice'}; write one of {options}"
    if found := re.search(r"Could not override '?([^'\s]+)'?\.? *No match in the defaults list", str(error)):
        return str(unknown_setting(found[1]))
    if found := re.search(r"Value '(.*)' (?:of type '.*' could not be converted to|is not a valid) (\w+)", reason):
        kind = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}.get(found[2], found[2])
        return f"{key}={found[1]}: must be {kind}"
    if found := re.search(r"Ambiguous value for argument '([^'=]+)=(.*)'", str(error)):
        return f"{found[1]}={found[2]}: several values are a sweep; write -m before them"
    return f"{key}: {reason}" if key and key not in reason else reason
