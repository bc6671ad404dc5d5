"""Files from strangers are data: nothing in them runs, nothing is allocated or written because they say so."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.environment import Launch
from support.hosts import Host, fetch_from
from support.models import TEXT, TINY, write_model

from chargen.corpus.sources import SecureRedirectHandler, fetch
from chargen.corpus.tokenizer import MAX_JSON_LENGTH, Tokenizer
from chargen.storage.atomic import add_checksum, atomic_write, folder_lock, open_no_follow
from chargen.storage.model_file import ESTIMATE, FORMAT_VERSION, ModelFile, _digest

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
    FIGURES.update({"hostile files refused": 1})
    return err


def trained(chargen: Chargen, away: Path) -> Path:
    """The checkpoint of a run, which has no other to fall back on."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert chargen("train", "t.txt", *TINY, "run_dir=r")[0] == 0
    (away / "r" / "last.previous.ckpt").unlink(missing_ok=True)
    return away / "r" / "last.ckpt"


def changed(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Forges a checkpoint, seal and all."""
    content = torch.load(file, weights_only=True)
    change(content)
    torch.save(content, file)
    add_checksum(file)


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


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (FORMAT_VERSION - 1, f"was written by an earlier chargen, in format {FORMAT_VERSION - 1}: start a new run, or"),
        (FORMAT_VERSION + 1, "was written by a later chargen: update with pip install -U chargen"),
        ("2", "of another program"),
    ],
)
def test_checkpoints_of_other_versions_say_so(version: object, message: str, chargen: Chargen, away: Path) -> None:
    file = trained(chargen, away)
    changed(file, lambda content: content["chargen"].update(format_version=version))
    assert message in refused(chargen("train", "resume=r", "trainer.max_steps=9"), away)


KEPT = ((torch.zeros(8, 8),),)
"""A state of the small model: one layer, eight lanes, eight units."""


def doubled(times: int) -> list[Any]:
    """A few hundred bytes in a file; in a list of lists, more than there are atoms."""
    value: list[Any] = []
    for _ in range(times):
        value = [value, value]
    return value


def hidden(weights: dict[str, Any]) -> dict[str, Any]:
    """A dictionary that says it is empty: an unpickled one may have attributes of its own."""
    found = OrderedDict(weights)
    found.values = OrderedDict  # type: ignore[method-assign, assignment]
    return found


def each(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    """`change` of the state of every layer."""
    return lambda states: tuple(tuple(change(part) for part in state) for state in states)


@pytest.mark.parametrize(
    ("keys", "change", "message"),
    [
        (("optimizer_states", 0, "state", 0, "exp_avg"), lambda mean: torch.zeros(3), "exp_avg has the shape (3,)"),
        (("optimizer_states", 0, "state", 1, "exp_avg_sq"), lambda mean: mean.int(), "exp_avg_sq has the shape"),
        (
            ("optimizer_states", 0, "param_groups", 0, "params"),
            lambda numbers: numbers[::-1],
            "are not those of the model",
        ),
        (("optimizer_states", 0, "state"), lambda state: {k + 90: v for k, v in state.items()}, "are not those of the"),
        (("optimizer_states", 0, "state", 2, "step"), lambda step: torch.zeros(5), "step has the shape (5,)"),
        (("optimizer_states",), lambda states: [], "damaged or forged"),
        (("optimizer_states", 0, "param_groups"), lambda groups: "none", "damaged or forged"),
        (("optimizer_states", 0, "param_groups", 0, "betas"), lambda betas: "often", "damaged or forged"),
        (("chargen", "carry"), each(lambda part: part[:1, :1]), "the carry is not one of its layers"),
        (("chargen", "carry"), each(lambda part: part[:1]), "a state of shapes [(1, 8)] for 8 lanes of 8 units"),
        (("chargen", "carry"), lambda carry: (*carry, *carry), "the carry has 2 layers, not 1"),
        (("chargen", "carry"), lambda carry: "sugar", "damaged or forged"),
        (("chargen", "guard", "kept"), lambda kept: (kept[0] + 1000, *kept[1:]), "a window of another text"),
        (("chargen", "guard", "kept"), lambda kept: (kept[0], kept[1][:, :1], *kept[2:]), "a window of another text"),
        (
            ("chargen", "guard", "kept"),
            lambda kept: (*kept[:3], 0, kept[4]),
            "the guard has kept no window of this run",
        ),
        (
            ("chargen", "guard", "kept"),
            lambda kept: (*kept[:4], each(torch.Tensor.double)(KEPT)),
            "the guard has kept no",
        ),
        (("chargen", "guard", "mean"), lambda mean: "mean", "damaged or forged"),
        (("chargen", "guard"), lambda guard: {"dog": 1}, "damaged or forged"),
        (("chargen", "plan"), lambda plan: {**plan, "total": "all"}, "of another program"),
        (("chargen", "generators", "torch"), lambda state: torch.zeros(3), "damaged or forged"),
        (("chargen", "generators", "numpy"), lambda state: ("MT19937", [1], 1, 0, 0.0), "damaged or forged"),
        (("loops", "fit_loop"), lambda loop: "round", "damaged or forged"),
        (("callbacks", "BestModelWriter"), lambda state: "best", "damaged or forged"),
        (("callbacks", "BestModelWriter", "best"), lambda best: "best", "a score of best"),
        (("callbacks", "Timer", "time_elapsed", "train"), lambda seconds: float("inf"), "of another program"),
        (("callbacks", "Timer", "time_elapsed", "train"), lambda seconds: float("nan"), "of another program"),
        (("state_dict",), lambda weights: {**weights, "y": torch.zeros(1)}, "of another program"),
        (("state_dict",), lambda weights: {**weights, 3: torch.zeros(1)}, "of another program"),
        (("state_dict", "model.head.bias"), lambda bias: torch.nn.Parameter(bias).detach().requires_grad_(), "damaged"),
        (("state_dict",), lambda weights: hidden(weights), "plain data"),
        (("hyper_parameters", "run", "config"), lambda config: {**config, 3: 4}, "plain data"),
        (("hyper_parameters", "run", "config", "trainer"), lambda t: {**t, "devices": torch.zeros(3)}, "plain data"),
        (("hyper_parameters", "run", "config", "trainer"), lambda t: {**t, "devices": doubled(60)}, "plain data"),
        (("hyper_parameters", "run", "config", "trainer"), lambda t: {**t, "strategy": "ddp"}, "trainer.strategy=ddp"),
        (("hyper_parameters", "run", "config", "trainer"), lambda t: {**t, "num_nodes": 2}, "trainer.num_nodes=2"),
        (("hyper_parameters", "run", "config", "sample_length"), lambda length: 10**12, "must be at most a million"),
        (("callbacks", "Timer"), lambda state: {"time_elapsed": {"train": "long"}}, "of another program"),
        (("state_dict",), lambda weights: {"model.head.bias": 3}, "of another program"),
        (("hyper_parameters", "run"), lambda run: {**run, "corpus": "mine"}, "of another program"),
        (("hyper_parameters", "run"), lambda run: {**run, "config": ["mine"]}, "of another program"),
        (("hyper_parameters", "run", "config"), lambda config: {}, "corpus.name"),
        (("hyper_parameters", "run", "config", "model"), lambda model: {}, "its model is not the one of its settings"),
        (("global_step",), lambda step: "far", "of another program"),
    ],
    ids=str,
)
def test_the_state_in_a_checkpoint_is_checked(
    keys: tuple[Any, ...], change: Callable[[Any], Any], message: str, chargen: Chargen, away: Path
) -> None:
    """Before torch and the kernels, which take shapes on trust, compute with it."""
    file = trained(chargen, away)

    def forge(content: dict[str, Any]) -> None:
        place: Any = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = change(place[keys[-1]])

    changed(file, forge)
    assert message in refused(chargen("train", "resume=r", "trainer.max_steps=9"), away)


def test_a_tensor_that_is_larger_than_its_file_is_refused(chargen: Chargen, away: Path) -> None:
    """One number, seen from a terabyte of places: what looked at it would need as much memory."""
    file = trained(chargen, away)

    def forge(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["model"].update(hidden_size=65536)
        content["hyper_parameters"]["run"]["config"]["model"].update(hidden_size=65536)
        weights = content["state_dict"]
        for name, weight in weights.items():
            sizes = [{8: 65536, 24: 3 * 65536}.get(size, size) for size in weight.shape]
            weights[name] = torch.zeros(1).expand(sizes)

    changed(file, forge)
    for words in (("sample", "r/last.ckpt"), ("train", "resume=r", "trainer.max_steps=9")):
        assert "truncated, damaged or not a checkpoint of plain data" in refused(chargen(*words), away)


def test_a_tensor_that_claims_more_than_is_stored_is_refused(chargen: Chargen, away: Path) -> None:
    """In the pickle: four numbers become a hundred million, of which the file holds four."""
    torch.save({"a": torch.arange(4.0)}, away / "honest.ckpt")
    with zipfile.ZipFile(away / "honest.ckpt") as honest, zipfile.ZipFile(away / "forged.ckpt", "w") as forged:
        for member in honest.infolist():
            content, many = honest.read(member), b"J" + (10**8).to_bytes(4, "little")
            if member.filename.endswith("/data.pkl"):  # K is a small number, J a larger one
                assert content.count(b"K\x04tq") == content.count(b"K\x04\x85") == 1
                content = content.replace(b"K\x04tq", many + b"tq").replace(b"K\x04\x85", many + b"\x85")
            forged.writestr(member.filename, content)
    add_checksum(away / "forged.ckpt")
    assert "of another program" in refused(chargen("sample", "honest.ckpt"), away)
    assert "plain data (RuntimeError)" in refused(chargen("sample", "forged.ckpt"), away)


def test_where_a_pass_stands_is_checked(chargen: Chargen, away: Path) -> None:
    file = trained(chargen, away)

    def forge(content: dict[str, Any]) -> None:
        content["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["position"] = -3

    changed(file, forge)
    assert "a position of -3 in a pass" in refused(chargen("train", "resume=r", "trainer.max_steps=9"), away)


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_another_text_is_not_copied(command: str, chargen: Chargen, away: Path) -> None:
    """A file could name a text that only its reader may read, and a folder that everyone may."""
    file = trained(chargen, away)
    (away / "secret.txt").write_text("secret " * 500)

    def forge(content: dict[str, Any]) -> None:
        config = content["hyper_parameters"]["run"]["config"]
        config["corpus"].update(path=str(away / "secret.txt"))
        config["data_dir"] = str(away / "open")

    changed(file, forge)
    words = ("evaluate", "r/last.ckpt") if command == "evaluate" else ("train", "resume=r", "trainer.max_steps=9")
    assert "the text of corpus text has changed since the run" in refused(chargen(*words), away)
    assert not (away / "open").exists()


FOREIGN = {"url": "https://example.org/keys", "file": "authorized_keys", "size": 3, "sha256": "0" * 64}


@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_a_file_has_nothing_fetched(command: str, chargen: Chargen, away: Path) -> None:
    """Or whoever wrote it could have anything written into any folder of the user's."""
    file = trained(chargen, away)

    def forge(content: dict[str, Any]) -> None:
        config = content["hyper_parameters"]["run"]["config"]
        config["corpus"].update(FOREIGN, path=None)
        config["data_dir"] = str(away / "secrets")

    changed(file, forge)
    words = ("evaluate", "r/last.ckpt") if command == "evaluate" else ("train", "resume=r", "trainer.max_steps=9")
    err = refused(chargen(*words), away)
    assert "the run learned from https://example.org/keys, which chargen does not fetch on the word of a file" in err
    assert f"put it at {away}/data/authorized_keys" in err
    if command == "train":  # nor where it is typed, and the stranger's own folder holds a file of that name
        (away / "secrets").mkdir()
        (away / "secrets" / "authorized_keys").write_text("decoy")
        err = refused(chargen(*words, "data_dir=typed"), away)
        assert f"put it at {away}/typed/authorized_keys" in err or "put it at typed/authorized_keys" in err
        shutil.rmtree(away / "secrets")
    assert not (away / "secrets").exists()


def test_a_file_the_user_has_put_there_is_used(chargen: Chargen, away: Path) -> None:
    """It is the one that the run learned from, by its digest."""
    file, text = trained(chargen, away), TEXT.encode()
    (away / "secrets").mkdir()
    (away / "secrets" / "authorized_keys").write_bytes(text)

    def forge(content: dict[str, Any]) -> None:
        config = content["hyper_parameters"]["run"]["config"]
        config["corpus"].update(FOREIGN, path=None, size=len(text), sha256=hashlib.sha256(text).hexdigest())
        config["data_dir"] = str(away / "secrets")

    changed(file, forge)
    code, out, err = chargen("evaluate", "r/last.ckpt")
    assert (code, err) == (0, "")
    assert "streaming" in out
    (away / "secrets").rename(away / "elsewhere")
    code, _, err = chargen("train", "resume=r", "trainer.max_steps=9", "data_dir=elsewhere")
    assert (code, err) == (0, "")


def test_data_goes_into_no_folder_of_a_strangers_choice(chargen: Chargen, away: Path) -> None:
    file = trained(chargen, away)
    changed(file, lambda content: content["hyper_parameters"]["run"]["config"].update(data_dir=str(away / "chosen")))
    for words in (("evaluate", "r/last.ckpt"), ("train", "resume=r", "trainer.max_steps=9")):
        code, _, err = chargen(*words)
        assert (code, err) == (0, "")
    assert not (away / "chosen").exists()


def test_nothing_is_sent_to_others_on_the_word_of_a_file(chargen: Chargen, away: Path) -> None:
    file = trained(chargen, away)
    changed(file, lambda content: content["hyper_parameters"]["run"]["config"].update(logger="wandb"))
    code, _, err = chargen("train", "resume=r", "trainer.max_steps=9")
    assert (code, err) == (0, "chargen: the run was logged by wandb: write logger=wandb to go on so\n")


def test_a_score_from_a_stranger_is_not_to_be_beaten(chargen: Chargen, away: Path) -> None:
    """A model in the run's folder that is not of this run is written over, however good it says it is."""
    trained(chargen, away)
    for notes in ({}, {"corpus": {"sha256": "0" * 64}}):
        write_model(away / "r", validation_estimate_nats_per_char=0.0, **notes)
        more = len(list(away.glob("r/*"))) * 7 + len(notes)
        code, _, err = chargen("train", "resume=r", f"trainer.max_steps={more}", "trainer.val_check_interval=5")
        assert (code, err) == (0, "")
        found = ModelFile.load(away / "r" / "model.safetensors")
        assert found.notes[ESTIMATE] > 0
        assert len(found.notes["corpus"]["sha256"]) == 64 != found.notes["corpus"]["sha256"].count("0")
        more += 1


def test_another_precision_is_not_blamed_on_the_file(chargen: Chargen, away: Path) -> None:
    trained(chargen, away)
    err = refused(chargen("train", "resume=r", "trainer.max_steps=9", "trainer.precision=64-true"), away)
    assert "or does not fit what was changed" in err


@pytest.mark.parametrize("name", [".owner", "metrics.csv", "summary.json", "model.safetensors", "samples.txt"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "brackets"])
def test_files_that_are_none(name: str, kind: str, launch: Launch, away: Path) -> None:
    """Nobody is kept waiting at a pipe, and nothing goes into it."""
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    assert launch("train", "t.txt", *TINY, "run_dir=r").wait(timeout=60) == 0
    (away / "r" / name).unlink(missing_ok=True)
    os.mkfifo(away / "pipe")
    if kind == "pipe":
        (away / "pipe").rename(away / "r" / name)
    elif kind == "brackets":
        (away / "r" / name).write_text("[" * 200_000)
    else:
        (away / "r" / name).symlink_to(away / "pipe")
    words = [("train", "resume=r", "trainer.max_steps=9")]
    words += {"metrics.csv": [("plot", "r")], "model.safetensors": [("sample", "r", "--length", "3")]}.get(name, [])
    for command in words[::-1]:
        run = launch(*command)
        assert run.wait(timeout=60) in (0, 2)
        assert run.stderr
        assert run.stderr.read().count(b"\n") == (run.returncode == 2)


def test_a_file_of_many_files_of_the_same_bytes_is_refused(chargen: Chargen, away: Path) -> None:
    """A thousand entries in the directory, each of them the whole: megabytes that come to gigabytes."""
    file = trained(chargen, away)
    with zipfile.ZipFile(file) as there, zipfile.ZipFile(away / "many.ckpt", "w") as many:
        for member in there.infolist():
            many.writestr(member.filename, there.read(member))
        largest = max(many.infolist(), key=lambda member: member.file_size)
        many.filelist += [largest] * 1000
    add_checksum(away / "many.ckpt")
    assert "not a checkpoint of plain data (BadZipFile)" in refused(chargen("sample", "many.ckpt"), away)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.float64, torch.bool])
def test_weights_of_other_types_are_refused(kind: torch.dtype, chargen: Chargen, away: Path) -> None:
    portable = ModelFile.load(write_model(away / "r") / "model.safetensors")
    with safe_open(away / "r" / "model.safetensors", framework="numpy") as opened_:
        header = opened_.metadata()
    weights = {name: torch.from_numpy(weight) for name, weight in portable.weights.items()}
    weights["head.bias"] = weights["head.bias"].to(kind)
    header.pop("sha256")
    try:
        digest = _digest(header, {name: weight.numpy() for name, weight in weights.items()})
    except TypeError:
        digest = "of what numpy does not have"
    save_file(weights, away / "r" / "model.safetensors", {**header, "sha256": digest})
    refused(chargen("sample", "r"), away)


def test_a_tokenizer_that_knows_more_than_the_model(chargen: Chargen, away: Path) -> None:
    portable = ModelFile.load(write_model(away / "r") / "model.safetensors")
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    tokenizer = Tokenizer(TEXT).to_json()
    ModelFile(portable.weights, portable.settings, tokenizer, portable.notes).save(away / "r" / "model.safetensors")
    assert "do not fit its tokenizer" in refused(chargen("evaluate", "r", "--text", "t.txt"), away)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "BPE", "vocab": {"a": 0}, "merges": [], "continuing_subword_prefix": "x\u00e9"},
        {"type": "Unigram", "vocab": [["a", 0.0]] * 1000, "unk_id": 0},
        {"type": "WordLevel", "vocab": [["a", 0]], "unk_token": "[UNK]"},
        "WordLevel",
    ],
    ids=str,
)
def test_tokenizers_of_other_kinds_are_refused(model: object) -> None:
    """Before the package builds them, which panics over some."""
    with pytest.raises(ValueError, match=r"not a tokenizer\.json of chargen"):
        Tokenizer.from_json(json.dumps({**json.loads(Tokenizer("a").to_json()), "model": model}))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_packed_in_other_ways_are_refused(method: int, away: Path) -> None:
    """Two kilobytes of them come to gigabytes in one reading."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr("x", bytes(1000))
    with pytest.raises(ValueError, match="packed in a way that may come to anything"):
        put(packed.getvalue(), away / "data" / "x.zip")


def test_an_archive_that_has_been_unpacked_is_not_needed(chargen: Chargen, away: Path) -> None:
    file = trained(chargen, away)

    def forge(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["run"]["config"]["corpus"].update(FOREIGN, path=None, file="x.zip")

    changed(file, forge)
    (away / "data" / "x").write_text(TEXT)
    code, _, err = chargen("evaluate", "r/last.ckpt")
    assert (code, err) == (0, "")


def test_names_of_files_do_not_steer_a_terminal(chargen: Chargen, away: Path) -> None:
    (away / "a\x1b[31m.txt").write_text(TEXT + "\u4e2d")
    code, out, _ = chargen("doctor", "a\x1b[31m.txt")
    assert code == 0
    assert "\u241b[31m.txt:61:1" in out
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "notes",
    [
        {"config": ["corpus"]},
        {"config": {"corpus": {"name": 3}}},
        {"config": {"corpus": {"path": {"a": 1}}}},
        {"config": {"corpus": {"name": "x", "min_count": "many"}}},
        {"config": {"_target_": "os.system"}},
        {"corpus": "mine"},
        {"validation_estimate_nats_per_char": "low"},
        {"start_id": 10**9},
        {"start_id": None},
    ],
    ids=str,
)
def test_notes_in_a_model_are_checked(notes: dict[str, object], chargen: Chargen, away: Path) -> None:
    write_model(away / "r", **notes)
    refused(chargen("evaluate", "r"), away)
    # writing needs none of them
    code, out, err = chargen("sample", "r", "--length", "9", "--seed", "1", "--prompt", "ab")
    assert (code, err.count("\n")) in ((2, 1), (0, 0))
    assert out.startswith("ab") or "damaged or forged" in err


@pytest.mark.parametrize(
    ("key", "value"),
    [("dropout", "a little"), ("dropout", 5), ("residual", "yes"), ("cell", ["gru"]), ("num_layers", True)],
)
def test_settings_in_a_model_are_checked(key: str, value: object, chargen: Chargen, away: Path) -> None:
    portable = ModelFile.load(write_model(away / "r") / "model.safetensors")
    ModelFile(portable.weights, {**portable.settings, key: value}, portable.tokenizer, portable.notes).save(
        away / "r" / "model.safetensors"
    )
    assert "its settings and weights do not fit together" in refused(chargen("sample", "r"), away)


def test_a_name_of_a_megabyte_is_not_shown_whole(chargen: Chargen, away: Path) -> None:
    """Nor does what steers a terminal get there."""
    file = trained(chargen, away)
    name = "\x1b[2J\x07" + "x" * 10**6

    def forge(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["run"]["config"][name] = 1

    changed(file, forge)
    err = refused(chargen("train", "resume=r", "trainer.max_steps=9"), away)
    assert len(err) < 1200
    assert "\x1b" not in err
    assert "\\x1b[2J" in err


def test_what_is_written_does_not_steer_a_terminal(away: Path) -> None:
    """A model that has learned, or was given, escape sequences; a file gets them as they are."""
    write_model(away / "r", "\x1b\x07\x9b\x7f")
    import pty

    words = [sys.executable, "-m", "chargen", "sample", "r", "--length", "50", "--seed", "1"]
    ours, theirs = pty.openpty()
    subprocess.run(words, stdout=theirs, check=True)
    seen = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert {"\u241b", "\u2407", "\u2421", "\ufffd"} <= set(seen)
    assert not set("\x1b\x07\x9b\x7f") & set(seen)
    piped = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.decode()
    assert set("\x1b\x07\x9b\x7f") < set(piped)


def test_links_are_not_written_through(chargen: Chargen, away: Path) -> None:
    """A stranger's folder could hold links to files of the user's."""
    (away / "precious").write_text("mine")
    for name in ("one", "two", "three"):
        (away / name).symlink_to("precious")
    with pytest.raises(OSError, match="it is a link to another file: remove it"):
        open_no_follow(away / "one", "a")
    (away / f".new.{os.getpid()}.tmp").symlink_to("precious")
    with atomic_write(away / "new") as temporary:
        temporary.write_text("new")
    with atomic_write(away / "two") as temporary:
        temporary.write_text("new")
    (away / "folder").mkdir()
    (away / "folder" / ".owner").symlink_to("../precious")
    with pytest.raises(OSError, match="it is a link to another file: remove it"), folder_lock(away / "folder"):
        pass
    trained(chargen, away)
    for name in ("samples.txt", "metrics.csv", "summary.json", "model.safetensors", "config.yaml"):
        (away / "r" / name).unlink()
        (away / "r" / name).symlink_to("../precious")
    (away / "r" / "model.safetensors").unlink()
    code, _, err = chargen("train", "resume=r", "trainer.max_steps=30", "sample_length=20")
    assert (code, err) == (0, "")
    assert (away / "precious").read_text() == "mine"


def archive_of(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def put(content: bytes, place: Path) -> Path:
    """A download that is there already."""
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    return fetch("https://example.org/x.zip", place, len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped", "x" * 60_000])
def test_names_in_an_archive_lead_nowhere(name: str, away: Path) -> None:
    assert put(archive_of((name, b"the text")), away / "data" / "x.zip") == away / "data" / "x"
    assert (away / "data" / "x").read_bytes() == b"the text"
    assert {str(file.relative_to(away)) for file in away.rglob("*")} == {"data", "data/x", "data/x.zip"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("x", bytes(10_000_000))], "it unpacks to more than 100 times its size"),
        ([("a", b"1"), ("b", b"2")], "not a zip archive of one file"),
        ([], "not a zip archive of one file"),
    ],
)
def test_archives_that_hold_too_much_or_too_little(members: list[tuple[str, bytes]], message: str, away: Path) -> None:
    with pytest.raises(ValueError, match=message):
        put(archive_of(*members), away / "data" / "x.zip")
    assert {file.name for file in (away / "data").iterdir()} == {"x.zip"}


def test_a_damaged_archive_is_refused(away: Path) -> None:
    content = bytearray(archive_of(("x", b"the text, " * 100)))
    content[40] ^= 0xFF
    with pytest.raises(ValueError, match="not a zip archive of one file"):
        put(bytes(content), away / "data" / "x.zip")


def test_links_in_the_folder_of_downloads(host: type[Host], away: Path) -> None:
    """One that a half-finished download would be written through is refused; one to the right file is read."""
    (away / "precious").write_text("mine")
    (away / "data").mkdir()
    (away / "data" / "x.txt.part").symlink_to("../precious")
    with pytest.raises(ValueError, match=r"cannot fetch x\.txt .*it is a symbolic link: remove it"):
        fetch_from(host, away / "data" / "x.txt")
    assert len(host.asked) == 1
    assert (away / "precious").read_text() == "mine"
    (away / "data" / "x.txt").symlink_to("../precious")
    digest = hashlib.sha256(b"mine").hexdigest()
    assert fetch("https://example.org/x", away / "data" / "x.txt", 4, digest).read_text() == "mine"
    with pytest.raises(ValueError, match="is not the expected file"):
        fetch("https://example.org/x", away / "data" / "x.txt", 4, "0" * 64)


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
    portable = ModelFile.load(write_model(away / "r") / "model.safetensors")
    portable.weights["head.weight"][0, 0] = bad
    portable.save(away / "r" / "model.safetensors")
    assert "has weights that are not finite" in refused(chargen("sample", "r"), away)


def test_a_tokenizer_of_another_size_is_refused(chargen: Chargen, away: Path) -> None:
    portable = ModelFile.load(write_model(away / "r") / "model.safetensors")
    for tokenizer in (Tokenizer("ab").to_json(), Tokenizer("abcdefgh").to_json(), "[]", "{}"):
        ModelFile(portable.weights, portable.settings, tokenizer, portable.notes).save(away / "r" / "model.safetensors")
        refused(chargen("sample", "r"), away)


def test_a_tokenizer_of_endless_length_is_not_read() -> None:
    with pytest.raises(ValueError, match=r"longer than one of all of Unicode"):
        Tokenizer.from_json(" " * (MAX_JSON_LENGTH + 1))


def test_a_tokenizer_of_ten_million_entries_is_not_read() -> None:
    entries = ",".join(f'"{number}":{number}' for number in range(2_000_000))  # as many as fit below that length
    with pytest.raises(ValueError, match=r"longer than one of all of Unicode"):
        Tokenizer.from_json(f'{{"model":{{"type":"WordLevel","vocab":{{{entries}}},"unk_token":"[UNK]"}}}}')


def test_a_header_that_claims_more_than_there_is(chargen: Chargen, away: Path) -> None:
    """Eight bytes say how long the header is: up to 2^64 - 1."""
    file = write_model(away / "r") / "model.safetensors"
    content = file.read_bytes()
    for claimed in (2**63, 2**64 - 1, 2**60, len(content) * 2):
        file.write_bytes(claimed.to_bytes(8, "little") + content[8:])
        assert "truncated or not a safetensors file" in refused(chargen("sample", "r"), away)


def test_https_does_not_lead_to_http() -> None:
    request = urllib.request.Request("https://example.org/corpus.zip")
    handler = SecureRedirectHandler()
    with pytest.raises(OSError, match=r"it redirects from https to http://example\.org/"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/corpus.zip")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/other.zip") is not None
