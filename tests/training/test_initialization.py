"""A new model computes what the trained one did, for the characters that both know."""

from __future__ import annotations

import math

import pytest
import torch
from support.environment import CELLS as NAMES

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import END_ID, Tokenizer
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ModelFile
from chargen.training.initialization import initialize, known_symbols


def trained_model(cell: str, symbols: str = "abcdef") -> ModelFile:
    torch.manual_seed(3)
    tokenizer = Tokenizer(symbols)
    model = CharRNN(ModelConfig(tokenizer.vocab_size, cell, 6, 2, 4))
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    return model.to_model_file(tokenizer.to_json(), {"start_id": 2})


def new_model(cell: str, tokenizer: Tokenizer, hidden_size: int = 6) -> CharRNN:
    torch.manual_seed(7)
    return CharRNN(ModelConfig(tokenizer.vocab_size, cell, hidden_size, 2, 4, dropout=0.3)).eval()


@pytest.mark.parametrize("cell", NAMES)
def test_known_characters_are_read_and_predicted_as_before(cell: str) -> None:
    """Between known characters, the ratios of probabilities are the same; only the ids differ."""
    trained = trained_model(cell)
    before, tokenizer = CharRNN.from_model_file(trained).eval(), Tokenizer("xfbcéa")
    model = new_model(cell, tokenizer)
    initialize(model, tokenizer, trained)
    old, text = Tokenizer.from_json(trained.tokenizer), "abcfacbbfa"
    with torch.no_grad():
        (theirs, _), (ours, _) = (
            network(torch.from_numpy(own.encode(text))[None]) for network, own in ((before, old), (model, tokenizer))
        )
    known = "abcf"
    torch.testing.assert_close(ours[..., tokenizer.encode(known)], theirs[..., old.encode(known)])
    torch.testing.assert_close(ours[..., : END_ID + 1], theirs[..., : END_ID + 1])


@pytest.mark.parametrize("cell", NAMES)
def test_new_characters_have_the_rows_of_a_new_model(cell: str) -> None:
    trained, tokenizer = trained_model(cell), Tokenizer("xfbcéa")
    model = new_model(cell, tokenizer)
    initialize(model, tokenizer, trained)
    fresh, new = new_model(cell, tokenizer), tokenizer.encode("xé")
    assert torch.equal(model.embedding.weight[new], fresh.embedding.weight[new])
    assert torch.equal(model.head.weight[new], fresh.head.weight[new])
    old = Tokenizer.from_json(trained.tokenizer)
    known = [0, 1, *old.encode("fbca").tolist()]
    mean = math.fsum(trained.weights["head.bias"][known].tolist()) / len(known)
    torch.testing.assert_close(model.head.bias[new], torch.full((2,), mean))


def test_symbols_are_compared() -> None:
    assert known_symbols(Tokenizer("xfbcéa"), Tokenizer("abcdef")) == (4, 2, 2)


def test_other_shapes_are_a_defect() -> None:
    tokenizer = Tokenizer("abc")
    with pytest.raises(ValueError, match="has the shape"):
        initialize(new_model("gru", tokenizer, hidden_size=5), tokenizer, trained_model("gru"))
