"""Text from a trained model: encode a prompt, write on from it, decode as it is written; or score a given text.

Each text has a random generator of its own, so a text depends on its seed alone.

Dimensions: N characters, V vocabulary.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from chargen import native
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer
from chargen.errors import ArgumentError, FileError
from chargen.sampling.arguments import check_type, whole_number
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork
from chargen.sampling.params import SamplingParams
from chargen.sampling.session import Network, Seed, Session, make_rng
from chargen.sampling.weights import Precision, check_precision
from chargen.storage.model_file import ModelFile
from chargen.storage.run_folder import load_model

Text = TypeVar("Text", str, bytes)
Written = TypeVar("Written", str, bytes, covariant=True)

_CHARACTERS_PER_STEP = 32  # between two pieces of text; about a millisecond

LOGITS_PER_STEP = 1 << 20
"""How many logits are held at once while a text is scored."""


def load(path: str | os.PathLike[str] | None = None, precision: Precision = "float32") -> TextGenerator:
    """Load a trained model.

    Args:
        path: the folder of a run, a `model.safetensors` or a `last.ckpt`, as a string or a path; `~` is the home
            folder. None stands for the newest run.
        precision: of the weights: `float32`, or `int8`, which is faster and scores a little worse.

    Raises:
        ArgumentError: `path` is not a path, or `precision` is neither of the two.
        FileError: there is no model, or it cannot be read.
    """
    check_precision(precision)
    return TextGenerator(load_model(path), precision)


def with_line_ends(text: str, line_end: str) -> str:
    """Return a text whose lines end as those of the training text; if that has LF, the text is not changed."""
    return text.replace("\r\n", "\n").replace("\n", line_end) if line_end != "\n" else text


class TextGenerator:
    """A trained model that writes and scores text.

    Several threads may use one generator at the same time, and so may a forked child of the process. A generator can be
    copied with `copy.deepcopy`, pickled, and sent to a spawned process; the copy writes the same texts. The iterators
    that `stream` and `stream_many` return belong to one thread and cannot be copied.

    **Seeds.** The same seed, prompt and parameters write the same text with the same model and the same chargen. With
    the precision `int8` this holds on every processor: the kernels sum integers exactly and round the same way for
    every instruction set. With `float32`, sums are rounded differently on processors without fused multiplication and
    addition and in numpy. A draw close to the border between two characters may then fall on the other side, about once
    in a million characters, and the text is another one from there on. The same holds for a draw in numpy, which is
    used without kernels, compared with a draw in compiled code.

    Args:
        model_file: the model; `load` reads it from a path.
        precision: of the weights: `float32`, or `int8`, which is faster and scores a little worse.

    Attributes:
        model_file: the model.
        precision: of the weights.
        network: the compiled network; the one in numpy if there are no kernels for its cell.
        tokenizer: text to ids and back.
        start_id: the id that the model reads before the first character.
        cleaning: how the corpus was cleaned before the model learned it.

    Raises:
        ArgumentError: `model_file` is not a ModelFile, or `precision` is neither of the two.
        FileError: the parts of the model do not fit together.
    """

    def __init__(self, model_file: ModelFile, precision: Precision = "float32") -> None:
        check_type("model_file", model_file, ModelFile, "a ModelFile; chargen.load takes a path")
        self.model_file, self.precision = model_file, precision
        compiled = native.library() is not None and native.has_cell(model_file.config.cell)
        self.network: Network = (NativeNetwork if compiled else NumpyNetwork)(model_file, precision)
        self.tokenizer = Tokenizer.from_json(model_file.tokenizer)
        if self.tokenizer.vocab_size != self.network.vocab_size:
            raise FileError("the model's weights do not fit its tokenizer")
        self.start_id = model_file.start_id
        self.cleaning = model_file.cleaning

    def __reduce__(self) -> tuple[type[TextGenerator], tuple[ModelFile, Precision]]:
        return type(self), (self.model_file, self.precision)

    # --------------------------------------------------------------------------- writing

    def generate(
        self,
        prompt: Text = "",  # type: ignore[assignment]
        *,
        max_length: int = 1000,
        params: SamplingParams = SamplingParams(),
        seed: Seed = None,
        ignore_eos: bool = False,
        within: bool = False,
    ) -> Text:
        """Continue a prompt and return the whole continuation. The arguments are those of `stream`."""
        pieces = self.stream(
            prompt, max_length=max_length, params=params, seed=seed, ignore_eos=ignore_eos, within=within
        )
        return type(prompt)().join(pieces)

    def stream(
        self,
        prompt: Text = "",  # type: ignore[assignment]
        *,
        max_length: int = 1000,
        params: SamplingParams = SamplingParams(),
        seed: Seed = None,
        ignore_eos: bool = False,
        within: bool = False,
    ) -> Generator[Text, None, None]:
        """Continue a prompt piece by piece.

        The arguments are checked when `stream` is called. The prompt is read when the first piece is asked for.

        Args:
            prompt: what to continue. It is not repeated. A string gives strings, and bytes give bytes: those that a
                model of bytes writes, or UTF-8. In the string of a model of bytes, U+FFFD stands for bytes that are not
                UTF-8. Characters that the model does not know are treated as `encode_prompt` says.
            max_length: how many characters to write at most; bytes, for a model of bytes.
            params: how each character is chosen.
            seed: the same seed writes the same text, see `TextGenerator`; None writes another text each time.
            ignore_eos: write on after the end of an article, instead of stopping there.
            within: the prompt is a passage from within an article. By default it is the beginning of one.

        Returns:
            A generator of pieces of text of at least one character. Its `close` ends the text early.

        Raises:
            ArgumentError: an argument has the wrong type or is out of range.
        """
        rng = make_rng(seed)
        pieces = self.stream_many(
            [rng], prompt, max_length=max_length, params=params, ignore_eos=ignore_eos, within=within
        )
        return (text for _, text in pieces)

    def stream_many(
        self,
        seeds: Sequence[Seed],
        prompt: Text = "",  # type: ignore[assignment]
        *,
        max_length: int = 1000,
        params: SamplingParams = SamplingParams(),
        ignore_eos: bool = False,
        within: bool = False,
    ) -> Generator[tuple[int, Text], None, None]:
        """Write several continuations of a prompt at once. Each is what `stream` writes with its seed.

        Args:
            seeds: one seed for each continuation.
            prompt: as for `stream`.
            max_length: as for `stream`, of each continuation.
            params: as for `stream`.
            ignore_eos: as for `stream`.
            within: as for `stream`.

        Returns:
            A generator of the number of a continuation, counted from 0, and the next piece of its text.

        Raises:
            ArgumentError: as for `stream`.
        """
        if isinstance(seeds, (str, bytes, bytearray)) or not isinstance(seeds, Iterable):
            raise ArgumentError("seeds", seeds, "several seeds, such as range(4)")
        rngs = [make_rng(seed, "seeds") for seed in seeds]
        max_length = whole_number("max_length", max_length, 1)
        check_type("params", params, SamplingParams, "a SamplingParams, such as SamplingParams(temperature=0.8)")
        check_type("ignore_eos", ignore_eos, (bool, np.bool_), "True or False")
        check_type("within", within, (bool, np.bool_), "True or False")
        ids: list[int] = self.encode_prompt(prompt)[0]
        if within and not ids:
            raise ArgumentError("within", True, "False, unless the prompt has a character that the model knows")

        # A model that was trained on one article has never read the end of one, so it must not write it.
        banned = (UNKNOWN_ID,) if self.start_id == END_ID else (UNKNOWN_ID, END_ID)
        open_session = partial(
            self.network.open, ids if within else [self.start_id, *ids], params, max_length=max_length, banned=banned,
            stop=None if ignore_eos else END_ID, state=self.model_file.initial_state(within=within),
        )  # fmt: skip
        if isinstance(prompt, str):
            return self._pieces(open_session, [(rng, _TextWriter(self.tokenizer, ignore_eos)) for rng in rngs])
        return self._pieces(open_session, [(rng, _BytesWriter(self.tokenizer, ignore_eos)) for rng in rngs])

    def _pieces(
        self, open_session: Callable[..., Session], writers: Sequence[tuple[np.random.Generator, _Writer[Text]]]
    ) -> Generator[tuple[int, Text], None, None]:
        """Open a session for each generator of numbers, and run them to their ends.

        Yields:
            The number of a session and a piece of its text.
        """
        if not writers:
            return
        first: Session = open_session(seed=writers[0][0])
        sessions = [first, *(first.fork(rng) for rng, _ in writers[1:])]
        active, num_characters = dict(enumerate(sessions)), 1  # the first character comes as soon as possible
        while active:
            written = self.network.step(list(active.values()), num_characters)
            num_characters = _CHARACTERS_PER_STEP
            for (number, session), ids in zip(list(active.items()), written, strict=True):
                text = writers[number][1].write(ids, session.finished)
                if session.finished:
                    del active[number]
                if text:
                    yield number, text

    # --------------------------------------------------------------------------- reading

    def score(self, text: str) -> np.ndarray:
        """Return the loss of each character given all characters before it, at the beginning of an article.

        A character that the model does not know is scored as the unknown character.

        Args:
            text: cleaned like a prompt before it is scored.

        Returns:
            -ln p of each of the N characters, nats, (N,) float64; of each byte, for a model of bytes.

        Raises:
            ArgumentError: `text` is not a string.
        """
        targets = self.tokenizer.encode(self.clean(text))
        ids = np.concatenate(([self.start_id], targets[:-1]))
        nats, initial = np.empty(len(targets)), self.model_file.initial_state()
        states = None if initial is None else initial[:, None]
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
        """Return a text cleaned as the corpus was before the model learned it, with its line ends.

        Raises:
            ArgumentError: `text` is not a string.
        """
        check_type("text", text, str, "a string")
        if self.cleaning["normalize_newlines"]:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        elif self.tokenizer.unit == "character":
            text = with_line_ends(text, self.model_file.line_end)
        return unicodedata.normalize("NFC", text) if self.cleaning["normalize_unicode"] else text

    def encode_prompt(self, prompt: str | bytes) -> tuple[list[int], list[str]]:
        """Return the ids of a prompt, and the characters in it that the model does not know, each once.

        Unknown characters are encoded as the unknown id if the training text had some; otherwise they are left out. A
        lone surrogate, which is not a character, is always unknown; but in a model of bytes, U+DC80 to U+DCFF stand for
        the bytes 0x80 to 0xFF, as in Python's names of files. Bytes are UTF-8, except for a model of bytes.

        Raises:
            ArgumentError: `prompt` is neither a string nor bytes, or bytes that are not UTF-8.
        """
        check_type("prompt", prompt, (str, bytes), "a string or bytes")
        if isinstance(prompt, bytes) and self.tokenizer.unit == "character":
            try:
                prompt = prompt.decode()
            except UnicodeDecodeError as error:
                raise ArgumentError("prompt", prompt, f"UTF-8; byte {error.start} is not") from None
        if isinstance(prompt, bytes):
            ids = self.tokenizer.encode_bytes(prompt)
            unknown = [f"\\x{byte:02x}" for byte in dict.fromkeys(prompt) if chr(byte) not in self.tokenizer.symbols]
        else:
            prompt = self.clean(prompt)
            ids, unknown = self.tokenizer.encode(prompt), self.tokenizer.unknown(prompt)
        if not self.model_file.knows_unknown:
            ids = ids[ids != UNKNOWN_ID]
        return ids.tolist(), unknown


class _Writer(Protocol[Written]):
    """Turns the ids of one text into what is written."""

    def write(self, ids: list[int], is_last: bool) -> Written:
        """Return what the ids complete."""


class _TextWriter:
    """Strings."""

    def __init__(self, tokenizer: Tokenizer, ignore_eos: bool) -> None:
        self._decoder, self._end = tokenizer.decoder(), "\n" if ignore_eos else ""

    def write(self, ids: list[int], is_last: bool) -> str:
        text = "".join(self._decoder.decode(id) + (self._end if id == END_ID else "") for id in ids)
        return text + self._decoder.flush() if is_last else text


class _BytesWriter:
    """Bytes."""

    def __init__(self, tokenizer: Tokenizer, ignore_eos: bool) -> None:
        self._tokenizer, self._end = tokenizer, b"\n" if ignore_eos else b""

    def write(self, ids: list[int], is_last: bool) -> bytes:
        return b"".join(self._end if id == END_ID else self._tokenizer.spell(id) for id in ids)
