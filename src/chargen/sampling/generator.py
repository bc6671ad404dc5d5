"""From logits to the next character: temperature, top-k, top-p, min-p; a writer that streams.

Everything here is numpy, so that the first character comes without waiting for a framework.
`NumpyNetwork`, `SamplingParams` and `generate` are the definition; `NativeNetwork` does the same in compiled code, many
samples side by side. Chance comes from one generator per sample, so that a sample's text does not
depend on how many are drawn beside it.

Sources: top-k, Fan et al. 2018; top-p (nucleus), Holtzman et al. 2020; min-p, Nguyen et al. 2024.
Dimensions: N samples side by side, V vocabulary, H hidden, G gates, L layers.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref
from dataclasses import dataclass
from typing import Literal

import numpy as np

from chargen import native
from chargen.corpus.tokenizer import END_ID, UNKNOWN_ID, Tokenizer
from chargen.storage.model_file import ModelFile

Array = np.ndarray
State = tuple[Array, ...]
"""`(h,)` or `(h, c)`, each (H,)."""

Precision = Literal["float32", "int8"]
"""Of the weights while sampling: bytes are smaller and faster, and cost a little of the score."""

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


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


def to_bytes(rows: Array) -> tuple[Array, Array]:
    """Weights as bytes: (R, K) float32 becomes whole numbers from -127 to 127, int8, and a scale for each row, (R,)."""
    scale = np.abs(rows).max(axis=1) / np.float32(127)
    return np.rint(rows / np.where(scale > 0, scale, 1)[:, None]).astype(np.int8), scale


class _Floats:
    """The product with a matrix, and its bias on top."""

    def __init__(self, rows: Array, bias: Array) -> None:
        self._rows, self._bias = np.ascontiguousarray(rows), bias

    def __call__(self, x: Array) -> Array:
        return np.asarray(self._rows @ x + self._bias)


class _Bytes:
    """The same with a matrix of bytes: what it is multiplied with becomes bytes too, and the sums are exact."""

    def __init__(self, rows: Array, bias: Array) -> None:
        rows, self._scale = to_bytes(rows)
        self._rows, self._bias = rows.astype(np.float64), bias

    def __call__(self, x: Array) -> Array:
        largest = np.abs(x).max()
        whole = np.floor(x * (np.float32(127) / largest if largest > 0 else 0) + np.float32(0.5))
        sums = (self._rows @ whole.astype(np.float64)).astype(np.float32)
        return np.asarray(sums * (self._scale * (largest / np.float32(127))) + self._bias)


class NumpyNetwork:
    """A trained `CharRNN` that reads one character at a time; equal to it up to float rounding.

    Args:
        model_file: the model as arrays.
        precision: of its matrices.

    Raises:
        ValueError: its arrays do not fit its settings.
    """

    def __init__(self, model_file: ModelFile, precision: Precision = "float32") -> None:
        config, weights = model_file.config, model_file.weights
        matrix = _Bytes if precision == "int8" else _Floats
        try:
            self.num_states, self._tick = _TICKS[config.cell]
            self.num_layers, self.hidden_size = config.num_layers, config.hidden_size
            self._residual = config.residual
            self._table = first_gates(model_file)
            self._layers = []
            for layer in range(self.num_layers):
                weight_ih, weight_hh, bias_ih, bias_hh = layer_weights(model_file, layer)
                self._layers.append((matrix(weight_ih, bias_ih) if layer else None, matrix(weight_hh, bias_hh)))
            self._head = matrix(weights["head.weight"], weights["head.bias"])
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
        for (input_product, hidden_product), state in zip(self._layers, states, strict=True):
            gates_x = input_product(below) if input_product else self._table[id]
            state = self._tick(gates_x, hidden_product(state[0]), state)
            below = state[0] + below if input_product and self._residual else state[0]
            after.append(state)
        return self._head(below), after


def layer_weights(model_file: ModelFile, layer: int) -> tuple[Array, Array, Array, Array]:
    """`weight_ih`, `weight_hh`, `bias_ih`, `bias_hh` of a layer."""
    weight_ih, weight_hh, bias_ih, bias_hh = (
        model_file.weights[f"recurrence.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return weight_ih, weight_hh, bias_ih, bias_hh


def first_gates(model_file: ModelFile) -> Array:
    """The first layer's input product of every character, (V, G*H): looked up from then on."""
    weight_ih, _, bias_ih, _ = layer_weights(model_file, 0)
    return np.asarray(model_file.weights["embedding.weight"] @ weight_ih.T + bias_ih)


# ------------------------------------------------------------------------------- the choice


@dataclass(frozen=True)
class SamplingParams:
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
        if not self.top_k and self.top_p == 1 and not self.min_p:
            return np.asarray(p)
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
        if self.temperature == 0:
            return int(logits.argmax())
        p = self.probabilities(logits)
        id = int(p.cumsum().searchsorted(random.random(), side="right"))
        return id if id < len(p) and p[id] > 0 else int(np.flatnonzero(p)[-1])


def generate(
    model: NumpyNetwork,
    prompt: Sequence[int],
    length: int,
    choice: SamplingParams,
    random: np.random.Generator,
    never: Sequence[int] = (UNKNOWN_ID,),
    stop: int | None = None,
) -> Iterator[int]:
    """Reads a prompt and writes on, one id at a time.

    Args:
        model: the network.
        prompt: ids to read first, at least one.
        length: how many ids to write.
        choice: how each is chosen.
        random: where chance comes from.
        never: ids that are not written. The unknown stands for what the model cannot write.
        stop: the id behind which nothing comes, if there is one.

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
        if id == stop:
            return
        logits, states = model.tick(id, states)


# ------------------------------------------------------------------------------- compiled


class NativeNetwork:
    """`NumpyNetwork` and `generate` as compiled kernels, for many samples side by side; equal up to float rounding.

    What a sample comes to is the same, bit for bit, whoever is beside it and however many threads there are.

    Args:
        model_file: the model as arrays.
        precision: of its matrices.

    Raises:
        ValueError: its arrays do not fit its settings.
    """

    def __init__(self, model_file: ModelFile, precision: Precision = "float32") -> None:
        config, weights = model_file.config, model_file.weights
        self._kept: list[object] = []  # what the structures point into
        self._lanes, self._panel = native.kernels().chargen_lanes(), native.kernels().chargen_panel()
        try:
            cell, L, H = config.cell, config.num_layers, config.hidden_size
            table, G = first_gates(model_file).astype(np.float32), config.cell_type.num_gates
            input_products, hidden_products = (native.Packed * L)(), (native.Packed * L)()
            for layer in range(L):
                weight_ih, weight_hh, bias_ih, bias_hh = layer_weights(model_file, layer)
                hidden_products[layer] = self._packed(weight_hh, bias_hh, (G, H, H), precision)
                if layer:
                    input_products[layer] = self._packed(weight_ih, bias_ih, (G, H, H), precision)
            head = self._packed(weights["head.weight"], weights["head.bias"], (1, len(table), H), precision)
            if table.shape[1] != G * H:
                raise ValueError(f"{table.shape[1]} input gates for {G} of {H} units")
        except (KeyError, ValueError, IndexError) as error:
            raise ValueError(f"the model's weights do not fit its settings ({error})") from None
        self.vocab_size = len(table)
        self._state_shape = (L * (2 if cell == "lstm" else 1), H)
        self._network = native.Network(
            native.CELLS.index(cell), L, H, self.vocab_size, config.residual, self._lanes, self._address(table),
            hidden_products, input_products, head,
        )  # fmt: skip

    def read(self, ids: Array, states: Array | None = None) -> tuple[Array, Array]:
        """Reads the same number of characters on every sample.

        Args:
            ids: (N, n), what to read.
            states: (layers and their parts, N, H) as returned before; None for texts that have not begun.

        Returns:
            Logits of what comes next, (N, V), and the states.

        Raises:
            IndexError: an id is not below `vocab_size`.
        """
        ids = np.ascontiguousarray(ids, dtype=np.int64)
        N, n = ids.shape
        parts, H = self._state_shape
        states = np.zeros((parts, N, H), dtype=np.float32) if states is None else states.copy()
        logits = np.empty((N, self.vocab_size), dtype=np.float32)
        native.check(
            native.kernels().chargen_read(
                byref(self._network), N, n, ids.ctypes.data, states.ctypes.data, logits.ctypes.data, _threads(N)
            )
        )
        return logits, states

    def generate(
        self,
        prompt: Sequence[int],
        length: int,
        choice: SamplingParams,
        randoms: Sequence[np.random.Generator],
        never: Sequence[int] = (UNKNOWN_ID,),
        stop: int | None = None,
    ) -> Iterator[tuple[int, list[int]]]:
        """`generate`, for one sample per generator in `randoms`.

        Yields:
            Which sample, and its next ids: one at first, then several at a time. Takes turns.
        """
        if len(prompt) == 0:
            raise ValueError("a prompt needs at least one id")
        logits, states = self.read(np.array(prompt)[None])
        numbers = list(range(len(randoms)))  # of the samples that go on
        logits, states = np.repeat(logits, len(numbers), axis=0), np.repeat(states, len(numbers), axis=1)
        refused = np.array(never, dtype=np.int64)
        choosing = native.Choosing(
            choice.temperature, choice.top_p, choice.min_p, choice.top_k, len(refused), refused.ctypes.data
        )
        done = 0
        while done < length and numbers:
            n = min(length - done, _AT_ONCE if done else 1)
            uniforms = np.stack([randoms[number].random(n) for number in numbers])
            ids = np.empty((len(numbers), n), dtype=np.int64)
            pointers = (array.ctypes.data for array in (uniforms, ids, states, logits))
            threads = _threads(len(numbers))
            native.check(
                native.kernels().chargen_write(
                    byref(self._network), byref(choosing), len(numbers), n, *pointers, threads
                )
            )
            done += n
            written = [_until(stop, row) for row in ids.tolist()]
            yield from zip(numbers, written, strict=True)
            going_on = [place for place, row in enumerate(written) if row[-1] != stop]
            if len(going_on) < len(numbers):
                numbers = [numbers[place] for place in going_on]
                logits, states = logits[going_on], np.ascontiguousarray(states[:, going_on])

    def _packed(self, rows: Array, bias: Array, sizes: tuple[int, int, int], precision: Precision) -> native.Packed:
        """A matrix of so many gates, units of each and columns, in the order in which the kernel reads it."""
        num_gates, num_units, num_columns = sizes
        if rows.shape != (num_gates * num_units, num_columns) or bias.shape != rows.shape[:1]:
            raise ValueError(f"a matrix of shape {rows.shape} for {num_gates} gates of {num_units} units")
        rows, bias, width = rows.astype(np.float32), bias.astype(np.float32), self._panel * self._lanes
        scale = offset = None
        if precision == "int8":
            rows, scale = to_bytes(rows)
            offset = -128 * rows.sum(axis=1, dtype=np.int32)

        def padded(values: Array) -> Array:
            """Each gate's rows padded to whole vectors, all of them to whole panels: (panels, width, ...)."""
            by_gate = values.reshape(num_gates, -1, *values.shape[1:])
            by_gate = _pad(by_gate, 1, self._lanes)
            flat = by_gate.reshape(-1, *values.shape[1:])
            return _pad(flat, 0, width).reshape(-1, width, *values.shape[1:])

        panels = padded(rows)  # (panels, width, K)
        if precision == "int8":
            panels = _pad(panels, 2, 4)
            panels = panels.reshape(*panels.shape[:2], -1, 4).transpose(0, 2, 1, 3)
        else:
            panels = panels.transpose(0, 2, 1)
        return native.Packed(
            self._address(panels),
            self._address(padded(bias)),
            None if scale is None else self._address(padded(scale)),
            None if offset is None else self._address(padded(offset)),
        )

    def _address(self, values: Array) -> int:
        """Of a contiguous copy on the boundary of a cache line, which is kept."""
        room = np.empty(values.nbytes + 64, dtype=np.uint8)
        start = -room.ctypes.data % 64
        room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)[...] = values
        self._kept.append(room)
        return room.ctypes.data + start


def _until(stop: int | None, ids: list[int]) -> list[int]:
    """The ids up to `stop`, that one included."""
    return ids[: ids.index(stop) + 1] if stop in ids else ids


_AT_ONCE = 32
"""Characters from one look at the stream to the next: a millisecond's worth."""


def _threads(num_samples: int) -> int:
    """One for every eight samples, at most one per processor."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, num_samples // 8))


def _pad(values: Array, axis: int, multiple: int) -> Array:
    """Zeros behind, up to a multiple."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, -values.shape[axis] % multiple)
    return np.pad(values, widths)


# ------------------------------------------------------------------------------- writing


class TextGenerator:
    """A trained model that writes text: all that a program needs.

    Args:
        model_file: the model; `ModelFile.load` reads it.
        precision: of its weights; `int8` is faster, and its score a little worse.

    Raises:
        ValueError: its parts do not fit together.
    """

    def __init__(self, model_file: ModelFile, precision: Precision = "float32") -> None:
        self.model: NativeNetwork | NumpyNetwork = (NativeNetwork if native.library() else NumpyNetwork)(
            model_file, precision
        )
        self.tokenizer = Tokenizer.from_json(model_file.tokenizer)
        if self.tokenizer.vocab_size != self.model.vocab_size:
            raise ValueError("the model's weights do not fit its tokenizer")
        self.start_id = model_file.start_id
        self.cleaning = model_file.cleaning

    def clean(self, prompt: str) -> str:
        """A prompt as the corpus was cleaned before it was learned."""
        if self.cleaning["normalize_newlines"]:
            prompt = prompt.replace("\r\n", "\n").replace("\r", "\n")
        return unicodedata.normalize("NFC", prompt) if self.cleaning["normalize_unicode"] else prompt

    def read(self, prompt: str) -> tuple[list[int], list[str]]:
        """The ids of a prompt, and the characters in it that the model does not know.

        They are read as the unknown if the model has met it in training, and left out otherwise.
        """
        prompt = self.clean(prompt)
        ids = self.tokenizer.encode(prompt)
        if self.cleaning["min_count"] <= 1:
            ids = ids[ids != UNKNOWN_ID]
        return ids.tolist(), self.tokenizer.unknown(prompt)

    def write(
        self,
        prompt: str = "",
        length: int = 1000,
        choice: SamplingParams = SamplingParams(),
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
        for _, text in self.write_several([seed], prompt, length, choice, through):
            yield text

    def write_several(
        self,
        seeds: Sequence[int | Sequence[int] | None],
        prompt: str = "",
        length: int = 1000,
        choice: SamplingParams = SamplingParams(),
        through: bool = False,
    ) -> Iterator[tuple[int, str]]:
        """Several samples side by side, each what `write` writes with its seed.

        Args:
            seeds: one for each sample.
            prompt, length, choice, through: as `write` takes them, for all.

        Yields:
            Which sample, counted from 0, and a piece of its text.
        """
        ids, _ = self.read(prompt)
        # A model of a single article has met no end: it must not write one.
        never = (UNKNOWN_ID,) if self.start_id == END_ID else (UNKNOWN_ID, END_ID)
        stop = None if through else END_ID
        decoders = [self.tokenizer.decoder() for _ in seeds]
        for number, written in self._ids([self.start_id, *ids], length, choice, seeds, never, stop):
            decoder = decoders[number]
            text = "".join(decoder.decode(id) + ("\n" if id == END_ID and through else "") for id in written)
            if text:
                yield number, text
        for number, decoder in enumerate(decoders):
            if rest := decoder.flush():
                yield number, rest

    def _ids(
        self,
        prompt: list[int],
        length: int,
        choice: SamplingParams,
        seeds: Sequence[int | Sequence[int] | None],
        never: Sequence[int],
        stop: int | None,
    ) -> Iterator[tuple[int, list[int]]]:
        """Which sample, and what comes next in it."""
        randoms = [np.random.default_rng(seed) for seed in seeds]
        if isinstance(self.model, NativeNetwork):
            yield from self.model.generate(prompt, length, choice, randoms, never, stop)
        else:
            for number, random in enumerate(randoms):
                for id in generate(self.model, prompt, length, choice, random, never, stop):
                    yield number, [id]
