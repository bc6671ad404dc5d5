"""`model.safetensors` holds the weights of the best validation."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import Timer
from support.runs import Crash, corpus, module_for, run

from chargen.evaluation.score import score_streaming
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ESTIMATE, ModelFile
from chargen.training.best_model import BestModelWriter
from chargen.training.checkpoints import CheckpointWriter

VALIDATE = {"val_check_interval": 4, "check_val_every_n_epoch": None}


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    """Scored again, the weights in the file give the best of all validation scores."""
    module, said, clock = module_for("gru", 24, dropout=0.0), [], Timer(verbose=False)
    writer = BestModelWriter(tmp_path, clock, 20, said.append)
    run(module, tmp_path, clock, writer, **VALIDATE)
    model = ModelFile.load(tmp_path / "model.safetensors")
    assert model.estimate == writer.best
    # 42 held-out characters are fewer than one validation window, so the estimate is that of one carried lane
    score = score_streaming(CharRNN.from_model_file(model), corpus().validation)
    assert score.nats_per_char == pytest.approx(writer.best, rel=1e-5)
    scores = [float(line.split("validation ")[1].split()[0]) for line in said if "validation" in line]
    assert len(scores) == 6
    assert writer.best == pytest.approx(min(scores), abs=1e-4)
    assert (tmp_path / "samples.txt").read_text(encoding="utf-8").count("=== update ") == 6


def test_a_score_counts_only_if_its_weights_are_on_the_disk(tmp_path: Path) -> None:
    """Otherwise a resumed run would keep waiting for a score whose weights are lost."""
    module, clock, said = module_for("gru", 8), Timer(verbose=False), []
    (tmp_path / "blocked").touch()
    writer = BestModelWriter(tmp_path / "blocked" / "r", clock, 0, said.append)
    run(module, tmp_path, clock, writer, **VALIDATE)
    assert math.isfinite(writer.best)
    assert writer.state_dict() == {"best": math.inf}
    assert "the run continues and tries again later" in " ".join(said)
    (tmp_path / "blocked").unlink()
    writer.on_train_end(None, module)  # type: ignore[arg-type]
    assert writer.state_dict() == {"best": writer.best}
    assert ModelFile.load(writer.run_dir / "model.safetensors").estimate == writer.best
    assert writer.error == ""


def test_a_better_model_on_the_disk_survives_a_crash(tmp_path: Path) -> None:
    """A model that was written after the last checkpoint is the one that a resumed run has to beat."""
    module, last, clock = module_for("gru", 24), tmp_path / "last.ckpt", Timer(verbose=False)
    with pytest.raises(ZeroDivisionError):
        writers = BestModelWriter(tmp_path, clock, 0, print), CheckpointWriter(last, every_updates=4)
        run(module, tmp_path, clock, *writers, Crash(6))
    metadata = {"start_id": 2, ESTIMATE: 0.5}
    module.model.to_model_file(module.tokenizer, metadata).save(tmp_path / "model.safetensors")
    writer = BestModelWriter(tmp_path, clock, 0, print)
    run(module_for("gru", 24), tmp_path, clock, writer, resume=last, **VALIDATE)
    assert writer.best == 0.5
    assert ModelFile.load(tmp_path / "model.safetensors").estimate == 0.5
