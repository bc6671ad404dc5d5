"""`chargen inspect`, `report` and `compare` on runs that were trained for a moment."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.environment import Command
from support.models import write_model

pytest.importorskip("matplotlib")

from chargen.evaluation.score import score_streaming
from chargen.insight.gradient_flow import gradient_flow
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ModelFile

SMALL = ["+experiment=smoke", "model.hidden_size=12", "model.embedding_size=6", "trainer.max_steps=20"]


def text_of(number: int) -> str:
    """Lines of words with brackets and quotes, and what a page of HTML has to escape."""
    chosen = random.Random(3)
    words = ["the", "a", "cat", "dog", "<b>", "&", "sees", "hears", '"well"', "(so)", "then", "</script>"]
    lines = [" ".join(chosen.choices(words, k=chosen.randrange(3, 12))) + "." for _ in range(number)]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text and two runs, which differ in their cell and in nothing else."""
    from typer.testing import CliRunner

    from chargen.cli.app import app

    folder = tmp_path_factory.mktemp("inspected")
    (folder / "t.txt").write_text(text_of(1200), encoding="utf-8")
    for cell in ("gru", "lstm"):
        settings = [f"model.cell={cell}", f"run_dir={folder}/{cell}", f"data_dir={folder}/data"]
        result = CliRunner().invoke(app, ["train", str(folder / "t.txt"), *SMALL, *settings])
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def runs(trained: Path, away: Path) -> Path:
    """The runs, in the working folder of a test."""
    for cell in ("gru", "lstm"):
        shutil.copytree(trained / cell, away / cell)
    return away


def numbers(chargen: Command, *words: str) -> dict:
    """What a command writes with `--json -`."""
    code, out, err = chargen(*words, "--json", "-", "--output", "o.html" if words[1] in ("text", "like") else "o.png")
    assert code == 0, err
    return json.loads(out[: out.rindex("}") + 1])


# ------------------------------------------------------------------------------- gradients


def test_gradients_are_those_of_gradient_flow(chargen: Command, runs: Path) -> None:
    report = numbers(chargen, "inspect", "gradients", "lstm", "--no-bias", "--lags", "40")["models"][0]
    assert (runs / "o.png").read_bytes().startswith(b"\x89PNG")
    file = ModelFile.load(runs / "lstm" / "model.safetensors")
    from chargen.cli.inspect.subject import Subject

    ids = Subject.open(runs / "lstm").corpus().validation
    import torch

    lanes = torch.from_numpy(ids[: 8 * 81].reshape(8, 81).astype(np.int64))
    flow = gradient_flow(CharRNN.from_model_file(file).double(), lanes, lags=40, positions=32)
    for part, norms in flow.parts.items():
        for layer, lines in enumerate(norms):
            expected = np.median(lines / lines[:1], axis=1)
            np.testing.assert_allclose(report["flow"][part][layer]["median"], expected, rtol=1e-9)
    assert set(report["before_training"]) == {"h", "c"}


def test_the_weights_before_training_are_those_of_the_run(chargen: Command, runs: Path, trained: Path) -> None:
    """A run of one update with a learning rate of almost zero keeps the weights that it began with."""
    settings = [*SMALL, "model.cell=gru", f"run_dir={runs}/start", "data_dir=d", "trainer.max_steps=1"]
    rate = ["optimizer.learning_rate=1e-12", "optimizer.weight_decay=0"]
    assert chargen("train", str(trained / "t.txt"), *settings, *rate)[0] == 0
    report = numbers(chargen, "inspect", "gradients", "start", "--no-bias", "--lags", "30")["models"][0]
    for layer, before in zip(report["flow"]["h"], report["before_training"]["h"], strict=True):
        np.testing.assert_allclose(layer["median"], before["median"], rtol=1e-4)


def test_several_runs_and_cells_are_side_by_side(chargen: Command, runs: Path) -> None:
    report = numbers(chargen, "inspect", "gradients", "gru", "lstm", "--cells", "rnn,lstm", "--lags", "20")
    assert [(model["run"], model["cell"]) for model in report["models"]] == [
        ("gru", "gru"), ("lstm", "lstm"), (None, "rnn"), (None, "lstm"),
    ]  # fmt: skip
    assert not any("bias" in model for model in report["models"])


def test_the_bias_of_short_windows_is_told(chargen: Command, runs: Path) -> None:
    code, out, err = chargen("inspect", "gradients", "gru", "--lags", "20")
    assert (code, err) == (0, "")
    assert "relative bias of the gradient of shorter windows" in out
    assert out.splitlines()[-1] == "gru/gradients.png"


# ------------------------------------------------------------------------------- memory, neurons


def test_memory_is_the_loss_behind_a_context(chargen: Command, runs: Path) -> None:
    report = numbers(chargen, "inspect", "memory", "gru", "--positions", "40")
    from chargen.cli.inspect.subject import Subject

    subject = Subject.open(runs / "gru")
    ids = subject.corpus().validation
    longest = report["lengths"][-1]
    places = np.unique(np.linspace(longest + 256, len(ids) - 1, 40).astype(int))
    import torch

    for n, nats in list(zip(report["lengths"], report["zero"], strict=True))[:4]:
        losses = []
        for place in places:
            logits, _ = subject.network.eval()(torch.from_numpy(ids[place - n : place].astype(np.int64))[None])
            losses.append(float(-torch.log_softmax(logits[0, -1], -1)[int(ids[place])].detach()))
        assert nats == pytest.approx(np.mean(losses), rel=1e-4)


def test_units_are_listed_and_drawn(chargen: Command, runs: Path) -> None:
    code, out, err = chargen("inspect", "neurons", "lstm")
    assert (code, err) == (0, "")
    assert out.splitlines()[-2:] == ["lstm/neurons.png", "lstm/neurons.html"]
    assert "position in the line" in out
    page = (runs / "lstm" / "neurons.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert "</script>" not in page
    assert "&lt;" in page


def test_a_short_text_says_what_is_missing(chargen: Command, runs: Path, trained: Path) -> None:
    (runs / "s.txt").write_text(text_of(60), encoding="utf-8")
    assert chargen("train", "s.txt", *SMALL, "run_dir=s", "data_dir=d", "sequence_length=8", "batch_size=2")[0] == 0
    code, out, err = chargen("inspect", "memory", "s")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"chargen: the held-out text has \d+ characters: memory needs 514 or more\n", err)
    assert chargen("report", "s")[0] == 0  # a report shows what there is, and says what is missing
    assert "memory needs 514 or more" in (runs / "s" / "report.html").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------- text, like


def test_the_surprise_of_a_text_is_its_score(chargen: Command, runs: Path) -> None:
    (runs / "read.txt").write_text(text_of(30), encoding="utf-8")
    report = numbers(chargen, "inspect", "text", "gru", "read.txt")
    file = ModelFile.load(runs / "gru" / "model.safetensors")
    from chargen.cli.given_text import encode_given

    ids = np.insert(encode_given("read.txt", file), 0, file.start_id)
    assert report["nats_per_char"] == pytest.approx(score_streaming(CharRNN.from_model_file(file), ids).nats_per_char)
    assert np.mean(report["nats"]) == pytest.approx(report["nats_per_char"])


def test_a_page_of_surprise_escapes_its_text(chargen: Command, runs: Path) -> None:
    """The text holds markup, and the data for the script holds every symbol."""
    (runs / "read.txt").write_text("</script><b>&\"'" * 9, encoding="utf-8")
    assert chargen("inspect", "text", "gru", "read.txt")[0] == 0
    page = (runs / "gru" / "text.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1
    assert "<b>" not in page
    data = json.loads(re.search(r"const DATA=(\{.*?\});\n", page, re.DOTALL)[1])
    assert len(data["nats"]) == len(data["likely"]) == 15 * 9


@pytest.mark.parametrize("words", [("gru",), ("gru", "t.txt"), ("t.txt",), ()])
def test_run_and_text_may_be_left_out(words: tuple[str, ...], chargen: Command, runs: Path) -> None:
    (runs / "t.txt").write_text(text_of(9), encoding="utf-8")
    (runs / "runs").mkdir()
    shutil.move(runs / "gru", runs / "runs" / "gru")
    words = tuple("runs/gru" if word == "gru" else word for word in words)
    code, out, err = chargen("inspect", "text", *words)
    assert (code, err) == (0, "")
    assert out.startswith("t.txt under" if "t.txt" in words else "the held-out text under")


def test_similar_places_are_shown_with_what_follows(chargen: Command, runs: Path) -> None:
    report = numbers(chargen, "inspect", "like", "gru", "--text", "the cat", "--number", "3")
    from chargen.cli.inspect.subject import Subject

    subject = Subject.open(runs / "gru")
    train = subject.corpus().train
    assert len(report["places"]) == 3
    for place in report["places"]:
        end = place["position"] + 1
        assert subject.tokenizer.decode(train[end - 10 : end]) == place["before"][-10:]
        assert subject.tokenizer.decode(train[end : end + 10]) == place["behind"][:10]
    assert len(report["influence"]) == len("the cat")


# ------------------------------------------------------------------------------- report, compare


def test_a_report_stands_alone(chargen: Command, runs: Path) -> None:
    code, out, err = chargen("report", "lstm")
    assert (code, out, err) == (0, "lstm/report.html\n", "")
    page = (runs / "lstm" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", re.sub(r'xlink:href="#[^"]*"', "", page))
    assert "<script" not in page
    for title in ("Scores", "Curves", "Samples", "Gradients through time", "Memory", "Units", "Text", "Settings"):
        assert f">{title}</h2>" in page
    summary = json.loads((runs / "lstm" / "summary.json").read_text(encoding="utf-8"))
    assert f"{summary['validation_nats_per_char']:.4f}" in page
    assert "chargen train" in page
    assert page.count("<svg") >= 5


@pytest.mark.parametrize(("share", "written"), [(1e9, True), (0.0, False)])
def test_a_report_is_written_at_the_end_if_it_is_cheap(
    share: float, written: bool, chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, the command that writes it is printed."""
    monkeypatch.setattr("chargen.cli.report.SHARE", share)
    (away / "t.txt").write_text(text_of(300), encoding="utf-8")
    code, out, _ = chargen("train", "t.txt", *SMALL, "model.cell=gru", "run_dir=r", "data_dir=d")
    assert code == 0
    assert (away / "r" / "report.html").is_file() == written
    assert any(line == "report      r/report.html" for line in out.splitlines()) == written
    assert out.splitlines()[-1].endswith(" report r") == (not written)


def test_a_report_of_a_run_without_its_text_shows_the_rest(chargen: Command, runs: Path, away: Path) -> None:
    write_model(away / "alone")
    assert chargen("report", "alone")[:2] == (0, "alone/report.html\n")
    page = (away / "alone" / "report.html").read_text(encoding="utf-8")
    assert "the model does not say what it learned from" in page
    assert ">Samples</h2>" in page


def test_runs_are_compared_by_score_and_by_the_settings_that_differ(chargen: Command, runs: Path) -> None:
    code, out, err = chargen("compare", "gru", "lstm", "--csv", "-")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["run"]: row["model.cell"] for row in rows} == {"gru": "gru", "lstm": "lstm"}
    assert not any(name.startswith(("optimizer.", "run_dir", "seed")) for name in rows[0])
    scores = [float(row["nats/char"]) for row in rows]
    assert scores == sorted(scores)
    for row in rows:
        summary = json.loads((runs / row["run"] / "summary.json").read_text(encoding="utf-8"))
        assert float(row["nats/char"]) == pytest.approx(summary["validation_nats_per_char"], abs=1e-4)
        assert float(row["bits/char"]) == pytest.approx(float(row["nats/char"]) / math.log(2), abs=1e-3)
        assert int(row["parameters"]) == summary["parameters"]


def test_a_comparison_is_a_table_and_a_page(chargen: Command, runs: Path) -> None:
    code, out, err = chargen("compare", ".", "--html", "c.html")
    assert (code, err) == (0, "")
    assert "model.cell" in out
    assert out.splitlines()[-1] == "c.html"
    assert (runs / "c.html").read_text(encoding="utf-8").count("<svg") == 2
    code, _, err = chargen("compare", "gru", "lstm", "--html", "c.html")
    assert (code, err) == (2, "chargen: c.html exists: write --force to replace it, or the name of another file\n")


def test_several_runs_are_drawn_into_one_picture(chargen: Command, runs: Path) -> None:
    assert chargen("plot", "gru", "lstm", "--output", "both.svg")[:2] == (0, "both.svg\n")
    assert "gru, best" in (runs / "both.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[1]",
        '{"parameters": "<b>", "validation_nats_per_char": "x", "machine": 3}',
        '{"validation_nats_per_char": 1e999, "machine": {"processor": "<script>"}}',
    ],
)
def test_a_report_does_not_trust_the_files_of_a_run(content: str, chargen: Command, runs: Path) -> None:
    (runs / "gru" / "summary.json").write_text(content)
    (runs / "gru" / "samples.txt").write_text("=== update 3, <script>alert(1)</script>\n<img src=x>\x1b[2J\n")
    code, out, err = chargen("report", "gru")
    assert (code, out, err) == (0, "gru/report.html\n", "")
    page = (runs / "gru" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page


@pytest.mark.parametrize("name", ["summary.json", "metrics.csv"])
def test_a_damaged_file_is_named(name: str, chargen: Command, runs: Path) -> None:
    content = "{" if name == "summary.json" else "update,seconds,train_nats_per_char\n1,x,y\n"
    (runs / "gru" / name).write_text(content)
    code, out, err = chargen("report", "gru")
    assert (code, out) == (2, "")
    assert err.startswith(f"chargen: gru/{name} is damaged")


# ------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("inspect", "gru"), "gru: write a command before it, such as chargen inspect gradients gru"),
        (("inspect", "t.json"), "t.json: write a command before it, such as chargen inspect text t.json"),
        (("inspect", "gradient", "gru"), "gradient: chargen inspect has no such command; did you mean chargen inspect "
         "gradients?"),
        (("inspect", "gradients", "gru", "--cells", "gur"), "--cells gur: must be one of rnn, lstm, gru, separated by "
         "commas"),
        (("inspect", "gradients", "gru", "--lags", "x"), "--lags x: must be a whole number"),
        (("inspect", "gradients", "gru", "p.png"), "p.png: write --output p.png"),
        (("inspect", "memory", "gru", "--json", "t.json"), "t.json exists: write --force to replace it, or the name of "
         "another file"),
        (("inspect", "like", "gru"), '--text is missing: write a phrase, such as --text "said the"'),
        (("inspect", "text", "gru", "a", "b"), "b: one run and one text can be given; write a folder or a pattern for "
         "several files"),
        (("compare", "gru"), "gru is one run: name two or more, or a folder with several"),
        (("compare", "nowhere"), "no such folder: nowhere"),
        (("inspect", "gradients", "gru", "--colour", "red"), "--colour: there is no such option; `chargen inspect "
         "gradients --help` lists the options"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(words: tuple[str, ...], line: str, chargen: Command, runs: Path) -> None:
    (runs / "t.json").write_text("notes")
    assert chargen(*words) == (2, "", f"chargen: {line}\n")
    assert (runs / "t.json").read_text() == "notes"


def test_inspect_alone_lists_its_commands(chargen: Command) -> None:
    code, out, _ = chargen("inspect")
    assert code == 0
    for name in ("gradients", "memory", "neurons", "text", "like"):
        assert f"\n  {name} " in out


def test_bytes_are_shown_as_the_characters_that_begin_with_them() -> None:
    """A byte that begins no character is U+FFFD; the rest of a character is marked."""
    from chargen.cli.inspect.subject import readable
    from chargen.corpus.tokenizer import END_ID, Tokenizer

    data = "aé中".encode() + b"\xff" + b"b"
    tokenizer = Tokenizer([chr(byte) for byte in range(256)], "byte")
    ids = np.append(tokenizer.encode_bytes(data), END_ID)
    assert readable(ids, tokenizer) == ["a", "é", "·", "中", "·", "·", "\ufffd", "b", "¶"]
    assert readable(ids[1:2], tokenizer) == ["\ufffd"]
