"""Text from a trained model: encode a prompt, write on from it, decode as it is written; or score a given text.

Each text has a random generator of its own, so a text depends on its seed alone.

Dimensions: N characters, V vocabulary.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from chargen import native
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer
from chargen.errors import FileError
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork
from chargen.sampling.params import SamplingParams
from chargen.sampling.session import Network, Seed, Session
from chargen.sampling.weights import Precision
from chargen.storage.model_file import ModelFile
from chargen.storage.run_folder import load_model

_CHARACTERS_PER_STEP = 32  # between two pieces of text; about a millisecond

LOGITS_PER_STEP = 1 << 20
"""How many logits are held at once while a text is scored."""


def load(path: str | os.PathLike[str] | None = None, precision: Precision = "float32") -> TextGenerator:
    """Load a trained model.

    Args:
        path: the folder of a run, a `model.safetensors` or a `last.ckpt`; None for the newest run.
        precision: of the weights: `float32`, or `int8`, which is faster and scores a little worse.

    Raises:
        FileError: there is no model, or it cannot be read.
    """
    return TextGenerator(load_model(None if path is None else Path(path)), precision)


class TextGenerator:
    """A trained model that writes and scores text.

    Args:
        model_file: the model; `ModelFile.load` reads it.
        precision: of the weights: `float32`, or `int8`, which is faster and scores a little worse.

    Attributes:
        network: the compiled network; the one in numpy if there are no kernels for its cell.
        tokenizer: text to ids and back.
        start_id: the id that the model reads before the first character.
        cleaning: how the corpus was cleaned before the model learned it.

    Raises:
        FileError: the parts of the model do not fit together.
    """

    def __init__(self, model_file: ModelFile, precision: Precision = "float32") -> None:
        compiled = native.library() is not None and native.has_cell(model_file.config.cell)
        self.network: Network = (NativeNetwork if compiled else NumpyNetwork)(model_file, precision)
        self.tokenizer = Tokenizer.from_json(model_file.tokenizer)
        if self.tokenizer.vocab_size != self.network.vocab_size:
            raise FileError("the model's weights do not fit its tokenizer")
        self.start_id = model_file.start_id
        self.cleaning = model_file.cleaning

    # --------------------------------------------------------------------------- writing

    def generate(
        self,
        prompt: str = "",
        *,
        max_length: int = 1000,
        params: SamplingParams = SamplingParams(),
        seed: Seed = None,
        ignore_eos: bool = False,
    ) -> str:
        """Continue a prompt and return the whole continuation. The arguments are those of `stream`."""
        return "".join(self.stream(prompt, max_length=max_length, params=params, seed=seed, ignore_eos=ignore_eos))

    def stream(
        self,
        prompt: str = "",
        *,
        max_length: int = 1000,
        params: SamplingParams = SamplingParams(),
        seed: Seed = None,
        ignore_eos: bool = False,
    ) -> Iterator[str]:
        """Continue a prompt piece by piece.

        Args:
            prompt: text to continue. It is not repeated.
            max_length: how many characters to write at most; bytes, for a model of bytes.
            params: how each character is chosen.
            seed: the same seed writes the same text; None writes another text each time.
            ignore_eos: write on after the end of an article, instead of stopping there.

        Returns:
            An iterator over pieces of text of at least one character.

        Raises:
            ArgumentError: `max_length` or `seed` is out of range.
        """
        pieces = self.stream_many([seed], prompt, max_length=max_length, params=params, ignore_eos=ignore_eos)
        return (text for _, text in pieces)

    def stream_many(
        self,
        seeds: Sequence[Seed],
        prompt: str = "",
        *,
        max_length: int = 1000,
        params: SamplingParams = SamplingParams(),
        ignore_eos: bool = False,
    ) -> Iterator[tuple[int, str]]:
        """Write several continuations of a prompt at once. Each is what `stream` writes with its seed.

        Args:
            seeds: one seed for each continuation.
            prompt: as for `stream`.
            max_length: as for `stream`, of each continuation.
            params: as for `stream`.
            ignore_eos: as for `stream`.

        Returns:
            An iterator over the number of a continuation, counted from 0, and the next piece of its text.

        Raises:
            ArgumentError: `max_length` or a seed is out of range.
        """
        if not seeds:
            return iter(())
        ids, _ = self.encode_prompt(prompt)
        # A model that was trained on one article has never read the end of one, so it must not write it.
        banned = (UNKNOWN_ID,) if self.start_id == END_ID else (UNKNOWN_ID, END_ID)
        first = self.network.open(
            [self.start_id, *ids], params, seed=seeds[0], max_length=max_length, banned=banned,
            stop=None if ignore_eos else END_ID,
        )  # fmt: skip
        return self._pieces([first, *(first.fork(seed) for seed in seeds[1:])], ignore_eos)

    def _pieces(self, sessions: Sequence[Session], ignore_eos: bool) -> Iterator[tuple[int, str]]:
        """Run sessions to their ends. Yield the number of a session and a piece of its text."""
        decoders = [self.tokenizer.decoder() for _ in sessions]
        active, num_characters = dict(enumerate(sessions)), 1  # the first character comes as soon as possible
        while active:
            written = self.network.step(list(active.values()), num_characters)
            num_characters = _CHARACTERS_PER_STEP
            for (number, session), ids in zip(list(active.items()), written, strict=True):
                decoder = decoders[number]
                text = "".join(decoder.decode(id) + ("\n" if id == END_ID and ignore_eos else "") for id in ids)
                if session.finished:
                    text += decoder.flush()
                    del active[number]
                if text:
                    yield number, text

    # --------------------------------------------------------------------------- reading

    def score(self, text: str) -> np.ndarray:
        """Return the loss of each character given all characters before it.

        A character that the model does not know is scored as the unknown character.

        Args:
            text: cleaned like a prompt before it is scored.

        Returns:
            -ln p of each of the N characters, nats, (N,) float64; of each byte, for a model of bytes.
        """
        targets = self.tokenizer.encode(self.clean(text))
        ids = np.concatenate(([self.start_id], targets[:-1]))
        nats, states = np.empty(len(targets)), None
        size = max(1, LOGITS_PER_STEP // self.network.vocab_size)
        for begin in range(0, len(targets), size):
            piece = slice(begin, begin + size)
            logits, states = self.network.predict(ids[None, piece], states)
            shifted = logits[0].astype(np.float64)
            shifted -= shifted.max(axis=1, keepdims=True)
            wanted = np.take_along_axis(shifted, targets[piece, None], axis=1)[:, 0]
            nats[piece] = np.log(np.exp(shifted).sum(axis=1)) - wanted
        return nats

    def clean(self, text: str) -> str:
        """Return a text cleaned as the corpus was before the model learned it."""
        if self.cleaning["normalize_newlines"]:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return unicodedata.normalize("NFC", text) if self.cleaning["normalize_unicode"] else text

    def encode_prompt(self, prompt: str) -> tuple[list[int], list[str]]:
        """Return the ids of a prompt, and the characters in it that the model does not know, each once.

        Unknown characters are encoded as the unknown id if the training text had some; otherwise they are left out.
        """
        prompt = self.clean(prompt)
        ids = self.tokenizer.encode(prompt)
        if self.cleaning["min_count"] <= 1:
            ids = ids[ids != UNKNOWN_ID]
        return ids.tolist(), self.tokenizer.unknown(prompt)
