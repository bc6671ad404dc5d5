"""What is typed after `chargen train` reaches Hydra as it was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from chargen.cli.overrides import hydra_arguments


def parsed(word: str) -> tuple[str, Any]:
    """Parse a translated override with Hydra's own parser."""
    (translated,) = hydra_arguments([word])
    override = OverridesParser.create().parse_override(translated)
    return override.key_or_group, override.value()


@pytest.mark.parametrize(
    "path",
    [
        "文章.txt",
        "a b.txt",
        "it's.txt",
        'say "hi".txt',
        "a,b.txt",
        "(x) [1] {2}.txt",
        "back\\slash\\",
        '\\"',
        "50%=half.txt",
        "ключ=значение.txt",
        "'quoted.txt",
    ],
)
def test_paths_reach_hydra_as_typed(path: str, away: Path) -> None:
    if path.startswith("'"):
        (away / path).touch()
    key, value = parsed(f"corpus.path={path}")
    assert key == "corpus.path"
    assert OmegaConf.create({"path": value}).path == path


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1).filter(
    lambda text: text[0] not in "['\"" and text != "null"
))  # fmt: skip
def test_any_path_reaches_hydra(path: str) -> None:
    assert OmegaConf.create({"path": parsed(f"run_dir={path}")[1]}).path == path


def test_bare_paths_name_a_corpus(away: Path) -> None:
    (away / "a=b.txt").touch()
    assert hydra_arguments(["我的 文章.txt"]) == ["corpus=text", 'corpus.path="我的 文章.txt"']
    assert hydra_arguments(["x/", "a=b.txt", "seed=2"]) == ["seed=2", "corpus=text", 'corpus.path=["x/","a=b.txt"]']


def test_other_words_are_passed_on_or_refused() -> None:
    words = ["-m", "--cfg", "job", "~logger", "model=small,medium", "+experiment=smoke"]
    words += ["resume=null", "corpus.path='a.txt'"]
    assert hydra_arguments(words) == words
    assert hydra_arguments(["trainer.detect_anomaly=true"]) == ["++trainer.detect_anomaly=true"]
    for word, message in (
        ("smal", "smal: no such file; write KEY=VALUE"),
        ("--epochs", "--epochs: settings have no dashes; write epochs=…"),
        ("--batch-size=3", "--batch-size=3: settings have no dashes; write batch_size=3"),
    ):
        with pytest.raises(ValueError, match=message):
            hydra_arguments([word])


def test_lists_of_paths_reach_hydra(away: Path) -> None:
    long = ["文" * 40 + f"{number}.txt" for number in range(10)]
    for typed, paths in (
        ("[文章.txt,b c.txt]", ["文章.txt", "b c.txt"]),
        (f"[{','.join(long)}]", long),
    ):
        assert OmegaConf.create({"path": parsed(f"corpus.path={typed}")[1]}).path == paths
    (away / "[odd].txt").touch()
    assert parsed("corpus.path=[odd].txt")[1] == "[odd].txt"
