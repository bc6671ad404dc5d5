"""Typing errors in a text that a small model knows well."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import Tokenizer
from chargen.insight.surprise import score_characters
from chargen.insight.typos import find_typos
from chargen.nn.model import CharRNN

SENTENCE = "the cat sat on the mat and the dog ran to the hut. "


@pytest.fixture(scope="module")
def reader() -> tuple[CharRNN, Tokenizer]:
    """A model that has read one sentence many times."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(SENTENCE)
    model = CharRNN(ModelConfig(tokenizer.vocab_size, "gru", 48, 1, 16, dropout=0.0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    ids = torch.from_numpy(tokenizer.encode(SENTENCE * 3).astype(np.int64))
    rows = torch.stack([ids[begin : begin + 81] for begin in range(0, 48, 6)])
    for _ in range(200):
        optimizer.zero_grad()
        loss, _ = model.cross_entropy(rows[:, :-1], rows[:, 1:])
        torch.autograd.backward(loss / rows[:, 1:].numel())
        optimizer.step()
    return model, tokenizer


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("sta", "sat"), ("maat", "mat"), ("dg", "dog"), ("rbn", "ran")],  # swapped, one more, one less, another
)
def test_each_kind_of_error_is_found_and_corrected(wrong: str, right: str, reader: tuple[CharRNN, Tokenizer]) -> None:
    model, tokenizer = reader
    text = SENTENCE + SENTENCE.replace(right, wrong, 1) + SENTENCE
    ids = np.insert(tokenizer.encode(text), 0, int(tokenizer.encode(" ")[0]))
    best = find_typos(model, ids, score_characters(model, ids))[0]
    position, removed, added, gain = best
    corrected = text[:position] + tokenizer.decode(added) + text[position + len(removed) :]
    assert corrected == SENTENCE * 3
    assert gain > 3.5


def test_a_text_without_errors_has_none(reader: tuple[CharRNN, Tokenizer]) -> None:
    model, tokenizer = reader
    ids = np.insert(tokenizer.encode(SENTENCE * 3), 0, int(tokenizer.encode(" ")[0]))
    assert find_typos(model, ids, score_characters(model, ids)) == []
