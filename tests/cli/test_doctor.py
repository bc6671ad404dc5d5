"""`chargen doctor` states what each size of model costs, by the functions that `chargen train` uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.environment import Command

from chargen.cli.conf_folder import SIZES, values
from chargen.config import TrainConfig, parse_model_config
from chargen.durations import parse_duration
from chargen.nn import speed
from chargen.nn.speed import Speed
from chargen.planning.advice import MAX_SECONDS, good_passes
from chargen.planning.length import RunPlan
from chargen.planning.size import training_megabytes

ROW = re.compile(r"  model=(\w+) +([0-9,]+) +([0-9,]+) MB +([0-9.]+) to ([0-9.]+) k +(\d+)  (\S+) to (\S+)")


def seconds_of(clock_time: str) -> float:
    return parse_duration(f"0:{'00:' * (2 - clock_time.count(':'))}{clock_time.zfill(5)}")


def test_costs_are_those_of_training(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measured speed of 1,234 to 5,678 characters per second, typically 2,000."""
    monkeypatch.setattr(speed, "measure_speeds", lambda configs, *_: [Speed(1234.0, 2000.0, 5678.0)] * len(configs))
    (away / "t.txt").write_text("abcdefgh\n" * 1000, encoding="utf-8")
    code, out, err = chargen("doctor", "t.txt")
    assert (code, err) == (0, "")
    rows = ROW.findall(out)
    assert [row[0] for row in rows] == list(SIZES)
    num_characters = 0.9 * 9000
    times_of = {}
    for name, parameters, megabytes, slowest, fastest, passes, shortest, longest in rows:
        model = parse_model_config({**values("model", name), "vocab_size": 9 + 2})
        assert int(parameters.replace(",", "")) == model.num_parameters
        assert int(megabytes.replace(",", "")) == round(training_megabytes(model, 16, 64))
        assert (slowest, fastest) == ("1.2", "5.7")
        num_passes = good_passes(num_characters, model.num_parameters)
        assert int(passes) == round(num_passes)
        # validations read a fifth as many characters, each in a third of the time
        typical, *times = (num_passes * num_characters / rate * (1 + 0.2 / 3) for rate in (2000.0, 5678.0, 1234.0))
        assert [seconds_of(shortest), seconds_of(longest)] == pytest.approx(times, abs=1)
        times_of[name] = typical
    found = re.search(r"chargen train t\.txt model=(\w+) trainer\.max_time=(\S+)\n", out)
    assert found is not None
    assert found[1] == max((name for name in SIZES if times_of[name] <= MAX_SECONDS), key=list(SIZES).index)
    assert parse_duration(found[2]) == pytest.approx(times_of[found[1]], abs=1)


def test_a_damaged_text_is_read_if_asked_for(chargen: Command, away: Path) -> None:
    data = ("風起雲湧，天地為之變色。\n" * 40).encode()
    (away / "t.txt").write_bytes(data[:36] + b"\xff" + data[36:])
    code, _, err = chargen("doctor", "t.txt")
    assert code == 2
    assert "is not utf-8 at byte 36: the rest of it is; write --errors replace" in err
    code, out, err = chargen("doctor", "t.txt", "--errors", "skip")
    assert (code, err) == (0, "")
    assert "left out: 1 byte that does not fit the encoding, first at byte 36 of t.txt (utf-8)" in out
    assert "characters          520, 13 different" in out


def test_every_line_fits_into_eighty_columns(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide character takes two of them. The command is left out: it can be copied as it is."""
    monkeypatch.setattr(speed, "measure_speeds", lambda configs, *_: [Speed(123456.0, 2e5, 567890.0)] * len(configs))
    notice = "（求推薦票，求收藏！）" * 4
    body = (
        "".join(f"{chr(0x4E00 + number)}是夜，風起雲湧，天地為之變色。\n" for number in range(5))
        + "風起雲湧，天地為之變色。\n" * 300
    )
    (away / "第一部小說的正文檔案.txt").write_text(body + f"{notice}\n" * 20 + "\ue001\U0001f600", encoding="utf-8")
    code, out, _ = chargen("doctor", "第一部小說的正文檔案.txt")
    assert code == 0
    lines = out.splitlines()
    assert max(cell_len(line) for line in lines if "chargen train" not in line) <= 80
    assert any("（求推薦票，求收藏！）" in line and "20 x" in line for line in lines)
    assert any("U+E001" in line and "private use" in line for line in lines)
    assert re.search(r"corpus.min_count=5: \d+ symbols become \d+, and training is 1.0 times as fast", out)
    columns = {cell_len(line[: line.index(" U+")]) for line in lines if " U+" in line}
    assert len(columns) == 1  # whatever is in front of it


def test_the_time_for_some_passes_is_the_time_in_which_a_run_makes_them() -> None:
    """Up to validations."""
    trainer = {"max_time": "00:00:10:00"}
    plan = RunPlan(TrainConfig(trainer=trainer, model=parse_model_config({"vocab_size": 9})), 100_000, 9)
    passes = plan.num_passes(lambda: 4321.0)
    assert plan.seconds_for(passes, 4321.0) == pytest.approx(600, rel=0.07)


def test_a_text_that_is_too_short_is_not_timed(chargen: Command, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measure_speeds", lambda *_: pytest.fail("timed"))
    (away / "t.txt").write_text("abcdefgh\n" * 100, encoding="utf-8")
    code, out, _ = chargen("doctor", "t.txt")
    assert code == 0
    assert "too short to train on with the defaults: write batch_size=1 sequence_length=405" in out
