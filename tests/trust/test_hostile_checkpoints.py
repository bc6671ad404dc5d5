"""A checkpoint from a stranger is data: nothing in it runs, and no part of it is used before it has been checked."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.environment import Command
from support.forgery import TRACE, Hostile, config_in, copy_members, forge_checkpoint, forge_part

from chargen.storage.checkpoint import FORMAT_VERSION
from chargen.storage.checksum import add_checksum

Refused = Callable[..., str]

CONTINUE = ("train", "resume=r", "trainer.max_steps=9")
"""Continues the run in the folder `r`, which has six updates."""


def label(value: object) -> str | None:
    """Return the part of a test's name that stands for a parameter; the address of a function would change."""
    return None if callable(value) else str(value)


def test_the_attack_works_on_a_careless_reader(away: Path) -> None:
    """Otherwise the tests below would show nothing."""
    torch.save(Hostile(), away / "evil.ckpt")
    torch.load(away / "evil.ckpt", weights_only=False)
    assert (away / TRACE).exists()


@pytest.mark.parametrize("name", ["evil.ckpt", "model.safetensors", "evil.pt"])
@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("words", [("sample", "x"), ("evaluate", "x"), ("train", "resume=x")], ids=lambda w: w[0])
def test_code_in_a_pickle_does_not_run(
    words: tuple[str, str], bare: bool, name: str, refused: Refused, away: Path
) -> None:
    """The file is a bare pickle, or an archive of `torch.save`, under the name of any file that is read."""
    if bare:
        (away / name).write_bytes(pickle.dumps({"chargen": Hostile()}))
    else:
        torch.save({"chargen": Hostile(), "state_dict": {}}, away / name)
    assert name in refused(words[0], words[1].replace("x", name))


@pytest.mark.parametrize("place", ["callbacks", "optimizer_states", "loops", "hyper_parameters", "chargen"])
def test_code_in_any_part_of_a_real_checkpoint_does_not_run(place: str, refused: Refused, checkpoint: Path) -> None:
    forge_checkpoint(checkpoint, lambda content: content.update({place: Hostile()}))
    assert "last.ckpt" in refused(*CONTINUE)


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
        (("optimizer",), "os.system", "optimizer"),
        (("seed",), "$(touch opened)", "seed"),
    ],
    ids=label,
)
def test_settings_in_a_checkpoint_are_checked(
    keys: tuple[str, ...], value: object, message: str, refused: Refused, checkpoint: Path, away: Path
) -> None:
    """Like settings that are typed: unknown keys, targets to call and paths that lead out are refused by name."""

    def forge(content: dict[str, Any]) -> None:
        place = config_in(content)
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    forge_checkpoint(checkpoint, forge)
    assert message in refused(*CONTINUE)
    assert not (away.parent.parent / "escaped").exists()


def test_sizes_other_than_those_of_the_weights_are_refused(refused: Refused, checkpoint: Path) -> None:
    """The refusal comes before anything of that size is built."""

    def forge(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["model"]["hidden_size"] = 65536
        config_in(content)["model"]["hidden_size"] = 65536

    forge_checkpoint(checkpoint, forge)
    assert "weights do not fit together" in refused(*CONTINUE)


def test_a_run_from_before_weight_dropout_continues(chargen: Command, checkpoint: Path) -> None:
    """Its checkpoint has neither that setting nor a divergence detector."""

    def forget(content: dict[str, Any]) -> None:
        del content["hyper_parameters"]["model"]["weight_dropout"]
        del config_in(content)["model"]["weight_dropout"]
        del content["chargen"]["detector"]

    forge_checkpoint(checkpoint, forget)
    code, _, err = chargen(*CONTINUE)
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (1, "was written by an earlier chargen, in format 1: start a new run, or"),
        (2, "of another program"),  # format 2 has other keys
        (FORMAT_VERSION + 1, "was written by a later chargen: update with pip install -U chargen"),
        (str(FORMAT_VERSION), "of another program"),
    ],
)
def test_checkpoints_of_other_versions_are_refused(
    version: object, message: str, refused: Refused, checkpoint: Path
) -> None:
    forge_checkpoint(checkpoint, lambda content: content["chargen"].update(format_version=version))
    assert message in refused(*CONTINUE)


STATES = ((torch.zeros(8, 8),),)
"""States of the trained model: one layer, eight lanes, eight units."""


def nested_twice(times: int) -> list[Any]:
    """Return a list of a few hundred bytes in a file that stands for more parts than there are atoms."""
    value: list[Any] = []
    for _ in range(times):
        value = [value, value]
    return value


def hiding(weights: dict[str, Any]) -> dict[str, Any]:
    """Return a dictionary that says that it is empty: an unpickled one may have attributes of its own."""
    found = OrderedDict(weights)
    found.values = OrderedDict  # type: ignore[method-assign, assignment]
    return found


def each(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], Any]:
    """Return a function that applies `change` to the states of every layer."""
    return lambda states: tuple(tuple(change(part) for part in state) for state in states)


OPTIMIZER = ("optimizer_states", 0)
DETECTOR = ("chargen", "detector")
WINDOW = (*DETECTOR, "window")
INITIAL = ("chargen", "initial_states")
METADATA = ("hyper_parameters", "metadata")
CONFIG = (*METADATA, "config")
TRAINER = (*CONFIG, "trainer")
BEST = ("callbacks", "BestModelWriter")


@pytest.mark.parametrize(
    ("keys", "change", "message"),
    [
        ((*OPTIMIZER, "state", 0, "exp_avg"), lambda mean: torch.zeros(3), "exp_avg has the shape (3,)"),
        ((*OPTIMIZER, "state", 1, "exp_avg_sq"), lambda mean: mean.int(), "exp_avg_sq has the shape"),
        ((*OPTIMIZER, "param_groups", 0, "params"), lambda numbers: numbers[::-1], "are not those of the model"),
        ((*OPTIMIZER, "state"), lambda state: {k + 90: v for k, v in state.items()}, "are not those of the"),
        ((*OPTIMIZER, "state", 2, "step"), lambda step: torch.zeros(5), "step has the shape (5,)"),
        (("optimizer_states",), lambda states: [], "damaged or forged"),
        ((*OPTIMIZER, "param_groups"), lambda groups: "none", "damaged or forged"),
        ((*OPTIMIZER, "param_groups", 0, "betas"), lambda betas: "often", "damaged or forged"),
        (("chargen", "carry"), each(lambda part: part[:1, :1]), "the carry does not have the shape of a layer's state"),
        (("chargen", "carry"), each(lambda part: part[:1]), "the state has shapes [(1, 8)]; gru needs 1 of (8, 8)"),
        (("chargen", "carry"), lambda carry: (*carry, *carry), "the carry has 2 layers, not 1"),
        (("chargen", "carry"), lambda carry: "sugar", "damaged or forged"),
        (WINDOW, lambda window: (window[0] + 1000, *window[1:]), "a window of another text"),
        (WINDOW, lambda window: (window[0], window[1][:, :1], *window[2:]), "a window of another text"),
        (WINDOW, lambda window: (*window[:3], 0, window[4]), "keeps no window of this run"),
        (WINDOW, lambda window: (*window[:4], each(torch.Tensor.double)(STATES)), "keeps no window of this run"),
        (WINDOW, lambda window: (*window[:4], each(lambda part: part[:1])(STATES)), "keeps no window of this run"),
        (INITIAL, lambda states: {**states, "within": torch.zeros(1, 9)}, "damaged or forged"),
        (INITIAL, lambda states: {"within": states["within"]}, "damaged or forged"),
        (INITIAL, lambda states: {**states, "within": states["within"] / 0}, "damaged or forged"),
        (INITIAL, lambda states: {**states, "within": states["within"].bfloat16()}, "of another program"),
        (INITIAL, lambda states: {**states, "within": "in the middle"}, "of another program"),
        (INITIAL, lambda states: "at the beginning", "damaged"),
        ((*DETECTOR, "mean"), lambda mean: "mean", "damaged or forged"),
        ((*DETECTOR, "window_loss"), lambda loss: "low", "damaged or forged"),
        ((*DETECTOR, "num_losses"), lambda number: 20.5, "damaged or forged"),
        (WINDOW, lambda window: None, "keeps no window"),
        (DETECTOR, lambda detector: {"dog": 1}, "damaged or forged"),
        (("chargen", "schedule"), lambda schedule: {**schedule, "total_updates": "all"}, "of another program"),
        (("chargen", "generators", "torch"), lambda state: torch.zeros(3), "damaged or forged"),
        (("chargen", "generators", "numpy"), lambda state: ("MT19937", [1], 1, 0, 0.0), "damaged or forged"),
        (("loops", "fit_loop"), lambda loop: "round", "damaged or forged"),
        (BEST, lambda state: "best", "damaged or forged"),
        ((*BEST, "best"), lambda best: "best", "a score of best"),
        (("callbacks", "Timer", "time_elapsed", "train"), lambda seconds: float("inf"), "of another program"),
        (("callbacks", "Timer", "time_elapsed", "train"), lambda seconds: float("nan"), "of another program"),
        (("callbacks", "Timer"), lambda state: {"time_elapsed": {"train": "long"}}, "of another program"),
        (("state_dict",), lambda weights: {**weights, "y": torch.zeros(1)}, "of another program"),
        (("state_dict",), lambda weights: {**weights, 3: torch.zeros(1)}, "of another program"),
        (("state_dict",), lambda weights: {"model.head.bias": 3}, "of another program"),
        (("state_dict", "model.head.bias"), lambda bias: torch.nn.Parameter(bias).detach().requires_grad_(), "damaged"),
        (("state_dict",), hiding, "plain data"),
        (CONFIG, lambda config: {**config, 3: 4}, "plain data"),
        (CONFIG, lambda config: {}, "corpus.name"),
        (TRAINER, lambda trainer: {**trainer, "devices": torch.zeros(3)}, "plain data"),
        (TRAINER, lambda trainer: {**trainer, "devices": nested_twice(60)}, "plain data"),
        (TRAINER, lambda trainer: {**trainer, "strategy": "ddp"}, "trainer.strategy=ddp"),
        (TRAINER, lambda trainer: {**trainer, "num_nodes": 2}, "trainer.num_nodes=2"),
        ((*CONFIG, "sample_length"), lambda length: 10**12, "must be a whole number from 0 up to 1000000"),
        ((*CONFIG, "seed"), lambda seed: 10**5000, "plain data"),
        (("global_step",), lambda step: 10**5000, "plain data"),
        (METADATA, lambda metadata: {**metadata, "corpus": "mine"}, "of another program"),
        (METADATA, lambda metadata: {**metadata, "config": ["mine"]}, "of another program"),
        ((*CONFIG, "model"), lambda model: {}, "its model is not the one of its settings"),
        (("global_step",), lambda step: "far", "of another program"),
    ],
    ids=label,
)
def test_the_training_state_in_a_checkpoint_is_checked(
    keys: tuple[Any, ...], change: Callable[[Any], Any], message: str, refused: Refused, checkpoint: Path
) -> None:
    """The refusal comes before torch and the kernels, which trust shapes, compute with it."""
    forge_part(checkpoint, keys, change)
    assert message in refused(*CONTINUE)


@pytest.mark.parametrize(("key", "value"), [("update", "first"), ("progress", 10**600), ("dog", 1)])
def test_the_schedule_in_a_checkpoint_is_checked(key: str, value: object, refused: Refused, checkpoint: Path) -> None:
    """A run that continues without a new length follows it."""

    def forge(content: dict[str, Any]) -> None:
        config_in(content)["trainer"]["max_steps"] = 9
        content["chargen"]["schedule"].update({"total_updates": 9, key: value})

    forge_checkpoint(checkpoint, forge)
    assert "damaged or forged" in refused("train", "resume=r")


def test_a_tensor_that_is_larger_than_its_file_is_refused(refused: Refused, checkpoint: Path) -> None:
    """One number stands at every place of a terabyte: a reader that looked at all of it would need that memory."""

    def forge(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["model"].update(hidden_size=65536)
        config_in(content)["model"].update(hidden_size=65536)
        weights = content["state_dict"]
        for name, weight in weights.items():
            sizes = [{8: 65536, 24: 3 * 65536}.get(size, size) for size in weight.shape]
            weights[name] = torch.zeros(1).expand(sizes)

    forge_checkpoint(checkpoint, forge)
    for words in (("sample", "r/last.ckpt"), CONTINUE):
        assert "truncated, damaged or not a checkpoint of plain data" in refused(*words)


def test_a_tensor_that_claims_more_than_is_stored_is_refused(refused: Refused, away: Path) -> None:
    """The pickle is edited: four numbers become a hundred million, of which the file holds four."""
    torch.save({"a": torch.arange(4.0)}, away / "honest.ckpt")
    with zipfile.ZipFile(away / "honest.ckpt") as honest, zipfile.ZipFile(away / "forged.ckpt", "w") as forged:
        for member in honest.infolist():
            content, many = honest.read(member), b"J" + (10**8).to_bytes(4, "little")
            if member.filename.endswith("/data.pkl"):  # K opens a small number, J a larger one
                assert content.count(b"K\x04tq") == content.count(b"K\x04\x85") == 1
                content = content.replace(b"K\x04tq", many + b"tq").replace(b"K\x04\x85", many + b"\x85")
            forged.writestr(member.filename, content)
    add_checksum(away / "forged.ckpt")
    assert "of another program" in refused("sample", "honest.ckpt")
    assert "plain data (RuntimeError)" in refused("sample", "forged.ckpt")


def test_the_position_in_the_text_is_checked(refused: Refused, checkpoint: Path) -> None:
    keys = ("loops", "fit_loop", "state_dict", "combined_loader", 0, "position")
    forge_part(checkpoint, keys, lambda position: -3)
    assert "a position of -3 in a pass" in refused(*CONTINUE)


def test_a_run_is_not_logged_elsewhere_because_a_file_says_so(chargen: Command, checkpoint: Path) -> None:
    forge_part(checkpoint, (*CONFIG, "logger"), lambda logger: "wandb")
    code, _, err = chargen(*CONTINUE)
    assert (code, err) == (0, "chargen: the run was logged by wandb: write logger=wandb to log there again\n")


def test_another_precision_is_not_blamed_on_the_file(refused: Refused, checkpoint: Path) -> None:
    err = refused(*CONTINUE, "trainer.precision=64-true")
    assert err.startswith("chargen: trainer.precision=64-true: a resumed run keeps this setting")


def test_members_that_share_their_bytes_are_refused(refused: Refused, checkpoint: Path, away: Path) -> None:
    """A thousand entries of the directory name the same bytes: megabytes become gigabytes."""
    with copy_members(checkpoint, away / "many.ckpt") as many:
        largest = max(many.infolist(), key=lambda member: member.file_size)
        many.filelist += [largest] * 1000
    add_checksum(away / "many.ckpt")
    assert "not a checkpoint of plain data (BadZipFile)" in refused("sample", "many.ckpt")


def test_compressed_members_are_refused(refused: Refused, checkpoint: Path, away: Path) -> None:
    """Ten kilobytes would become ten million in memory."""
    with copy_members(checkpoint, away / "bomb.ckpt", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data/999", bytes(10_000_000))
    err = refused("sample", "bomb.ckpt")
    assert "bomb.ckpt is truncated, damaged or not a checkpoint of plain data" in err


def test_a_long_name_is_cut_and_cannot_steer_a_terminal(refused: Refused, checkpoint: Path) -> None:
    """A key of a megabyte begins with escape sequences."""
    name = "\x1b[2J\x07" + "x" * 10**6
    forge_checkpoint(checkpoint, lambda content: config_in(content).update({name: 1}))
    err = refused(*CONTINUE)
    assert len(err) < 1200
    assert "\x1b" not in err
    assert "\\x1b[2J" in err


def test_lightning_does_not_instantiate_what_a_checkpoint_names(chargen: Command, checkpoint: Path, away: Path) -> None:
    """Lightning's checkpoints may name a function that builds the module; chargen builds its own."""
    names = {"_instantiator": "os.system", "_class_path": "os.system"}
    forge_checkpoint(checkpoint, lambda content: content["hyper_parameters"].update(names))
    code, _, err = chargen(*CONTINUE)
    assert (code, err) == (0, "")
    assert not (away / TRACE).exists()
