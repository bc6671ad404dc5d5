"""A `model.safetensors` from a stranger is data: its header, its tokenizer and its weights are checked before use."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.environment import Command
from support.forgery import forge_header, forge_model
from support.models import TEXT, write_model

from chargen.corpus.tokenizer import MAX_JSON_LENGTH, Tokenizer
from chargen.errors import FileError
from chargen.storage.model_file import ModelFile, digest_of

Refused = Callable[..., str]


@pytest.fixture
def model(away: Path) -> Path:
    """A small model in the folder `r`."""
    return write_model(away / "r") / "model.safetensors"


# ------------------------------------------------------------------------------- header


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": ["corpus"]},
        {"config": {"corpus": {"name": 3}}},
        {"config": {"corpus": {"path": {"a": 1}}}},
        {"config": {"corpus": {"name": "x", "path": "~\0"}, "run_dir": "r"}},
        {"config": {"corpus": {"name": "x", "path": "a\0b"}, "run_dir": "r"}},
        {"config": {"corpus": {"name": "x", "path": "a\ud800"}, "run_dir": "r"}},
        {"config": {"corpus": {"name": "x", "path": "t"}, "run_dir": "r", "data_dir": "a\0b"}},
        {"config": {"corpus": {"name": "x", "min_count": "many"}}},
        {"config": {"_target_": "os.system"}},
        {"corpus": "mine"},
        {"validation_estimate_nats_per_char": "low"},
        {"start_id": 10**9},
        {"start_id": None},
    ],
    ids=str,
)
def test_metadata_of_a_model_is_checked(
    metadata: dict[str, object], refused: Refused, chargen: Command, away: Path
) -> None:
    """Generation needs none of it: the model is refused, or generates."""
    write_model(away / "r", **metadata)
    refused("evaluate", "r")
    code, out, err = chargen("sample", "r", "--length", "9", "--seed", "1", "--prompt", "ab")
    assert (code, err.count("\n")) in ((2, 1), (0, 0))
    assert out.startswith("ab") or "damaged or forged" in err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dropout", "a little"), ("dropout", 5), ("dropout", float("nan")), ("residual", "yes")),
        *(("cell", ["gru"]), ("num_layers", True), ("num_layers", 10**9), ("hidden_size", 65536), ("_target_", "os")),
    ],
)
def test_settings_of_a_model_are_checked(key: str, value: object, refused: Refused, model: Path) -> None:
    def forge(header: dict[str, str]) -> None:
        header["config"] = json.dumps({**json.loads(header["config"]), key: value})

    forge_header(model, forge)
    err = refused("sample", "r")
    assert "damaged or forged" in err
    assert key in err or "weights do not fit together" in err


@pytest.mark.parametrize(
    ("part", "content"),
    [
        *((part, content) for part in ("config", "metadata", "parts") for content in ("", "{", "[", "7", "null")),
        *((part, "[" * 200_000) for part in ("config", "metadata", "parts")),
        *((part, '{"vocab_size": ' + "9" * 5000 + "}") for part in ("config", "metadata", "parts")),
        ("parts", '{"tables": 1}'),
        ("parts", '{"tables": {"required": "yes"}}'),
        ("format_version", "4"),
        ("format_version", "2"),  # which has other keys
    ],
    ids=lambda value: value[:24],
)
def test_a_header_that_chargen_does_not_write_is_refused(
    part: str, content: str, refused: Refused, model: Path
) -> None:
    forge_header(model, lambda header: header.update({part: content}))
    assert "r/model.safetensors" in refused("sample", "r")


@pytest.mark.parametrize("part", ["config", "metadata", "parts", "tokenizer", "format", "format_version"])
def test_a_header_without_one_of_its_parts_is_refused(part: str, refused: Refused, model: Path) -> None:
    forge_header(model, lambda header: header.pop(part))
    assert "r/model.safetensors" in refused("sample", "r")


@pytest.mark.parametrize(
    ("key", "content"),
    [
        *(("settings", content) for content in ("[]", "{}", '{"vocab_size": ' + "9" * 5000 + "}", "[" * 200_000)),
        *(("notes", content) for content in ("[]", "{}", '{"first_id": 1000000}', '{"first_id": 2, "corpus": 3}')),
    ],
    ids=lambda value: value[:24],
)
def test_a_header_of_version_0_1_is_checked_as_well(key: str, content: str, refused: Refused, model: Path) -> None:
    def forge(header: dict[str, str]) -> None:
        config = json.loads(header.pop("config"))
        header.pop("metadata")
        header.pop("parts")
        header.update(format_version="2", settings=json.dumps(config), notes='{"first_id": 2}')
        header[key] = content

    forge_header(model, forge)
    assert "r/model.safetensors is damaged" in refused("sample", "r")


def test_a_header_that_claims_to_be_longer_than_the_file_is_refused(refused: Refused, model: Path) -> None:
    """Eight bytes give the length of the header: up to 2^64 - 1."""
    content = model.read_bytes()
    for claimed in (2**63, 2**64 - 1, 2**60, len(content) * 2):
        model.write_bytes(claimed.to_bytes(8, "little") + content[8:])
        assert "truncated or not a safetensors file" in refused("sample", "r")


# ------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.float64, torch.bool])
def test_weights_of_other_types_are_refused(dtype: torch.dtype, refused: Refused, model: Path) -> None:
    weights = {name: torch.from_numpy(weight) for name, weight in ModelFile.load(model).weights.items()}
    with safe_open(model, framework="numpy") as opened:
        header = opened.metadata()
    weights["head.bias"] = weights["head.bias"].to(dtype)
    header.pop("sha256")
    try:
        digest = digest_of(header, {name: weight.numpy() for name, weight in weights.items()})
    except TypeError:
        digest = "of a type that numpy does not have"
    save_file(weights, model, {**header, "sha256": digest})
    assert "r/model.safetensors" in refused("sample", "r")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float, refused: Refused, model: Path) -> None:
    weights = ModelFile.load(model).weights
    weights["head.weight"][0, 0] = bad
    forge_model(model.parent, weights=weights)
    assert "has weights that are not finite" in refused("sample", "r")


@pytest.mark.parametrize("name", ["tables/rows", "/", "tables/", "extra"])
def test_arrays_that_belong_to_no_part_are_refused(name: str, refused: Refused, model: Path) -> None:
    weights = {**ModelFile.load(model).weights, name: np.zeros(3, dtype=np.float32)}
    forge_model(model.parent, weights=weights)
    assert "weights do not fit together" in refused("sample", "r")


# ------------------------------------------------------------------------------- tokenizer


def test_a_tokenizer_of_another_size_is_refused(refused: Refused, model: Path) -> None:
    for tokenizer in (Tokenizer("ab").to_json(), Tokenizer("abcdefgh").to_json(), "[]", "{}"):
        forge_model(model.parent, tokenizer=tokenizer)
        assert "tokenizer" in refused("sample", "r")


def test_a_tokenizer_with_more_symbols_than_the_model_is_refused(refused: Refused, model: Path, away: Path) -> None:
    (away / "t.txt").write_text(TEXT, encoding="utf-8")
    forge_model(model.parent, tokenizer=Tokenizer(TEXT).to_json())
    assert "do not fit its tokenizer" in refused("evaluate", "r", "--text", "t.txt")


@pytest.mark.parametrize(
    "model",
    [
        {"type": "BPE", "vocab": {"a": 0}, "merges": [], "continuing_subword_prefix": "x\u00e9"},
        {"type": "Unigram", "vocab": [["a", 0.0]] * 1000, "unk_id": 0},
        {"type": "WordLevel", "vocab": [["a", 0]], "unk_token": "[UNK]"},
        "WordLevel",
    ],
    ids=lambda model: model if isinstance(model, str) else model["type"],
)
def test_tokenizers_of_other_kinds_are_refused(model: object) -> None:
    """The refusal comes before the `tokenizers` package builds them: it panics on some."""
    with pytest.raises(FileError, match=r"not a tokenizer\.json of chargen"):
        Tokenizer.from_json(json.dumps({**json.loads(Tokenizer("a").to_json()), "model": model}))


def test_a_tokenizer_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(FileError, match=r"longer than one of all of Unicode"):
        Tokenizer.from_json(" " * (MAX_JSON_LENGTH + 1))


def test_a_tokenizer_with_too_many_entries_is_not_parsed() -> None:
    """Two million entries are shorter than the longest tokenizer that is allowed."""
    entries = ",".join(f'"{number}":{number}' for number in range(2_000_000))
    with pytest.raises(FileError, match=r"longer than one of all of Unicode"):
        Tokenizer.from_json(f'{{"model":{{"type":"WordLevel","vocab":{{{entries}}},"unk_token":"[UNK]"}}}}')


# ------------------------------------------------------------------------------- what it writes


def test_generated_text_cannot_steer_a_terminal(away: Path) -> None:
    """A model may know escape sequences. A terminal gets visible characters instead; a pipe gets them as they are."""
    write_model(away / "r", "\x1b\x07\x9b\x7f")
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
