"""No file makes chargen read, fetch or write in places that the user has not chosen."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.environment import Command
from support.forgery import config_in, forge_checkpoint, time_limit
from support.hosts import Host, fetch_from
from support.models import TEXT, TINY, write_model

from chargen.corpus.sources import SecureRedirectHandler, fetch
from chargen.errors import TextError
from chargen.storage.atomic import atomic_write, open_no_follow
from chargen.storage.locks import folder_lock
from chargen.storage.model_file import ESTIMATE, ModelFile

Refused = Callable[..., str]

EVALUATE, CONTINUE = ("evaluate", "r/last.ckpt"), ("train", "resume=r", "trainer.max_steps=9")
COMMANDS = pytest.mark.parametrize("words", [EVALUATE, CONTINUE], ids=lambda words: words[0])
"""The commands that read the corpus which a checkpoint names."""


# ------------------------------------------------------------------------------- texts and downloads


@COMMANDS
def test_another_text_is_not_read(words: tuple[str, ...], refused: Refused, checkpoint: Path, away: Path) -> None:
    """A file could name a text that only its reader may read, and a folder that everyone may read."""
    (away / "secret.txt").write_text("secret " * 500)

    def forge(content: dict[str, Any]) -> None:
        config = config_in(content)
        config["corpus"].update(path=str(away / "secret.txt"))
        config["data_dir"] = str(away / "open")

    forge_checkpoint(checkpoint, forge)
    assert "the text of corpus text has changed since the run" in refused(*words)
    assert not (away / "open").exists()


FOREIGN = {"url": "https://example.org/keys", "file": "authorized_keys", "size": 3, "sha256": "0" * 64}
"""The address of a corpus that conf/corpus does not name."""


@COMMANDS
def test_an_address_in_a_file_is_not_fetched(
    words: tuple[str, ...], refused: Refused, checkpoint: Path, away: Path
) -> None:
    """Otherwise the author of the file could write anything into any folder of the user's."""

    def forge(content: dict[str, Any]) -> None:
        config = config_in(content)
        config["corpus"].update(FOREIGN, path=None)
        config["data_dir"] = str(away / "secrets")

    forge_checkpoint(checkpoint, forge)
    err = refused(*words)
    assert "the run learned from https://example.org/keys, which chargen does not fetch because a file names it" in err
    assert f"put it at {away}/data/authorized_keys" in err
    if words == CONTINUE:  # the same holds if a folder is typed while the forged folder holds a file of that name
        (away / "secrets").mkdir()
        (away / "secrets" / "authorized_keys").write_text("decoy")
        err = refused(*words, "data_dir=typed")
        assert f"put it at {away}/typed/authorized_keys" in err or "put it at typed/authorized_keys" in err
        shutil.rmtree(away / "secrets")
    assert not (away / "secrets").exists()


def test_a_download_that_the_user_has_put_there_is_used(chargen: Command, checkpoint: Path, away: Path) -> None:
    """It has the digest of the text that the run learned from."""
    text = TEXT.encode()
    (away / "secrets").mkdir()
    (away / "secrets" / "authorized_keys").write_bytes(text)

    def forge(content: dict[str, Any]) -> None:
        config = config_in(content)
        config["corpus"].update(FOREIGN, path=None, size=len(text), sha256=hashlib.sha256(text).hexdigest())
        config["data_dir"] = str(away / "secrets")

    forge_checkpoint(checkpoint, forge)
    code, out, err = chargen(*EVALUATE)
    assert (code, err) == (0, "")
    assert "streaming" in out
    (away / "secrets").rename(away / "elsewhere")
    code, _, err = chargen(*CONTINUE, "data_dir=elsewhere")
    assert (code, err) == (0, "")


def test_an_archive_that_has_been_unpacked_is_not_needed(chargen: Command, checkpoint: Path, away: Path) -> None:
    forge_checkpoint(checkpoint, lambda content: config_in(content)["corpus"].update(FOREIGN, path=None, file="x.zip"))
    (away / "data" / "x").write_text(TEXT)
    code, _, err = chargen(*EVALUATE)
    assert (code, err) == (0, "")


@COMMANDS
def test_data_is_not_written_into_a_folder_that_a_file_names(
    words: tuple[str, ...], chargen: Command, checkpoint: Path, away: Path
) -> None:
    forge_checkpoint(checkpoint, lambda content: config_in(content).update(data_dir=str(away / "chosen")))
    code, _, err = chargen(*words)
    assert (code, err) == (0, "")
    assert not (away / "chosen").exists()


def test_a_redirect_from_https_to_http_is_refused() -> None:
    request = urllib.request.Request("https://example.org/corpus.zip")
    handler = SecureRedirectHandler()
    with pytest.raises(OSError, match=r"it redirects from https to http://example\.org/"):
        handler.redirect_request(request, None, 302, "Found", {}, "http://example.org/corpus.zip")
    assert handler.redirect_request(request, None, 302, "Found", {}, "https://example.org/other.zip") is not None


# ------------------------------------------------------------------------------- files in the folder of a run


@pytest.mark.parametrize("metadata", [{}, {"corpus": {"sha256": "0" * 64}}], ids=["no corpus", "another corpus"])
def test_a_model_of_another_run_is_replaced_whatever_its_score(
    metadata: dict[str, Any], chargen: Command, checkpoint: Path
) -> None:
    """It lies in the run's folder, and claims a score that no model can beat."""
    run = checkpoint.parent
    write_model(run, validation_estimate_nats_per_char=0.0, **metadata)
    code, _, err = chargen(*CONTINUE, "trainer.val_check_interval=2")
    assert (code, err) == (0, "")
    found = ModelFile.load(run / "model.safetensors")
    assert found.metadata[ESTIMATE] > 0
    assert len(found.metadata["corpus"]["sha256"]) == 64 != found.metadata["corpus"]["sha256"].count("0")


@pytest.mark.parametrize("name", [".owner", "metrics.csv", "summary.json", "model.safetensors", "samples.txt"])
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "brackets"])
def test_pipes_and_nonsense_in_the_folder_of_a_run_do_no_harm(
    name: str, kind: str, chargen: Command, checkpoint: Path, away: Path
) -> None:
    """No command waits for a pipe. Each succeeds, or refuses in one line."""
    file = checkpoint.parent / name
    file.unlink(missing_ok=True)
    os.mkfifo(away / "pipe")
    if kind == "pipe":
        (away / "pipe").rename(file)
    elif kind == "brackets":
        file.write_text("[" * 200_000)
    else:
        file.symlink_to(away / "pipe")
    commands = [CONTINUE]
    commands += {"metrics.csv": [("plot", "r")], "model.safetensors": [("sample", "r", "--seed", "1")]}.get(name, [])
    for words in commands[::-1]:
        with time_limit(60):
            code, _, err = chargen(*words)
        assert code in (0, 2)
        assert err.count("\n") == (code == 2)


def test_symbolic_links_are_not_written_through(chargen: Command, checkpoint: Path, away: Path) -> None:
    """The folder of a run from a stranger could hold links to files of the user's."""
    (away / "precious").write_text("mine")
    for name in ("one", "two", "three"):
        (away / name).symlink_to("precious")
    with pytest.raises(OSError, match="it is a symbolic link: remove it"):
        open_no_follow(away / "one", "a")
    (away / f".new.{os.getpid()}.tmp").symlink_to("precious")
    with atomic_write(away / "new") as temporary:
        temporary.write_text("new")
    with atomic_write(away / "two") as temporary:
        temporary.write_text("new")
    (away / "folder").mkdir()
    (away / "folder" / ".owner").symlink_to("../precious")
    with pytest.raises(OSError, match="it is a symbolic link: remove it"), folder_lock(away / "folder"):
        pass
    run = checkpoint.parent
    for name in ("samples.txt", "metrics.csv", "summary.json", "model.safetensors", "config.yaml"):
        (run / name).unlink()
        (run / name).symlink_to("../precious")
    (run / "model.safetensors").unlink()
    code, _, err = chargen(*CONTINUE, "sample_length=20")
    assert (code, err) == (0, "")
    assert (away / "precious").read_text() == "mine"


def test_symbolic_links_in_the_folder_of_downloads(host: type[Host], away: Path) -> None:
    """One that a download would be written through is refused; one to the right file is read."""
    (away / "precious").write_text("mine")
    (away / "data").mkdir()
    (away / "data" / "x.txt.part").symlink_to("../precious")
    with pytest.raises(TextError, match=r"cannot fetch x\.txt .*it is a symbolic link: remove it"):
        fetch_from(host, away / "data" / "x.txt")
    assert len(host.asked) == 1
    assert (away / "precious").read_text() == "mine"
    (away / "data" / "x.txt").symlink_to("../precious")
    digest = hashlib.sha256(b"mine").hexdigest()
    assert fetch("https://example.org/x", away / "data" / "x.txt", 4, digest).read_text() == "mine"
    with pytest.raises(TextError, match="is not the expected file"):
        fetch("https://example.org/x", away / "data" / "x.txt", 4, "0" * 64)


def test_names_of_files_cannot_steer_a_terminal(chargen: Command, away: Path) -> None:
    (away / "a\x1b[31m.txt").write_text("a line\n" * 60 + "\u4e2d")  # too short to measure the speed of a model
    code, out, _ = chargen("doctor", "a\x1b[31m.txt")
    assert code == 0
    assert "\u241b[31m.txt:61:1" in out
    assert "\x1b" not in out


def test_a_text_whose_name_is_not_utf8_is_learned(chargen: Command, away: Path) -> None:
    """Its name stands in every file of the run, and in the report of its score."""
    name = os.fsdecode(b"\xff.\xfe")
    try:
        (away / name).write_text(TEXT)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    assert chargen("train", name, *TINY, "run_dir=r")[::2] == (0, "")
    assert chargen(*CONTINUE)[::2] == (0, "")
    assert chargen("evaluate", "r", "--text", name, "--json", "report.json")[::2] == (0, "")
    assert json.loads((away / "report.json").read_text(encoding="utf-8"))["text"] == name
    assert ModelFile.load(away / "r" / "model.safetensors").metadata["config"]["corpus"]["path"] == str(away / name)


# ------------------------------------------------------------------------------- archives


def archive_of(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive with these names and contents."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def fetch_existing(content: bytes, place: Path) -> Path:
    """Fetch a download that is there already, and return the path of its text."""
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    return fetch("https://example.org/x.zip", place, len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    "name", ["../escaped", "/tmp/escaped", "a/../../escaped", "x" * 60_000], ids=lambda name: name[:20]
)
def test_names_in_an_archive_lead_nowhere(name: str, away: Path) -> None:
    assert fetch_existing(archive_of((name, b"the text")), away / "data" / "x.zip") == away / "data" / "x"
    assert (away / "data" / "x").read_bytes() == b"the text"
    assert {str(file.relative_to(away)) for file in away.rglob("*")} == {"data", "data/x", "data/x.zip"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive_of(("x", bytes(10_000_000))), "it unpacks to more than 100 times its size"),
        (archive_of(("a", b"1"), ("b", b"2")), "not a zip archive of one file"),
        (archive_of(), "not a zip archive of one file"),
        (archive_of(("x", bytes(1000)), compression=zipfile.ZIP_BZIP2), "is neither stored nor deflated"),
        (archive_of(("x", bytes(1000)), compression=zipfile.ZIP_LZMA), "is neither stored nor deflated"),
    ],
    ids=["too much", "two files", "no file", "bzip2", "lzma"],  # two kilobytes of the last two can become gigabytes
)
def test_archives_of_other_kinds_are_not_unpacked(content: bytes, message: str, away: Path) -> None:
    with pytest.raises(TextError, match=message):
        fetch_existing(content, away / "data" / "x.zip")
    assert {file.name for file in (away / "data").iterdir()} == {"x.zip"}


def test_a_damaged_archive_is_refused(away: Path) -> None:
    content = bytearray(archive_of(("x", b"the text, " * 100)))
    content[40] ^= 0xFF
    with pytest.raises(TextError, match="not a zip archive of one file"):
        fetch_existing(bytes(content), away / "data" / "x.zip")
