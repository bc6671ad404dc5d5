"""Models, sampling parameters and sessions for the tests of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from chargen.config import ModelConfig
from chargen.corpus.tokenizer import END_ID, Tokenizer
from chargen.nn.model import CharRNN
from chargen.sampling.generator import TextGenerator
from chargen.sampling.params import SamplingParams
from chargen.sampling.session import Network, Seed, Session
from chargen.storage.model_file import ModelFile

VOCAB_SIZE = 13
SYMBOLS = "abcdefghijk"
"""With the two special ids, as many as `VOCAB_SIZE`."""

sampling_params = st.builds(
    SamplingParams,
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 25),
    top_p=st.floats(0.01, 1),
    min_p=st.floats(0, 1),
)

extreme_params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 5e-324, 1e-320, 1e-46, 1e-3, 1.0, 1e7, 1e12, 1e46, 1.7e308]),
    top_k=st.sampled_from([0, 1, 3, VOCAB_SIZE, 2**31, 2**32 + 1, 2**63 - 1, 2**63, 2**64, 10**40]),
    top_p=st.sampled_from([5e-324, 0.25, 0.5, 1 - 2**-53, 1.0]),
    min_p=st.sampled_from([0.0, 5e-324, 0.5, 1 - 2**-53, 1.0]),
)


def random_model(
    cell: str = "gru", hidden_size: int = 20, num_layers: int = 2, residual: bool = True, **changes: Any
) -> CharRNN:
    """Return an untrained model. Its biases matter, and its distributions leave several characters to choose from.

    `changes` are further fields of `ModelConfig`.
    """
    torch.manual_seed(hidden_size + VOCAB_SIZE)
    model = CharRNN(ModelConfig(VOCAB_SIZE, cell, hidden_size, num_layers, 5, residual=residual, **changes)).eval()
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, std=0.5 if "head" in name else 0.7 / hidden_size**0.5 if "hh" in name else 0.7)
    return model


def random_model_file(
    cell: str = "gru",
    hidden_size: int = 20,
    num_layers: int = 2,
    residual: bool = True,
    metadata: dict[str, Any] | None = None,
    **changes: Any,
) -> ModelFile:
    """Return the file of `random_model`, with a tokenizer of `SYMBOLS`."""
    model = random_model(cell, hidden_size, num_layers, residual, **changes)
    return model.to_model_file(Tokenizer(SYMBOLS).to_json(), metadata or {"start_id": END_ID})


def run_to_end(network: Network, session: Session, num_characters: int = 1000) -> list[int]:
    """Step one session until its text has ended."""
    ids: list[int] = []
    while not session.finished:
        ids += network.step([session], num_characters)[0]
    return ids


def write(network: Network, prompt_ids: Sequence[int], params: SamplingParams, **options: Any) -> list[int]:
    """Open a session, write its whole text and return it. The options are those of `Network.open`."""
    return run_to_end(network, network.open(prompt_ids, params, **options))


def continue_in_process(network: Network, session: Session) -> list[int]:
    """Finish a text in another process. It is a function of a module, so that the process can import it."""
    return run_to_end(network, session)


def texts_of(generator: TextGenerator, seeds: Sequence[Seed]) -> list[str]:
    """Write a text for each seed. It is a function of a module, so that a process can import it."""
    texts = [""] * len(seeds)
    for number, piece in generator.stream_many(seeds, "ab", max_length=40):
        texts[number] += piece
    return texts


def next_logits(network: Network, ids: Sequence[int]) -> np.ndarray:
    """Return the logits (V,) behind some ids."""
    return network.read(np.array([ids]))[0][0]
