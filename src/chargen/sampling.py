"""From logits to the next character: temperature, top-k, top-p, min-p; a writer that streams.

Everything here is numpy, so that the first character comes without waiting for a framework.

Sources: top-k, Fan et al. 2018; top-p (nucleus), Holtzman et al. 2020; min-p, Nguyen et al. 2024.
Dimensions: V vocabulary, H hidden, G gates.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chargen.portable import Portable
from chargen.tokenizer import END_ID, UNKNOWN_ID, Tokenizer

Array = np.ndarray
State = tuple[Array, ...]
"""`(h,)` or `(h, c)`, each (H,)."""


# ------------------------------------------------------------------------------- the network


def _sigmoid(a: Array) -> Array:
    return 0.5 * np.tanh(0.5 * a) + 0.5  # never overflows


def _rnn_tick(gates_x: Array, gates_h: Array, state: State) -> State:
    return (np.tanh(gates_x + gates_h),)


def _lstm_tick(gates_x: Array, gates_h: Array, state: State) -> State:
    a_i, a_f, a_g, a_o = (gates_x + gates_h).reshape(4, -1)
    c = _sigmoid(a_f) * state[1] + _sigmoid(a_i) * np.tanh(a_g)
    return _sigmoid(a_o) * np.tanh(c), c


def _gru_tick(gates_x: Array, gates_h: Array, state: State) -> State:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = gates_x.reshape(3, -1), gates_h.reshape(3, -1)
    z = _sigmoid(x_z + h_z)
    n = np.tanh(x_n + _sigmoid(x_r + h_r) * h_n)
    return (n + z * (state[0] - n),)


_TICKS: dict[str, tuple[int, Callable[[Array, Array, State], State]]] = {
    "rnn": (1, _rnn_tick),
    "lstm": (2, _lstm_tick),
    "gru": (1, _gru_tick),
}


class NumpyRNN:
    """A trained `CharRNN` that reads one character at a time; equal to it up to float rounding.

    Args:
        portable: the model as arrays.

    Raises:
        ValueError: its arrays do not fit its settings.
    """

    def __init__(self, portable: Portable) -> None:
        settings, weights = portable.settings, portable.weights
        try:
            self.num_states, self._tick = _TICKS[settings["cell"]]
            self.num_layers, self.hidden_size = settings["num_layers"], settings["hidden_size"]
            self._residual = settings["residual"]
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            self._layers = [
                [weights[f"recurrence.{name}_l{layer}"] for name in names] for layer in range(self.num_layers)
            ]
            weight_ih, _, bias_ih, _ = self._layers[0]
            self._table = weights["embedding.weight"] @ weight_ih.T + bias_ih  # (V, G*H): a character's gates
            self._head, self._head_bias = weights["head.weight"], weights["head.bias"]
            self.tick(END_ID, self.zero_state())
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"the model's weights do not fit its settings ({error})") from None

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self._table)

    def zero_state(self) -> list[State]:
        """The state of a text that has not begun."""
        zeros = np.zeros(self.hidden_size, dtype=self._table.dtype)
        return [(zeros,) * self.num_states for _ in range(self.num_layers)]

    def tick(self, id: int, states: Sequence[State]) -> tuple[Array, list[State]]:
        """Reads one character.

        Args:
            id: the character.
            states: of every layer, before it.

        Returns:
            Logits of the next character, (V,), and the states after this one.
        """
        after, below = [], np.empty(0)
        for layer, ((weight_ih, weight_hh, bias_ih, bias_hh), state) in enumerate(
            zip(self._layers, states, strict=True)
        ):
            gates_x = weight_ih @ below + bias_ih if layer else self._table[id]
            state = self._tick(gates_x, weight_hh @ state[0] + bias_hh, state)
            below = state[0] + below if layer and self._residual else state[0]
            after.append(state)
        return self._head @ below + self._head_bias, after


# ------------------------------------------------------------------------------- the choice


@dataclass(frozen=True)
class Choice:
    """How a character is chosen.

    Attributes:
        temperature: divides the logits; 0 always takes the likeliest.
        top_k: only the k likeliest; 0 for all.
        top_p: only the smallest set of likeliest ones that holds at least this probability; 1 for all.
        min_p: only those at least this fraction as likely as the likeliest; 0 for all.

    Raises:
        ValueError: a value is out of its range.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for holds, given, allowed in (
            (
                0 <= self.temperature < math.inf,
                f"--temperature {self.temperature}",
                "0 or more",
            ),
            (self.top_k >= 0, f"--top-k {self.top_k}", "a whole number, 0 for all"),
            (0 < self.top_p <= 1, f"--top-p {self.top_p}", "above 0 and at most 1"),
            (0 <= self.min_p <= 1, f"--min-p {self.min_p}", "from 0 to 1"),
        ):
            if not holds:
                raise ValueError(f"{given}: must be {allowed}")

    def probabilities(self, logits: Array) -> Array:
        """The distribution to draw from: (V,) float64, sums to one.

        Temperature comes first, then top-k, top-p and min-p, each on what the one before left.
        Among equally likely characters the lower id is kept.
        """
        logits = logits.astype(np.float64)
        if self.temperature == 0:
            return np.asarray(np.eye(1, len(logits), int(logits.argmax()))[0])
        scaled = (logits - logits.max()) / self.temperature
        p = np.exp(scaled)
        p /= p.sum()
        order = np.argsort(-p, kind="stable")
        kept = len(p)
        if self.top_k:
            kept = min(kept, self.top_k)
        if self.top_p < 1:
            ranked = p[order[:kept]]
            kept = min(kept, int(np.searchsorted(np.cumsum(ranked) / ranked.sum(), self.top_p)) + 1)
        if self.min_p > 0:
            kept = min(kept, int((p[order] >= self.min_p * p[order[0]]).sum()))
        p[order[kept:]] = 0
        return np.asarray(p / p.sum())

    def draw(self, logits: Array, random: np.random.Generator) -> int:
        """One id, by inversion of the cumulative distribution."""
        p = self.probabilities(logits)
        return min(int(np.searchsorted(np.cumsum(p), random.random(), side="right")), int(np.flatnonzero(p)[-1]))


def generate(
    model: NumpyRNN,
    prompt: Sequence[int],
    length: int,
    choice: Choice,
    random: np.random.Generator,
    never: Sequence[int] = (UNKNOWN_ID,),
) -> Iterator[int]:
    """Reads a prompt and writes on, one id at a time, without end but `length`.

    Args:
        model: the network.
        prompt: ids to read first, at least one.
        length: how many ids to write.
        choice: how each is chosen.
        random: where chance comes from.
        never: ids that are not written. The unknown stands for what the model cannot write.

    Yields:
        The ids of the continuation.

    Raises:
        ValueError: there is no prompt.
    """
    if len(prompt) == 0:
        raise ValueError("a prompt needs at least one id")
    states = model.zero_state()
    for id in prompt:
        logits, states = model.tick(int(id), states)
    for _ in range(length):
        logits[list(never)] = -np.inf
        id = choice.draw(logits, random)
        yield id
        logits, states = model.tick(id, states)


class Writer:
    """A trained model that writes text: all that a program needs.

    Args:
        portable: the model; `Portable.load` reads it.

    Raises:
        ValueError: its parts do not fit together.
    """

    def __init__(self, portable: Portable) -> None:
        self.model = NumpyRNN(portable)
        self.tokenizer = Tokenizer.from_json(portable.tokenizer)
        if self.tokenizer.vocab_size != self.model.vocab_size:
            raise ValueError("the model's weights do not fit its tokenizer")
        self.first_id: int = portable.notes["first_id"]
        self.learned = portable.notes.get("config", {}).get("corpus", {})

    def clean(self, prompt: str) -> str:
        """A prompt as the corpus was cleaned before it was learned."""
        if self.learned.get("normalize_newlines"):
            prompt = prompt.replace("\r\n", "\n").replace("\r", "\n")
        return unicodedata.normalize("NFC", prompt) if self.learned.get("normalize_unicode") else prompt

    def read(self, prompt: str) -> tuple[list[int], list[str]]:
        """The ids of a prompt, and the characters in it that the model does not know.

        They are read as the unknown if the model has met it in training, and left out otherwise.
        """
        prompt = self.clean(prompt)
        ids = self.tokenizer.encode(prompt)
        if self.learned.get("min_count", 1) <= 1:
            ids = ids[ids != UNKNOWN_ID]
        return ids.tolist(), self.tokenizer.unknown(prompt)

    def write(
        self,
        prompt: str = "",
        length: int = 1000,
        choice: Choice = Choice(),
        seed: int | Sequence[int] | None = None,
        through: bool = False,
    ) -> Iterator[str]:
        """Writes on from a prompt, piece by piece.

        Args:
            prompt: text to begin with; it is not repeated.
            length: characters to write at most (bytes, for a model of bytes).
            choice: how each is chosen.
            seed: the same seed writes the same text; None writes another one each time.
            through: write on behind the end of an article, instead of stopping there.

        Yields:
            Text, a character or more at a time.
        """
        ids, _ = self.read(prompt)
        # A model of a single article has met no end: it must not write one.
        never = (UNKNOWN_ID,) if self.first_id == END_ID else (UNKNOWN_ID, END_ID)
        decoder = self.tokenizer.decoder()
        for id in generate(self.model, [self.first_id, *ids], length, choice, np.random.default_rng(seed), never):
            if id == END_ID and not through:
                break
            if text := decoder.decode(id) + ("\n" if id == END_ID else ""):
                yield text
        if rest := decoder.flush():
            yield rest
