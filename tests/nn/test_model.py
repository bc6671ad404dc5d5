"""StackedRNN equals RNN, LSTM and GRU of torch.nn. CharRNN is an embedding, a StackedRNN and an output layer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from support.model_configs import small_config
from support.torch_twins import state_parts, torch_state, torch_twin
from torch import nn
from torch.nn import functional as F

from chargen.cell_types import CELL_TYPES
from chargen.config import RECURRENT_INITS, ModelConfig
from chargen.nn.loss import IGNORE_INDEX
from chargen.nn.model import CharRNN, StackedRNN, drop_weights, initialize_recurrent
from chargen.nn.unroll import unroll_reference
from chargen.storage.model_file import ModelFile


def layers(cell: str, hidden_size: int, num_layers: int = 1, **changes) -> ModelConfig:
    return small_config(cell, hidden_size=hidden_size, num_layers=num_layers, **changes)


@pytest.mark.parametrize("direction", ["to torch", "from torch"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("name", CELL_TYPES)
def test_equals_torch_nn(name: str, num_layers: int, direction: str) -> None:
    """Outputs, final state and every gradient in float64, with the state dict loaded in either direction."""
    torch.manual_seed(5)
    ours = StackedRNN(6, layers(name, 7, num_layers)).double()
    theirs = torch_twin(name, 6, 7, num_layers).double()
    if direction == "to torch":
        theirs.load_state_dict(ours.state_dict())
    else:
        ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(9, 4, 6, dtype=torch.double)
    states = tuple(
        tuple(torch.randn(4, 7, dtype=torch.double) for _ in range(ours.cell.num_states)) for _ in range(num_layers)
    )
    results = []
    for net, state in ((ours, states), (theirs, torch_state(states))):
        x = inputs.clone().requires_grad_()
        outputs, final = net(x, state)
        parts = state_parts(torch_state(final) if net is ours else final)
        loss = outputs.sin().sum() + sum(part.cos().sum() for part in parts)
        results.append([outputs, *parts, *torch.autograd.grad(loss, [x, *net.parameters()])])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CELL_TYPES)
def test_dropout_mask_is_the_same_at_all_ticks(name: str) -> None:
    """Each output of a lane is dropped at all ticks or at none, and the remaining ones are scaled up."""
    torch.manual_seed(0)
    net = StackedRNN(6, layers(name, 50, dropout=0.4))
    inputs = torch.randn(12, 8, 6)
    dropped, _ = net.train()(inputs)
    complete, _ = net.eval()(inputs)
    mask = dropped / complete
    assert {round(value, 3) for value in mask.unique().tolist()} == {0.0, round(1 / 0.6, 3)}
    assert torch.allclose(mask, mask[:1].expand_as(mask), atol=1e-4)
    # 400 draws of probability 0.6: five standard deviations are 0.12
    assert abs((mask[0] > 0).float().mean().item() - 0.6) < 0.12


@pytest.mark.parametrize("name", CELL_TYPES)
def test_dropped_weights_equal_torch_nn_with_those_weights(name: str) -> None:
    """The same recurrent matrices serve all ticks of a window, and their mask applies to the gradient."""
    net = StackedRNN(6, layers(name, 9, 2, weight_dropout=0.25)).double().train()
    twin = torch_twin(name, 6, 9, 2).double()
    inputs = torch.randn(5, 3, 6, dtype=torch.float64)
    torch.manual_seed(7)
    outputs, _ = net(inputs)
    torch.manual_seed(7)
    dropped = {f"weight_hh_l{layer}": drop_weights(net.weights(layer)[1].detach(), 0.25) for layer in range(2)}
    twin.load_state_dict({**net.state_dict(), **dropped})
    expected, _ = twin(inputs)
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-13)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    for layer in range(2):
        scale = (dropped[f"weight_hh_l{layer}"] != 0).double() / 0.75
        got, want = net.weights(layer)[1].grad, twin.get_parameter(f"weight_hh_l{layer}").grad
        torch.testing.assert_close(got, want * scale, rtol=1e-10, atol=1e-13)
    assert torch.equal(net.eval()(inputs)[0], net(inputs)[0])


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.999])
def test_drop_weights_drops_the_given_fraction_and_keeps_the_mean(fraction: float) -> None:
    """Of 100,003 weights, within five standard deviations."""
    torch.manual_seed(0)
    dropped = drop_weights(torch.ones(100_003), fraction)
    rounded = min(255, round(256 * fraction)) / 256
    assert abs((dropped == 0).float().mean().item() - rounded) < 5 * (rounded * (1 - rounded) / 100_003) ** 0.5
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - rounded)])


def test_dropout_applies_between_layers() -> None:
    """If all outputs of the first layer are dropped, the state of the second one does not depend on the text."""
    torch.manual_seed(0)
    net = StackedRNN(6, layers("gru", 5, 2, dropout=1.0 - 1e-9)).train()
    (_, (one,)), (_, (other,)) = (net(torch.randn(4, 2, 6))[1] for _ in range(2))
    assert torch.equal(one, other)
    net.dropout = 0.0
    (_, (one,)), (_, (other,)) = (net(torch.randn(4, 2, 6))[1] for _ in range(2))
    assert not torch.equal(one, other)


def test_residual_connection_adds_the_outputs_of_the_layer_below() -> None:
    torch.manual_seed(0)
    net = StackedRNN(6, layers("gru", 5, 2, residual=True))
    inputs = torch.randn(7, 2, 6)
    first, second = nn.GRU(6, 5), nn.GRU(5, 5)
    state_dict = net.state_dict()
    first.load_state_dict({k: v for k, v in state_dict.items() if k.endswith("l0")})
    second.load_state_dict({k[:-1] + "0": v for k, v in state_dict.items() if k.endswith("l1")})
    below, _ = first(inputs)
    torch.testing.assert_close(net(inputs)[0], second(below)[0] + below)


@pytest.mark.parametrize("name", CELL_TYPES)
def test_initial_weights_are_orthogonal_and_only_the_open_gate_has_a_bias(name: str) -> None:
    net = StackedRNN(3, layers(name, 16, 2))
    for layer in range(2):
        _, weight_hh, bias_ih, bias_hh = net.weights(layer)
        for gate in weight_hh.split(16):
            torch.testing.assert_close(gate @ gate.t(), torch.eye(16), rtol=0, atol=1e-5)  # float32 rounding
        expected = torch.zeros(net.cell.num_gates, 16)
        if CELL_TYPES[name].open_gate is not None:
            expected[CELL_TYPES[name].open_gate] = 1
        assert torch.equal((bias_ih + bias_hh).reshape(-1, 16), expected)


def test_open_gate_of_the_lstm_is_the_forget_gate() -> None:
    """The second of i, f, g, o in the order of torch.nn."""
    assert CELL_TYPES["lstm"].open_gate == 1
    assert CELL_TYPES["rnn"].open_gate is None
    assert CELL_TYPES["gru"].open_gate is None


@pytest.mark.parametrize("name", CELL_TYPES)
def test_parameters_are_those_that_the_config_announces(name: str) -> None:
    """Names, shapes and total size, from which sizes are estimated and files are checked without torch."""
    for config in (small_config(name), small_config(name, head_size=3)):
        parameters = dict(CharRNN(config).named_parameters())
        assert {key: tuple(value.shape) for key, value in parameters.items()} == config.parameter_shapes()
        assert sum(value.numel() for value in parameters.values()) == config.num_parameters


@pytest.mark.parametrize("name", CELL_TYPES)
def test_table_lookup_and_product_give_the_same(name: str) -> None:
    """A window of at least V characters uses a table of input products, a shorter one computes them one by one."""
    torch.manual_seed(2)
    model = CharRNN(small_config(name)).double()
    ids = torch.randint(11, (4, 6))
    results = []
    for logits in (model(ids)[0], torch.cat([model(lane[None])[0] for lane in ids])):  # 24 >= V, then 6 < V
        results.append([logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CELL_TYPES)
def test_char_rnn_equals_embedding_torch_nn_and_linear(name: str) -> None:
    torch.manual_seed(2)
    model = CharRNN(small_config(name)).double()
    net = torch_twin(name, 5, 8, 2, batch_first=True).double()
    net.load_state_dict(model.recurrence.state_dict())
    ids = torch.randint(11, (3, 9))
    logits, _ = model(ids)
    outputs, _ = net(F.embedding(ids, model.embedding.weight))
    torch.testing.assert_close(logits, F.linear(outputs, model.head.weight, model.head.bias), rtol=1e-10, atol=1e-12)
    model.recurrence.unroll = unroll_reference
    torch.testing.assert_close(model(ids)[0], logits, rtol=1e-10, atol=1e-12)


def test_a_smaller_head_reads_a_projection_of_the_outputs() -> None:
    """Logits, loss and every gradient in float64, against plain PyTorch."""
    torch.manual_seed(2)
    model = CharRNN(small_config("lstm", head_size=3)).double()
    projection, head = nn.Linear(8, 3).double(), nn.Linear(3, 11).double()
    assert model.projection is not None
    projection.load_state_dict(model.projection.state_dict())
    head.load_state_dict(model.head.state_dict())
    ids, targets = torch.randint(11, (2, 4, 9))
    outputs, _, _ = model.recurrence.run_layers(model._input_gates(ids.t()))
    logits = head(projection(outputs)).transpose(0, 1)
    torch.testing.assert_close(model(ids)[0], logits, rtol=1e-10, atol=1e-12)
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    loss, _ = model.cross_entropy(ids, targets)
    torch.testing.assert_close(loss, nats, rtol=1e-10, atol=1e-12)
    loss.backward()
    want = torch.autograd.grad(nats, [*projection.parameters(), *head.parameters()])
    got = [*model.projection.parameters(), *model.head.parameters()]
    for parameter, gradient in zip(got, want, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12)


def test_a_smaller_head_computes_the_same_with_kernels() -> None:
    torch.manual_seed(2)
    model = CharRNN(small_config("gru", head_size=3))
    ids, targets = torch.randint(11, (2, 4, 9))
    results = []
    for kind in (model, CharRNN(model.config).double()):
        kind.load_state_dict(model.state_dict())
        loss, _ = kind.cross_entropy(ids, targets)
        results.append([loss, *torch.autograd.grad(loss, list(kind.parameters()))])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [8, 100])
def test_a_head_of_the_size_of_h_has_no_projection(size: int) -> None:
    config = small_config("gru", head_size=size)
    assert CharRNN(config).projection is None
    assert config.parameter_shapes() == small_config("gru").parameter_shapes()


@pytest.mark.parametrize("name", CELL_TYPES)
def test_cross_entropy_is_that_of_the_logits(name: str) -> None:
    """Summed over all targets but the ignored ones, with the same states."""
    torch.manual_seed(2)
    model = CharRNN(small_config(name)).double()
    ids, targets = torch.randint(11, (2, 3, 9))
    targets[0, 4] = IGNORE_INDEX
    logits, states = model(ids)
    total, same_states = model.cross_entropy(ids, targets)
    kept = targets != IGNORE_INDEX
    want = -torch.log_softmax(logits[kept], -1).gather(1, targets[kept][:, None]).sum()
    torch.testing.assert_close(total, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(same_states, states)


def test_state_carries_the_past_from_window_to_window() -> None:
    torch.manual_seed(2)
    model = CharRNN(small_config("lstm")).double()
    ids = torch.randint(11, (3, 20))
    at_once, _ = model(ids)
    first, states = model(ids[:, :7])
    second, _ = model(ids[:, 7:], states)
    torch.testing.assert_close(torch.cat((first, second), dim=1), at_once, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CELL_TYPES)
def test_mean_states_equal_the_mean_over_texts_that_are_read_one_by_one(name: str) -> None:
    torch.manual_seed(5)
    model = CharRNN(small_config(name, dropout=0.4, weight_dropout=0.4)).train()
    ids = torch.randint(11, (6, 9))
    means, generator = model.mean_states(ids), torch.get_rng_state()
    assert model.training
    model.eval()
    behind = [torch.cat([torch.cat(state) for state in model(text[None])[1]]) for text in ids]
    torch.testing.assert_close(means, torch.stack(behind).mean(0), rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("name", CELL_TYPES)
def test_model_file_gives_the_same_model_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = CharRNN(small_config(name, residual=True, dropout=0.2)).eval()
    model.to_model_file("{}", {"start_id": 1}).save(tmp_path / "m.safetensors")
    again = CharRNN.from_model_file(ModelFile.load(tmp_path / "m.safetensors")).eval()
    ids = torch.randint(11, (2, 13))
    assert torch.equal(model(ids)[0], again(ids)[0])
    assert again.config == model.config


def test_weights_that_do_not_fit_the_config_are_refused() -> None:
    file = CharRNN(small_config("lstm")).to_model_file("{}", {})
    wrong = dataclasses.replace(file, config=dataclasses.replace(file.config, hidden_size=9))
    with pytest.raises(ValueError, match="do not fit"):
        CharRNN.from_model_file(wrong)


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", RECURRENT_INITS)
def test_the_spectral_radius_of_the_recurrent_weights_at_the_start(kind: str, gain: float) -> None:
    torch.manual_seed(0)
    H = 300
    weight = initialize_recurrent(torch.empty(H, H), kind, gain)
    radius = float(torch.linalg.eigvals(weight.double()).abs().max())
    assert radius == pytest.approx(gain, rel=0.1 if kind == "normal" else 1e-4)  # the circular law holds for large H
    largest = float(torch.linalg.matrix_norm(weight.double(), 2))
    assert largest == pytest.approx(2 * gain if kind == "normal" else gain, rel=0.05)


def test_each_gate_begins_with_its_own_recurrent_matrix() -> None:
    config = ModelConfig(vocab_size=5, cell="lstm", hidden_size=6, recurrent_init="identity", recurrent_gain=0.7)
    weight = StackedRNN(4, config).get_parameter("weight_hh_l0")
    torch.testing.assert_close(weight, torch.cat([0.7 * torch.eye(6)] * 4))
