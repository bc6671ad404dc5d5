"""Gradient norms, update ratios and saturated gates of each part of a model, beside a computation of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from support.environment import CELLS
from support.runs import Watch, module_for, run

from chargen.nn.model import CharRNN
from chargen.training.diagnostics import LANES, Diagnostics, diagnostic_columns, saturation


class Weights(Callback):
    """Keeps the weights before and after each update."""

    def __init__(self) -> None:
        self.before: list[dict[str, torch.Tensor]] = []
        self.after: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, *_: Any) -> None:
        self.before.append({name: value.clone() for name, value in module.model.state_dict().items()})

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        self.after.append({name: value.clone() for name, value in module.model.state_dict().items()})


class Taken(Callback):
    """Keeps what is measured in each update."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        self.seen.append(self.diagnostics.take())


@pytest.mark.parametrize("cell", CELLS)
def test_norms_by_part_add_up_to_the_global_norm(cell: str, tmp_path: Path) -> None:
    """Before clipping: the threshold of 0.001 lies below every norm."""
    diagnostics, watch = Diagnostics(1), Watch()
    taken = Taken(diagnostics)
    run(module_for(cell, 4), tmp_path, diagnostics, taken, watch, gradient_clip_val=0.001)
    for measured, reported in zip(taken.seen, watch.seen, strict=True):
        norms = [value for name, value in measured.items() if name.startswith("gradient_norm_")]
        assert len(norms) == 4  # embedding, two layers, output
        assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(reported["gradient_norm"], rel=1e-5)


def test_update_ratios_are_those_of_the_weights(tmp_path: Path) -> None:
    diagnostics, weights = Diagnostics(1), Weights()
    taken = Taken(diagnostics)
    run(module_for("lstm", 3), tmp_path, diagnostics, taken, weights)
    for measured, before, after in zip(taken.seen, weights.before, weights.after, strict=True):
        layer = [name for name in before if name.endswith("_l1")]
        old = torch.cat([before[name].flatten() for name in layer])
        new = torch.cat([after[name].flatten() for name in layer])
        assert measured["update_ratio_layer1"] == pytest.approx(float((new - old).norm() / old.norm()), rel=1e-4)


def test_a_measurement_is_taken_at_the_interval_only(tmp_path: Path) -> None:
    diagnostics = Diagnostics(3)
    taken = Taken(diagnostics)
    module = module_for("gru", 7)
    run(module, tmp_path, diagnostics, taken)
    measured = [number for number, values in enumerate(taken.seen, 1) if values]
    assert measured == [3, 6]
    assert set(taken.seen[2]) == set(diagnostic_columns(module.model.config))


@pytest.mark.parametrize("cell", CELLS)
def test_saturated_gates_are_counted_as_torch_computes_them(cell: str) -> None:
    """One layer, gate by gate, from the outputs of `torch.nn` and the weights."""
    model: CharRNN = module_for(cell, 1, num_layers=1, dropout=0.0).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)  # so that some gates are saturated
    ids = torch.randint(2, 9, (LANES + 1, 6), generator=torch.Generator().manual_seed(0))
    _, states = model(ids[:, :5])
    found = saturation(model, ids[:, 5:], states)
    twin = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](4, 7)
    twin.load_state_dict(dict(model.recurrence.state_dict()))
    with torch.no_grad():
        x = model.embedding(ids[:LANES].t())
        outputs, _ = twin(x)
        a = x[5] @ twin.weight_ih_l0.t() + twin.bias_ih_l0 + outputs[4] @ twin.weight_hh_l0.t() + twin.bias_hh_l0
    places = {"rnn": {}, "lstm": {"i": 0, "f": 1, "o": 3}, "gru": {"r": 0, "z": 1}}[cell]
    expected = {}
    for gate, place in places.items():
        value = torch.sigmoid(a[:, 7 * place : 7 * (place + 1)])
        expected[f"saturated_{gate}"] = float(((value < 0.1) | (value > 0.9)).float().mean())
    if cell == "rnn":
        expected["saturated_h"] = float((outputs[5].abs() > 0.9).float().mean())
    assert found == pytest.approx(expected)
    assert all(0 < value < 1 for value in found.values())
