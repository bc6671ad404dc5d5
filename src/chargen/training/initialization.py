"""Begin with the weights of a trained model: those of the recurrence, and the rows of characters that both models know.

A character has a row in the embedding and one in the head. New characters keep the rows of a new model. Their biases
are the mean of the known ones, so that they are neither frequent nor impossible at first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from chargen.corpus.tokenizer import END_ID, Tokenizer
from chargen.nn.model import CharRNN
from chargen.storage.model_file import ModelFile


class KnownSymbols(NamedTuple):
    """How the vocabularies of two models overlap.

    Attributes:
        known: symbols of the new model that the trained one knows.
        new: symbols that it does not know.
        unused: symbols of the trained model that the new one does not have.
    """

    known: int
    new: int
    unused: int


def known_symbols(tokenizer: Tokenizer, trained: Tokenizer) -> KnownSymbols:
    """Compare the symbols of a new model with those of a trained one."""
    ours, theirs = set(tokenizer.symbols), set(trained.symbols)
    return KnownSymbols(len(ours & theirs), len(ours - theirs), len(theirs - ours))


@torch.no_grad()
def initialize(model: CharRNN, tokenizer: Tokenizer, trained: ModelFile) -> None:
    """Give a new model the weights of a trained one of the same shape.

    Args:
        model: the new model.
        tokenizer: its tokenizer.
        trained: the trained model.

    Raises:
        ValueError: the shapes differ in more than the vocabulary.
    """
    number = {symbol: id for id, symbol in enumerate(Tokenizer.from_json(trained.tokenizer).symbols, start=END_ID + 1)}
    pairs = [(id, number[symbol]) for id, symbol in enumerate(tokenizer.symbols, start=END_ID + 1) if symbol in number]
    special = [(id, id) for id in range(END_ID + 1)]
    ours, theirs = (torch.tensor(ids) for ids in zip(*special, *pairs, strict=True))
    for name, weight in model.state_dict().items():
        source = torch.from_numpy(trained.weights[name])
        if name not in ("embedding.weight", "head.weight", "head.bias"):
            if source.shape != weight.shape:
                raise ValueError(f"{name} has the shape {tuple(source.shape)}, not {tuple(weight.shape)}")
            weight.copy_(source)
            continue
        if name == "head.bias":
            weight.fill_(source[theirs].mean())
        weight[ours] = source[theirs].to(weight)
