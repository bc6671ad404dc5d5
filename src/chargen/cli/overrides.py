"""Translate what is typed after `chargen train` into what Hydra reads, and Hydra's errors into one line.

Hydra's grammar refuses many paths: `文章.txt`, a quote in a name, a comma. A value that Hydra cannot read, and every
path, is therefore quoted before Hydra sees it. A bare path is short for `corpus=text corpus.path=...`, and
`trainer.anything` needs no plus.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec, module_from_spec
from pathlib import Path

from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from chargen.cli.conf_folder import choices
from chargen.cli.synonyms import path_exists
from chargen.cli.unknown_words import INFO, OPTIONS_WITH_A_VALUE, is_setting, require_known_settings
from chargen.config import expand_home, unknown_setting
from chargen.errors import ConfigError, TextError


def _keep_assertions_of_hydra() -> None:
    """Compile Hydra's parser again with its assertions, which read part of what is typed.

    Without this, functions such as `range(1,3)` and dictionaries cannot be read under `PYTHONOPTIMIZE=1`.
    """
    name = "HydraOverrideVisitor"
    spec = find_spec(vars(overrides_parser)[name].__module__)
    if spec is None or spec.origin is None:  # Hydra lies in an archive
        return
    module = module_from_spec(spec)
    exec(compile(Path(spec.origin).read_bytes(), spec.origin, "exec", optimize=0), module.__dict__)
    setattr(overrides_parser, name, getattr(module, name))


if sys.flags.optimize:
    _keep_assertions_of_hydra()

PATHS = ("corpus.path", "corpus.vocabulary", "run_dir", "data_dir", "resume", "init")
"""The keys whose value is a path and is taken as typed."""


def hydra_arguments(words: Sequence[str]) -> list[str]:
    """Return overrides and options as Hydra reads them.

    Args:
        words: overrides, options of Hydra, and bare paths, as typed.

    Raises:
        ConfigError: a word is none of these.
        TextError: a bare path does not exist.
    """
    words = list(words)
    require_known_settings(words)
    is_sweep = not {"-m", "--multirun"}.isdisjoint(words)
    options: list[str] = []
    spelled: list[str] = []
    paths = []
    settings = {}
    for word, before, following in zip(words, ("", *words), (*words[1:], ""), strict=False):
        key, equals, value = word.partition("=")
        if word in ("--info", "-i") and following not in INFO:
            options.append(f"{word}=all")  # Hydra would take the next word for its value
        elif before in OPTIONS_WITH_A_VALUE or (before in ("--info", "-i") and word in INFO) or word.startswith("-"):
            options.append(f"{key}={os.path.expanduser(value)}" if key in ("--config-dir", "-cd") and equals else word)
        elif _is_deletion(word):
            spelled.append(word)
        elif equals and not path_exists(word):
            key = key.strip()
            if not key.strip("+"):
                raise ConfigError(f"{word}: a setting has a name; write KEY={value}")
            if not _is_readable(f"{key}=x"):
                raise ConfigError(f"{word}: there is no such file, and {key} is no name of a setting; write KEY=VALUE")
            settings[key.lstrip("+")] = word
            spelled.append(_override(key, value, is_sweep))
        elif equals and is_setting(key, value):
            raise ConfigError(
                f"{word}: a setting, and a file here; write ++{word} for the setting, ./{word} for the file"
            )
        else:
            paths.append(word)
    _require_one_corpus(settings, paths)
    if paths:
        _require_paths(paths, is_sweep)
        path = _path("corpus.path", paths[0], is_sweep) if len(paths) == 1 else _listed(paths)
        spelled += ["corpus=text", f"corpus.path={path}"]
    return options + spelled  # behind an override, Hydra would not accept an option


def _require_one_corpus(settings: Mapping[str, str], paths: Sequence[str]) -> None:
    """Refuse two places of a text, one of which would be dropped.

    Args:
        settings: the overrides as typed, by key.
        paths: bare paths.

    Raises:
        ConfigError: there are two.
    """
    group, path = settings.get("corpus", ""), settings.get("corpus.path", "")
    name = group.partition("=")[2].strip("'\" ")
    if path.partition("=")[2].strip() in ("", "null"):
        path = ""
    if paths and (path or (group and name != "text")):
        raise ConfigError(
            f"{' '.join(paths)} and {path or group}: give the text or {(path or group).partition('=')[0]}=…, not both"
        )
    if path and group and name != "text" and name in choices("corpus"):
        raise ConfigError(f"{group} and {path}: give one of them, not both")


def _is_readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except (HydraException, ValueError):  # ValueError: a number of thousands of digits
        return False
    return True


def _is_deletion(word: str) -> bool:
    """Tell whether a word is the deletion of a setting, such as `~logger`, and no file."""
    return word.startswith("~") and word[1:2].isalpha() and not path_exists(expand_home(word))


def _require_paths(paths: Sequence[str], is_sweep: bool) -> None:
    for path in paths:
        pieces = _pieces(path) if is_sweep and len(paths) == 1 else [path]
        looks_like_one = re.search(r"[/\\.*?\[]", path) or all(map(path_exists, pieces))
        if not looks_like_one:
            raise TextError(f"{path}: no such file; write KEY=VALUE for a setting, or the path of a text")


def _override(key: str, value: str, is_sweep: bool) -> str:
    if re.match(r"\+*trainer\.\w", key):
        key = "++" + key.lstrip("+")  # conf/trainer does not list all settings of Lightning
    if key.lstrip("+") == "corpus.field" and value and value != "null":
        return f"{key}={value if _is_quoted(value) else _quoted(value)}"
    if key.lstrip("+") in PATHS and value and value != "null":
        return f"{key}={_path(key, value, is_sweep)}"
    return f"{key}={value if _is_readable(f'{key}={value}') else _quoted(value)}"


def _path(key: str, value: str, is_sweep: bool) -> str:
    """Quote a path, each path of a list, or each of several separated by commas for a sweep.

    A file whose name looks like one of these is a file.

    Raises:
        ConfigError: there are several paths, but no sweep and no list.
    """
    if path_exists(expand_home(value)):
        return _quoted(expand_home(value))
    if len(pieces := _pieces(value)) > 1:
        if is_sweep:
            return ",".join(_path(key, piece, False) for piece in pieces)
        if key == "corpus.path" and all(path_exists(expand_home(piece)) for piece in pieces):
            listed = shlex.quote(f"{key}=[{value}]")
            raise ConfigError(
                f"{key}={value}: write {listed} to learn from all of them, or -m before it for a run of each"
            )
    if value[0] == "[" and value[-1] == "]":
        return _listed(_pieces(value[1:-1]))
    return value if _is_quoted(value) else _quoted(expand_home(value))


def _pieces(value: str) -> list[str]:
    """Split at commas outside of quotes and brackets, without blanks around the pieces."""
    pieces = re.findall(r"""(?:\[[^\]]*\]|"[^"]*"|'[^']*'|[^,])+""", value)
    return [piece.strip() for piece in pieces if piece.strip()]


def _is_quoted(value: str) -> bool:
    return len(value) > 1 and value[0] in ("'", '"') and value[-1] == value[0]


def _listed(paths: Sequence[str]) -> str:
    return f"[{','.join(path if _is_quoted(path) else _quoted(expand_home(path)) for path in paths)}]"


def _quoted(value: str) -> str:
    """Return a string in Hydra's grammar, whatever characters it has."""
    value = re.sub(r'(\\*)"', lambda found: found[1] * 2 + '\\"', value)
    value = re.sub(r"(\\+)$", lambda found: found[1] * 2, value)
    value = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", value)
    return f'"{value}"'


_NEEDS_NAME = "corpus, model and trainer need the name of a file in conf/, such as model=small"

_LINES = (
    (r"does not support deletion", r": a setting cannot be removed; leave it out, or give it a value"),
    (r"Cannot convert '\w+' to string: '(.*)'$", r"=\1: must be one text, not several"),
    (r"Config group override must be", _NEEDS_NAME),
    (r"force-add of config groups is not supported: '\++([^=']+)", r"++\1: write \1=NAME, without the plus"),
    (r"Could not delete '([^']+)'", r"~\1: there is nothing of this name to remove; leave it out"),
    (r"Sweep parameters '\+*([^']+)' requires --multirun", r"\1: several values are a sweep; write -m before them"),
    (r"Could not load '([^'/]+)/([^']+)'", r"\1=\2: there is no such \1; write one name"),
    (r"Could not append to config\. An item is already at '([^']+)'", r"+\1: write \1=VALUE, without the plus"),
    (r"Interpolation key '([^']+)' not found", r": there is no setting \1, which ${\1} names"),
    (r"raised while resolving interpolation: \W*(.*?)\W*$", r": \1"),
    (r"Cannot find primary config '([^']+)'", r"--config-name \1: there is no such file in conf/; leave it out"),
    (r"Additional config directory '([^']+)' not found", r"--config-dir \1: no such folder"),
    (r"^\w+(?:Exception|Error): (.*)$", r"\1: cannot be read; write KEY=VALUE"),
)
"""What to print for an error of Hydra; a line that begins with a colon or an equals sign follows the key."""


def one_line_of(error: HydraException | OmegaConfBaseException | ValueError) -> str:
    """Return in one line what is wrong with the settings: the full key, what was given and what is allowed."""
    cause: BaseException = error
    while isinstance(cause.__cause__, (HydraException, OmegaConfBaseException)):
        cause = cause.__cause__
    reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    key = next((line.split(":", 1)[1].strip() for line in str(cause).splitlines() if "full_key:" in line), "")
    if found := re.search(r"(?:Could not override|Could not delete from config\.) '([^']+)'", str(error)):
        return _NEEDS_NAME if found[1] in ("corpus", "model", "trainer") else str(unknown_setting(found[1]))
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
    for pattern, words in _LINES:
        if found := re.search(pattern, reason):
            line = found.expand(words)
            return f"{key}{line}" if line.startswith((":", "=")) else line
    return f"{key}: {reason}" if key and key not in reason else reason
