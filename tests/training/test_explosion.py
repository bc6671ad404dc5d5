"""Gradients that explode, and what clipping by global norm does about them: the presets paper_*_unclipped and _clipped.

Each preset is trained on five seeds. Unclipped, the gradient norm passes 100 times its median and the loss passes that
of a uniform guess, and the run stays far behind its clipped twin (Pascanu, Mikolov & Bengio 2013).
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from support.conf import composed

from chargen.config import TrainConfig, parse_config
from chargen.corpus.encoded import load_corpus
from chargen.errors import UserError
from chargen.training.run import train

UPDATES = 150


def preset(name: str, folder: Path, seed: int, *, updates: int = UPDATES) -> TrainConfig:
    """The settings of an experiment for a shorter run."""
    settings = composed(
        f"+experiment={name}", f"seed={seed}", f"trainer.max_steps={updates}", "trainer.accelerator=cpu",
        "trainer.limit_val_batches=1", f"run_dir={folder / 'run'}", "sample_length=0", f"data_dir={folder / 'data'}",
    )  # fmt: skip
    return parse_config(settings)


def trained(config: TrainConfig) -> list[dict[str, float]]:
    """Train, and return loss and gradient norm of each update."""
    corpus = load_corpus(config.corpus, Path(config.data_dir))
    Path(config.run_dir).mkdir()
    train(config, corpus, console=Console(file=io.StringIO()), program="chargen")
    with open(Path(config.run_dir, "metrics.csv"), encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["train_nats_per_char"]]
    return [{"loss": float(row["train_nats_per_char"]), "norm": float(row["gradient_norm"])} for row in rows]


def settings_of(config: TrainConfig) -> dict[str, Any]:
    return {**config.to_plain(), "run_dir": ""}


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_clipping_by_norm_saves_a_run_whose_gradients_explode(cell: str, seed: int, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    unclipped = preset(f"paper_{cell}_unclipped", tmp_path / "a", seed)
    clipped = preset(f"paper_{cell}_clipped", tmp_path / "b", seed)
    assert (unclipped.trainer["gradient_clip_val"], clipped.trainer["gradient_clip_val"]) == (None, 1.0)
    clipped.data_dir = unclipped.data_dir
    same = {**unclipped.trainer, "gradient_clip_val": 1.0}
    assert settings_of(replace(unclipped, trainer=same)) == settings_of(clipped)

    exploded, learned = trained(unclipped), trained(clipped)
    assert len(exploded) == len(learned) == UPDATES
    uniform = math.log(106)  # the corpus has 104 symbols, and two ids are special
    norms = [row["norm"] for row in exploded]
    assert max(norms) > 100 * statistics.median(norms)
    assert max(row["loss"] for row in exploded) > uniform
    ends = [statistics.mean(row["loss"] for row in rows[-20:]) for rows in (exploded, learned)]
    assert ends[1] < 0.5 * uniform
    # How far a run comes after an explosion depends on rounding, which differs between instruction sets.
    assert ends[0] > ends[1] + 0.1


def test_without_guard_a_run_ends_when_its_loss_is_not_finite(tmp_path: Path) -> None:
    config = preset("paper_rnn_unclipped", tmp_path, 1)
    config.optimizer.learning_rate = 1e38
    with pytest.raises(UserError, match=r"^the run has diverged, at update \d+ the .* is not finite: .*write trainer"):
        trained(config)


def test_three_steps_of_clipping_by_global_norm() -> None:
    """Compute the gradients, multiply all of them by limit / max(norm, limit), apply them: by hand, and by torch."""
    torch.manual_seed(0)
    gradients = [torch.randn(3, 4), torch.randn(7)]
    limit = 0.5
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    by_hand = [gradient * (limit / max(norm, limit)) for gradient in gradients]
    parameters = [torch.zeros_like(gradient, requires_grad=True) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(parameters, limit)
    for parameter, expected in zip(parameters, by_hand, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-5, atol=0)  # torch adds 1e-6 to the norm
    direction = torch.cat([gradient.flatten() for gradient in gradients])
    clipped = torch.cat([gradient.flatten() for gradient in by_hand])
    assert float(torch.nn.functional.cosine_similarity(direction, clipped, dim=0)) == pytest.approx(1.0, abs=1e-6)
    assert float(clipped.norm()) == pytest.approx(limit, rel=1e-6)
    by_value = direction.clamp(-limit, limit)  # clipping by value changes the direction
    assert float(torch.nn.functional.cosine_similarity(direction, by_value, dim=0)) < 0.99
