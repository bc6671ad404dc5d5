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
from chargen.errors import ConfigError


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
        "\\${x}",
        "\\\\${",
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
    lambda text: text[0] not in "['\"~" and text != "null"
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
        ("--epochs", "settings have no dashes; --epochs: write trainer.max_epochs=…"),
        ("--batch-size=3", "settings have no dashes; --batch-size=3: write batch_size=3"),
    ):
        with pytest.raises(ValueError, match=message):
            hydra_arguments([word])


def test_a_file_whose_name_looks_like_a_setting_is_a_text(away: Path) -> None:
    (away / "a b=3").touch()
    assert hydra_arguments(["a b=3"]) == ["corpus=text", 'corpus.path="a b=3"']


def test_what_agrees_with_a_bare_path_is_passed_on() -> None:
    assert hydra_arguments(["corpus=text", "a.txt"]) == ["corpus=text", "corpus=text", 'corpus.path="a.txt"']
    assert hydra_arguments(["resume=r", "a.txt"]) == ['resume="r"', "corpus=text", 'corpus.path="a.txt"']
    words = ["corpus=enwik8", "corpus.path=null"]
    assert hydra_arguments(words) == words


def test_info_does_not_take_the_next_word_for_its_value() -> None:
    assert hydra_arguments(["--info", "seed=3"]) == ["--info=all", "seed=3"]
    assert hydra_arguments(["--info", "defaults"]) == ["--info", "defaults"]
    assert hydra_arguments(["-i"]) == ["-i=all"]


def test_lists_of_paths_reach_hydra(away: Path) -> None:
    long = ["文" * 40 + f"{number}.txt" for number in range(10)]
    for typed, paths in (
        ("[文章.txt,b c.txt]", ["文章.txt", "b c.txt"]),
        (f"[{','.join(long)}]", long),
    ):
        assert OmegaConf.create({"path": parsed(f"corpus.path={typed}")[1]}).path == paths
    (away / "[odd].txt").touch()
    assert parsed("corpus.path=[odd].txt")[1] == "[odd].txt"


@pytest.mark.parametrize("key", ["corpus.path", "run_dir", "data_dir", "resume"])
def test_a_tilde_is_the_home_folder(key: str, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of me")
    assert parsed(f"{key}=~/x, y.txt")[1] == "/home/of me/x, y.txt"
    assert parsed(f"{key}=~")[1] == "/home/of me"
    assert parsed(f"{key}=~$notes.txt")[1] == "~$notes.txt"  # an office program's lock file, not a user's home
    assert parsed(f"{key}=a~/x")[1] == "a~/x"
    monkeypatch.setenv("HOME", str(away))
    (away / "a,b.txt").touch()
    assert parsed(f"{key}=~/a,b.txt")[1] == str(away / "a,b.txt")
    assert hydra_arguments(["-m", f"{key}=~/a,b.txt"]) == ["-m", f'{key}="{away}/a,b.txt"']


def test_a_tilde_is_the_home_folder_in_lists_sweeps_and_bare_paths(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/h")
    assert parsed("corpus.path=[~/a.txt,b.txt]")[1] == ["/h/a.txt", "b.txt"]
    assert hydra_arguments(["~/a.txt"]) == ["corpus=text", 'corpus.path="/h/a.txt"']
    assert hydra_arguments(["~/a.txt", "b.txt", "-m"])[1:] == ["corpus=text", 'corpus.path=["/h/a.txt","b.txt"]']
    assert hydra_arguments(["-m", "run_dir=~/a,~/b"]) == ["-m", 'run_dir="/h/a","/h/b"']
    assert hydra_arguments(["--config-dir=~/conf"]) == ["--config-dir=/h/conf"]


def swept(*words: str) -> list[Any]:
    """The paths of the runs of a sweep, as Hydra's own parser reads them."""
    overrides = OverridesParser.create().parse_overrides([word for word in hydra_arguments(words) if word != "-m"])
    (override,) = (override for override in overrides if override.key_or_group == "corpus.path")
    if not override.is_sweep_override():
        return [OmegaConf.create({"path": override.value()}).path]
    values = OverridesParser.create().parse_overrides([f"x={one}" for one in override.sweep_string_iterator()])
    return [OmegaConf.create({"path": one.value()}).path for one in values]


@pytest.mark.parametrize("words", [["corpus=text", "corpus.path={}", "-m"], ["-m", "{}"]])
def test_several_paths_of_a_sweep_are_several_runs(words: list[str], away: Path) -> None:
    for name in ("a.txt", "b c.txt", "d,e.txt"):
        (away / name).touch()
    for typed, paths in (
        ("a.txt,b c.txt", ["a.txt", "b c.txt"]),
        ("a.txt, b c.txt,", ["a.txt", "b c.txt"]),
        ("a.txt", ["a.txt"]),
        ("d,e.txt", ["d,e.txt"]),  # a file of that name
        ("a.txt,'d,e.txt'", ["a.txt", "d,e.txt"]),
        ("*.txt,sub/*.md", ["*.txt", "sub/*.md"]),
    ):
        assert swept(*(word.format(typed) for word in words)) == paths
    assert swept("-m", "corpus=text", "corpus.path=[a.txt,b c.txt],a.txt") == [["a.txt", "b c.txt"], "a.txt"]


def test_options_of_hydra_come_first(away: Path) -> None:
    """Behind an override, Hydra does not accept an option."""
    (away / "t.txt").touch()
    words = hydra_arguments(["t.txt", "model=tiny", "--cfg", "job", "seed=2", "-m"])
    assert words == ["--cfg", "job", "-m", "model=tiny", "seed=2", "corpus=text", 'corpus.path="t.txt"']


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_plus_before_a_setting_of_the_trainer_changes_nothing(plus: str) -> None:
    assert hydra_arguments([f"{plus}trainer.max_steps=3"]) == ["++trainer.max_steps=3"]


def test_a_word_that_is_a_setting_and_a_file_is_refused(away: Path) -> None:
    """Neither of the two is dropped in silence."""
    for name in ("seed=3", "model=tiny", "-x.txt"):
        (away / name).touch()
    for word in ("seed=3", "model=tiny"):
        with pytest.raises(ConfigError, match=rf"write \+\+{word} for the setting, \./{word} for the file"):
            hydra_arguments([word])
        assert hydra_arguments([f"./{word}"]) == ["corpus=text", f'corpus.path="./{word}"']
        assert hydra_arguments([f"++{word}"])[0].endswith(word)
    with pytest.raises(ConfigError, match=r"-x\.txt: looks like an option; write \./-x\.txt for the file"):
        hydra_arguments(["-x.txt"])
