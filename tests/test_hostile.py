"""Files from strangers are data: nothing in them runs, nothing is allocated or written because they say so."""

from __future__ import annotations

import os
import pickle
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import TEXT, TINY, write_model

from chargen.corpus import _NoDowngrade
from chargen.files import seal
from chargen.portable import Portable
from chargen.tokenizer import MOST_JSON, Tokenizer

Chargen = Callable[..., tuple[int, str, str]]


class Hostile:
    """Opens a shell when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch opened",)


def refused(result: tuple[int, str, str], away: Path) -> str:
    """Exit code 2, one line, and nothing has run."""
    code, _, err = result
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("chargen: ")
    assert not (away / "opened").exists()
    return err


def trained(chargen: Chargen, away: Path) -> Path:
    """The checkpoint of a run."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "run_dir=r")[0] == 0
    return away / "r" / "last.ckpt"


def changed(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Forges a checkpoint, seal and all."""
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    seal(file)


def test_the_shell_would_open(away: Path) -> None:
    """The attack works on a reader who is not careful, or the tests below would show nothing."""
    torch.save(Hostile(), away / "evil.ckpt")
    torch.load(away / "evil.ckpt", weights_only=False)
    assert (away / "opened").exists()


@pytest.mark.parametrize("name", ["evil.ckpt", "model.safetensors", "evil.pt"])
@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("words", [("sample", "x"), ("evaluate", "x"), ("train", "resume=x")], ids=lambda w: w[0])
def test_a_pickle_is_not_run(words: tuple[str, str], bare: bool, name: str, chargen: Chargen, away: Path) -> None:
    if bare:
        (away / name).write_bytes(pickle.dumps({"chargen": Hostile()}))
    else:
        torch.save({"chargen": Hostile(), "state_dict": {}}, away / name)
    err = refused(chargen(words[0], words[1].replace("x", name)), away)
    assert name in err


@pytest.mark.parametrize("place", ["callbacks", "optimizer_states", "loops", "hyper_parameters", "chargen"])
def test_a_pickle_inside_a_real_checkpoint_is_not_run(place: str, chargen: Chargen, away: Path) -> None:
    """Whatever part of it Lightning would look into."""
    file = trained(chargen, away)
    changed(file, lambda content: content.update({place: Hostile()}))
    (away / "r" / "last.previous.ckpt").unlink(missing_ok=True)
    assert "last.ckpt" in refused(chargen("train", "resume=r", "trainer.max_steps=9"), away)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("model", "_target_"), "os.system", "model._target_"),
        (("_target_",), "os.system", "_target_"),
        (("trainer", "callbacks"), [{"_target_": "os.system"}], "trainer.callbacks"),
        (("trainer", "plugins"), "os.system", "trainer.plugins"),
        (("model", "cell"), "os.system", "model.cell=os.system"),
        (("model", "hidden_size"), 10**13, "model.hidden_size"),
        (("model", "hidden_size"), 65536, "is damaged or forged: its model is not the one of its settings"),
        (("corpus", "file"), "../../escaped", "corpus.file=../../escaped"),
        (("corpus", "path"), ["nowhere.txt"], "nowhere.txt"),
        (("optimizer",), "os.system", "optimizer"),
        (("seed",), "$(touch opened)", "seed"),
    ],
    ids=str,
)
def test_settings_in_a_checkpoint_are_checked(
    keys: tuple[str, ...], value: object, message: str, chargen: Chargen, away: Path
) -> None:
    """As those that are typed: unknown keys, targets to call and paths that lead out are refused by name."""
    file = trained(chargen, away)

    def forge(content: dict[str, Any]) -> None:
        place = content["hyper_parameters"]["run"]["config"]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    changed(file, forge)
    assert message in refused(chargen("train", "resume=r", "trainer.max_steps=9"), away)
    assert not (away.parent.parent / "escaped").exists()


def test_sizes_that_are_not_those_of_the_weights_are_refused(chargen: Chargen, away: Path) -> None:
    """Before anything of that size is built."""
    file = trained(chargen, away)

    def forge(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["model"]["hidden_size"] = 65536
        content["hyper_parameters"]["run"]["config"]["model"]["hidden_size"] = 65536

    changed(file, forge)
    assert "its settings and weights do not fit together" in refused(
        chargen("train", "resume=r", "trainer.max_steps=9"), away
    )


def test_a_run_of_before_weights_were_dropped_goes_on(chargen: Chargen, away: Path) -> None:
    file = trained(chargen, away)

    def forget(content: dict[str, Any]) -> None:
        del content["hyper_parameters"]["model"]["weight_dropout"]
        del content["hyper_parameters"]["run"]["config"]["model"]["weight_dropout"]
        del content["chargen"]["guard"]

    changed(file, forget)
    code, _, err = chargen("train", "resume=r", "trainer.max_steps=9")
    assert (code, err) == (0, "")


def test_the_instantiator_of_lightning_is_not_asked(chargen: Chargen, away: Path) -> None:
    """Its checkpoints may name a function that builds the module; chargen builds its own."""
    file = trained(chargen, away)
    changed(
        file, lambda content: content["hyper_parameters"].update(_instantiator="os.system", _class_path="os.system")
    )
    code, _, err = chargen("train", "resume=r", "trainer.max_steps=9")
    assert (code, err) == (0, "")
    assert not (away / "opened").exists()


def test_a_checkpoint_that_unpacks_to_gigabytes_is_not_unpacked(chargen: Chargen, away: Path) -> None:
    """Ten kilobytes that are ten million in memory."""
    file = trained(chargen, away)
    with zipfile.ZipFile(file) as there, zipfile.ZipFile(away / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb:
        for member in there.infolist():
            bomb.writestr(member.filename, there.read(member))
        bomb.writestr("archive/data/999", bytes(10_000_000))
    err = refused(chargen("sample", "bomb.ckpt"), away)
    assert "bomb.ckpt is truncated, damaged or not a checkpoint of plain data" in err


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float, chargen: Chargen, away: Path) -> None:
    portable = Portable.load(write_model(away / "r") / "model.safetensors")
    portable.weights["head.weight"][0, 0] = bad
    portable.save(away / "r" / "model.safetensors")
    assert "has weights that are not finite" in refused(chargen("sample", "r"), away)


def test_a_tokenizer_of_another_size_is_refused(chargen: Chargen, away: Path) -> None:
    portable = Portable.load(write_model(away / "r") / "model.safetensors")
    for tokenizer in (Tokenizer("ab").to_json(), Tokenizer("abcdefgh").to_json(), "[]", "{}"):
        Portable(portable.weights, portable.settings, tokenizer, portable.notes).save(away / "r" / "model.safetensors")
        refused(chargen("sample", "r"), away)


def test_a_tokenizer_of_endless_length_is_not_read() -> None:
    with pytest.raises(ValueError, match=r"longer than one of all of Unicode"):
        Tokenizer.from_json(" " * (MOST_JSON + 1))


def test_a_header_that_claims_more_than_there_is(chargen: Chargen, away: Path) -> None:
    """Eight bytes say how long the header is: up to 2^64 - 1."""
    file = write_model(away / "r") / "model.safetensors"
    content = file.read_bytes()
    for claimed in (2**63, 2**64 - 1, 2**60, len(content) * 2):
        file.write_bytes(claimed.to_bytes(8, "little") + content[8:])
        assert "truncated or not a safetensors file" in refused(chargen("sample", "r"), away)


def test_https_does_not_lead_to_http() -> None:
    request = urllib.request.Request("https://example.org/corpus.zip")
    handler = _NoDowngrade()
    with pytest.raises(OSError, match=r"it leads from https to http://example\.org/"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/corpus.zip")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/other.zip") is not None
