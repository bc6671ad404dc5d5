"""StackedRNN is torch.nn's RNN, LSTM and GRU; CharRNN is an embedding, that, and a head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import CELLS as NAMES
from torch import nn
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.nn.model import CharRNN, StackedRNN, drop_weights
from chargen.nn.unroll import unroll_reference
from chargen.storage.model_file import ModelFile

TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def torch_state(name: str, states) -> object:
    """Our state as torch.nn takes it: (L, B, H), a pair for the lstm."""
    parts = [torch.stack(part) for part in zip(*states, strict=True)]
    return tuple(parts) if name == "lstm" else parts[0]


@pytest.mark.parametrize("direction", ["to torch", "from torch"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_equals_torch_nn(name: str, num_layers: int, direction: str) -> None:
    """Outputs, last state and every gradient, in float64, with the weights carried over either way."""
    torch.manual_seed(5)
    ours = StackedRNN(name, 6, 7, num_layers).double()
    theirs = TORCH[name](6, 7, num_layers).double()
    if direction == "to torch":
        theirs.load_state_dict(ours.state_dict())
    else:
        ours.load_state_dict(theirs.state_dict())
    inputs = torch.randn(9, 4, 6, dtype=torch.double)
    states = tuple(
        tuple(torch.randn(4, 7, dtype=torch.double) for _ in range(ours.cell.num_states)) for _ in range(num_layers)
    )
    results = []
    for net, state in ((ours, states), (theirs, torch_state(name, states))):
        x = inputs.clone().requires_grad_()
        outputs, last = net(x, state)
        last = torch_state(name, last) if net is ours else last
        loss = outputs.sin().sum() + sum(part.cos().sum() for part in (last if name == "lstm" else (last,)))
        results.append(
            [outputs, *(last if name == "lstm" else (last,)), *torch.autograd.grad(loss, [x, *net.parameters()])]
        )
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_one_dropout_mask_serves_the_window(name: str) -> None:
    """Every output is dropped at all ticks of a lane or at none, and what is left is scaled up."""
    torch.manual_seed(0)
    net = StackedRNN(name, 6, 50, dropout=0.4)
    inputs = torch.randn(12, 8, 6)
    dropped, _ = net.train()(inputs)
    whole, _ = net.eval()(inputs)
    mask = dropped / whole
    assert {round(value, 3) for value in mask.unique().tolist()} == {0.0, round(1 / 0.6, 3)}
    assert torch.allclose(mask, mask[:1].expand_as(mask), atol=1e-4)
    # 400 draws of probability 0.6: five standard deviations are 0.12
    assert abs((mask[0] > 0).float().mean().item() - 0.6) < 0.12


@pytest.mark.parametrize("name", NAMES)
def test_dropped_weights_are_dropped_for_the_window(name: str) -> None:
    """A window in training is what torch makes of the matrices that were used; the gradient passes the same mask."""
    net = StackedRNN(name, 6, 9, num_layers=2, weight_dropout=0.25).double().train()
    inputs, twin = torch.randn(5, 3, 6, dtype=torch.float64), {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[name]
    torch.manual_seed(7)
    outputs, _ = net(inputs)
    torch.manual_seed(7)
    used = {f"weight_hh_l{layer}": drop_weights(net.weights(layer)[1].detach(), 0.25) for layer in range(2)}
    plain = twin(6, 9, 2).double()
    plain.load_state_dict({**net.state_dict(), **used})
    expected, _ = plain(inputs)
    torch.testing.assert_close(outputs, expected, rtol=1e-10, atol=1e-13)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    for layer in range(2):
        kept = (used[f"weight_hh_l{layer}"] != 0).double() / 0.75
        got, want = net.weights(layer)[1].grad, plain.get_parameter(f"weight_hh_l{layer}").grad
        torch.testing.assert_close(got, want * kept, rtol=1e-10, atol=1e-13)
    assert torch.equal(net.eval()(inputs)[0], net(inputs)[0])


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.999])
def test_as_many_weights_are_dropped_as_asked(fraction: float) -> None:
    """Of 100,003, and the mean stays: within five standard deviations of a coin."""
    torch.manual_seed(0)
    dropped = drop_weights(torch.ones(100_003), fraction)
    bound = min(255, round(256 * fraction)) / 256
    assert abs((dropped == 0).float().mean().item() - bound) < 5 * (bound * (1 - bound) / 100_003) ** 0.5
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - bound)])


def test_dropout_stands_between_layers() -> None:
    """With everything below dropped, the second layer's state knows nothing of the text."""
    torch.manual_seed(0)
    net = StackedRNN("gru", 6, 5, num_layers=2, dropout=1.0 - 1e-9).train()
    (_, (one,)), (_, (other,)) = (net(torch.randn(4, 2, 6))[1] for _ in range(2))
    assert torch.equal(one, other)
    net.dropout = 0.0
    (_, (one,)), (_, (other,)) = (net(torch.randn(4, 2, 6))[1] for _ in range(2))
    assert not torch.equal(one, other)


def test_residual_adds_the_layer_below() -> None:
    torch.manual_seed(0)
    net = StackedRNN("gru", 6, 5, num_layers=2, residual=True)
    inputs = torch.randn(7, 2, 6)
    first, second = nn.GRU(6, 5), nn.GRU(5, 5)
    state = net.state_dict()
    first.load_state_dict({k: v for k, v in state.items() if k.endswith("l0")})
    second.load_state_dict({k[:-1] + "0": v for k, v in state.items() if k.endswith("l1")})
    below, _ = first(inputs)
    torch.testing.assert_close(net(inputs)[0], second(below)[0] + below)


@pytest.mark.parametrize("name", NAMES)
def test_weights_begin_orthogonal_and_the_forget_gate_open(name: str) -> None:
    net = StackedRNN(name, 3, 16, num_layers=2)
    for layer in range(2):
        _, weight_hh, bias_ih, bias_hh = net.weights(layer)
        for gate in weight_hh.split(16):
            torch.testing.assert_close(gate @ gate.t(), torch.eye(16), rtol=0, atol=1e-5)  # float32 rounding
        expected = torch.zeros(net.cell.num_gates, 16)
        if name == "lstm":
            expected[1] = 1
        assert torch.equal((bias_ih + bias_hh).reshape(-1, 16), expected)


def settings(**changes) -> ModelConfig:
    return ModelConfig(**{**dict(vocab_size=11, cell="lstm", hidden_size=8, num_layers=2, embedding_size=5), **changes})


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_the_product(name: str) -> None:
    """A window wider than the vocabulary looks characters up, a narrower one multiplies: all is the same."""
    torch.manual_seed(2)
    model = CharRNN(settings(cell=name)).double()
    ids = torch.randint(11, (4, 6))
    results = []
    for repeats in (1, 3):  # 24 characters look up; one lane alone, 6 < 11, multiplies
        logits = torch.cat([model(lane[None])[0] for lane in ids]) if repeats == 1 else model(ids)[0]
        results.append([logits, *torch.autograd.grad(logits.sin().sum(), list(model.parameters()))])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_char_rnn_is_embedding_recurrence_head(name: str) -> None:
    torch.manual_seed(2)
    model = CharRNN(settings(cell=name)).double()
    net = TORCH[name](5, 8, 2, batch_first=True).double()
    net.load_state_dict(model.recurrence.state_dict())
    ids = torch.randint(11, (3, 9))
    logits, _ = model(ids)
    outputs, _ = net(F.embedding(ids, model.embedding.weight))
    torch.testing.assert_close(logits, F.linear(outputs, model.head.weight, model.head.bias), rtol=1e-10, atol=1e-12)
    model.recurrence.unroll = unroll_reference
    torch.testing.assert_close(model(ids)[0], logits, rtol=1e-10, atol=1e-12)


def test_the_state_carries_the_past() -> None:
    torch.manual_seed(2)
    model = CharRNN(settings()).double()
    ids = torch.randint(11, (3, 20))
    whole, _ = model(ids)
    first, states = model(ids[:, :7])
    second, _ = model(ids[:, 7:], states)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_portable_and_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = CharRNN(settings(cell=name, residual=True, dropout=0.2)).eval()
    model.to_model_file("{}", {"start_id": 1}).save(tmp_path / "m.safetensors")
    again = CharRNN.from_model_file(ModelFile.load(tmp_path / "m.safetensors")).eval()
    ids = torch.randint(11, (2, 13))
    assert torch.equal(model(ids)[0], again(ids)[0])
    assert again.settings == model.settings


def test_weights_that_do_not_fit_are_refused() -> None:
    portable = CharRNN(settings()).to_model_file("{}", {})
    portable.settings["hidden_size"] = 9
    with pytest.raises(ValueError, match="do not fit"):
        CharRNN.from_model_file(portable)
