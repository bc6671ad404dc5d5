"""`model.safetensors` holds the weights of the best validation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Timer
from support.runs import Crash, corpus, module_for, run

from chargen.corpus.contexts import find_contexts
from chargen.evaluation.score import score_streaming
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ESTIMATE, ModelFile
from chargen.storage.plain_data import load_plain
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


def test_both_files_of_a_run_hold_the_states_from_which_the_model_writes(tmp_path: Path) -> None:
    """They are the means of the states behind the contexts of the training text, read with the weights in the file."""
    module, clock, last = module_for("lstm", 8), Timer(verbose=False), tmp_path / "last.ckpt"
    contexts = find_contexts(corpus())
    module.start_run(8, contexts=contexts)
    run(module, tmp_path, clock, BestModelWriter(tmp_path, clock, 0, print), CheckpointWriter(last), **VALIDATE)
    model = ModelFile.load(tmp_path / "model.safetensors")
    content = load_plain(last)
    for network, stored in (
        (CharRNN.from_model_file(model).eval(), model.parts["initial_states"].arrays),
        (module.model.eval(), content["chargen"]["initial_states"]),
    ):
        for name, ids in contexts._asdict().items():
            texts = torch.from_numpy(ids)
            behind = [torch.cat([torch.cat(state) for state in network(text[None])[1]]) for text in texts]
            want = torch.stack(behind).mean(0).detach().numpy()
            np.testing.assert_allclose(np.asarray(stored[name]), want, rtol=1e-4, atol=1e-6)
    assert model.initial_state() is model.parts["initial_states"].arrays["beginning"]


def test_weights_that_are_not_finite_have_no_initial_states() -> None:
    module = module_for("gru", 8)
    module.start_run(8, contexts=find_contexts(corpus()))
    assert module.model_file().initial_state() is not None
    module.model.recurrence.weight_hh_l0.data[0, 0] = math.nan
    assert module.model_file().initial_state() is None


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
