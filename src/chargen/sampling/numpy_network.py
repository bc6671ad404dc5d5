"""A trained network in numpy, one character at a time: the definition of the compiled network.

A product of a matrix and a vector is computed as one product of two vectors per row. Numpy's library computes those on
one thread, and the threads of a whole product wait for each other whenever another process takes a processor.

Dimensions: N streams, n characters of each, L layers, V vocabulary, H hidden, G gates, P parts of the state: h, or h
and c, of every layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from chargen.cell_types import CELL_TYPES
from chargen.corpus.tokenizer import END_ID
from chargen.errors import FileError
from chargen.sampling import activations
from chargen.sampling.params import SamplingParams
from chargen.sampling.session import BANNED, Seed, Session, check_session, check_step, checked_read, new_session
from chargen.sampling.weights import Precision, check_precision, head_weights, input_table, layer_weights, quantize
from chargen.storage.model_file import ModelFile

Array = np.ndarray
State = tuple[Array, ...]
"""The state of a layer: `(h,)` or `(h, c)`, each (H,)."""


class Activations(NamedTuple):
    """The functions of the gates, each (n,) float32 -> (n,) float32."""

    sigmoid: Callable[[Array], Array]
    tanh: Callable[[Array], Array]


Tick = Callable[[Array, Array, State, Activations], State]
"""`(input gates (G*H,), hidden gates (G*H,), state, activations) -> next state`. The gates include their biases."""


# ------------------------------------------------------------------------------- cells


def _sigmoid(a: Array) -> Array:
    return 0.5 * np.tanh(0.5 * a) + 0.5  # never overflows


_FAST = Activations(_sigmoid, np.tanh)
_REPRODUCIBLE = Activations(activations.sigmoid, activations.tanh)


def _rnn_tick(gates_x: Array, gates_h: Array, state: State, of: Activations) -> State:
    return (of.tanh(gates_x + gates_h),)


def _lstm_tick(gates_x: Array, gates_h: Array, state: State, of: Activations) -> State:
    a_i, a_f, a_g, a_o = (gates_x + gates_h).reshape(4, -1)
    c = of.sigmoid(a_f) * state[1] + of.sigmoid(a_i) * of.tanh(a_g)
    return of.sigmoid(a_o) * of.tanh(c), c


def _gru_tick(gates_x: Array, gates_h: Array, state: State, of: Activations) -> State:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = gates_x.reshape(3, -1), gates_h.reshape(3, -1)
    z = of.sigmoid(x_z + h_z)
    n = of.tanh(x_n + of.sigmoid(x_r + h_r) * h_n)
    return (n + z * (state[0] - n),)


TICKS: dict[str, Tick] = {"rnn": _rnn_tick, "lstm": _lstm_tick, "gru": _gru_tick}
"""The equations of one tick by the name of the cell. `nn/cells.py` has the same equations for torch."""


# ------------------------------------------------------------------------------- matrices


class _FloatProduct:
    """x -> W x + b in float32."""

    def __init__(self, rows: Array, bias: Array) -> None:
        self._rows, self._bias = np.ascontiguousarray(rows)[:, None], bias

    def __call__(self, x: Array) -> Array:
        return np.asarray((self._rows @ x)[:, 0] + self._bias)


class _Int8Product:
    """x -> W x + b with W and x quantized to int8. The result has the bits of the compiled kernels."""

    def __init__(self, rows: Array, bias: Array) -> None:
        integers, self._scale = quantize(rows)
        self._rows, self._bias = integers.astype(np.float64)[:, None], bias

    def __call__(self, x: Array) -> Array:
        largest = np.abs(x).max()
        inverse = np.float32(127) / largest if largest > 0 else np.float32(0)
        integers = np.floor(x * inverse + np.float32(128.5)) - np.float32(
            128
        )  # the kernels add 128 to make it positive
        sums = (self._rows @ integers.astype(np.float64))[:, 0].astype(np.float32)  # sums of integers are exact
        return np.asarray(sums * (self._scale * (largest / np.float32(127))) + self._bias)


# ------------------------------------------------------------------------------- the network


class NumpyNetwork:
    """A trained `CharRNN` in numpy; equal to it up to float rounding.

    It implements `chargen.sampling.session.Network`.

    Args:
        model_file: the model.
        precision: of its matrices.

    Raises:
        ArgumentError: `precision` is none of `PRECISIONS`.
        FileError: the weights do not fit the settings of the model.
        ValueError: there are no equations for its cell.
    """

    def __init__(self, model_file: ModelFile, precision: Precision = "float32") -> None:
        check_precision(precision)
        config = model_file.config
        if config.cell not in TICKS:
            raise ValueError(f"NumpyNetwork has no tick for the cell {config.cell!r}; it has {', '.join(TICKS)}")
        matrix = _Int8Product if precision == "int8" else _FloatProduct
        self._activations = _REPRODUCIBLE if precision == "int8" else _FAST
        try:
            self._tick, self.num_states = TICKS[config.cell], CELL_TYPES[config.cell].num_states
            self.num_layers, self.hidden_size = config.num_layers, config.hidden_size
            self._residual = config.residual
            self._table = input_table(model_file)
            self._layers = []
            for layer in range(self.num_layers):
                weight_ih, weight_hh, bias_ih, bias_hh = layer_weights(model_file, layer)
                self._layers.append((matrix(weight_ih, bias_ih) if layer else None, matrix(weight_hh, bias_hh)))
            self._head = matrix(*head_weights(model_file))
            logits, _ = self.tick(END_ID, self.zero_state())
            if logits.shape != (self.vocab_size,):
                raise ValueError(f"{len(logits)} logits for a vocabulary of {self.vocab_size}")
        except (KeyError, ValueError, IndexError) as error:
            raise FileError(f"the model's weights do not fit its settings ({error})") from None

    @property
    def vocab_size(self) -> int:
        """V, the size of the vocabulary."""
        return len(self._table)

    @property
    def state_shape(self) -> tuple[int, int]:
        """(P, H), the shape of the state of one stream."""
        return self.num_layers * self.num_states, self.hidden_size

    def zero_state(self) -> list[State]:
        """Return zeros for the state of every layer."""
        zeros = np.zeros(self.hidden_size, dtype=self._table.dtype)
        return [(zeros,) * self.num_states for _ in range(self.num_layers)]

    def tick(self, id: int, states: Sequence[State]) -> tuple[Array, list[State]]:
        """Read one character.

        Args:
            id: the character.
            states: the state of every layer before it.

        Returns:
            The logits of the next character, (V,), and the states after this one.
        """
        below, after = self._advance(id, states)
        return self._head(below), after

    def _advance(self, id: int, states: Sequence[State]) -> tuple[Array, list[State]]:
        """Read one character. Return the output of the last layer, (H,), and the states after this character."""
        after, below = [], np.empty(0)
        for (input_product, hidden_product), state in zip(self._layers, states, strict=True):
            gates_x = input_product(below) if input_product else self._table[id]
            state = self._tick(gates_x, hidden_product(state[0]), state, self._activations)
            below = state[0] + below if input_product and self._residual else state[0]
            after.append(state)
        return below, after

    def read(self, ids: Array, states: Array | None = None) -> tuple[Array, Array]:
        """Read ids (N, n). See `Network.read`."""
        return self._read(ids, states, every=False)

    def predict(self, ids: Array, states: Array | None = None) -> tuple[Array, Array]:
        """Read ids (N, n) and return the logits behind every id. See `Network.predict`."""
        return self._read(ids, states, every=True)

    def open(
        self,
        prompt_ids: Sequence[int] | Array,
        params: SamplingParams,
        *,
        seed: Seed = None,
        max_length: int | None = None,
        banned: Sequence[int] = BANNED,
        stop: int | None = None,
        state: Array | None = None,
    ) -> Session:
        """Read a prompt and return a session that continues it. See `Network.open`."""
        return new_session(
            self, prompt_ids, params, seed=seed, max_length=max_length, banned=banned, stop=stop, state=state
        )

    def step(self, sessions: Sequence[Session], num_characters: int) -> list[list[int]]:
        """Write the next ids of every session. See `Network.step`."""
        check_step(sessions, num_characters, self.state_shape, self.vocab_size)
        return [self._step(session, num_characters) for session in sessions]

    def close(self, session: Session) -> None:
        """Release the memory of a session. See `Network.close`."""
        check_session(session)
        session.close()

    def _step(self, session: Session, num_characters: int) -> list[int]:
        layers, written = self.unpacked(session.state), []
        for _ in range(session.num_wanted(num_characters)):
            session.logits[session.banned] = -np.inf
            id = session.params.draw(session.logits, session.rng)
            written += session.accept([id])
            if session.finished:
                break
            session.logits[:], layers = self.tick(id, layers)
        session.state[:] = list(chain(*layers))
        return written

    def _read(self, ids: Array, states: Array | None, every: bool) -> tuple[Array, Array]:
        ids, states = checked_read(ids, states, self.state_shape, self.vocab_size)
        N, n = ids.shape
        logits = np.empty((N, n if every else 1, self.vocab_size), dtype=np.float32)
        for stream, row in enumerate(ids.tolist()):
            layers = self.unpacked(states[:, stream])
            for place, id in enumerate(row):
                below, layers = self._advance(id, layers)
                if every or place == n - 1:
                    logits[stream, place if every else 0] = self._head(below)
            states[:, stream] = list(chain(*layers))
        return logits if every else logits[:, 0], states

    def unpacked(self, state: Array) -> list[State]:
        """Return a state (P, H) layer by layer."""
        parts = self.num_states
        return [tuple(state[layer * parts : (layer + 1) * parts].copy()) for layer in range(self.num_layers)]


def generate(
    network: NumpyNetwork,
    prompt_ids: Sequence[int],
    params: SamplingParams,
    *,
    rng: np.random.Generator,
    max_length: int,
    banned: Sequence[int] = BANNED,
    stop: int | None = None,
    state: Array | None = None,
) -> Iterator[int]:
    """Continue a prompt: the definition of what a session writes.

    Args:
        network: the network.
        prompt_ids: ids to read first, at least one.
        params: how each character is chosen.
        rng: the source of randomness.
        max_length: how many ids to write at most.
        banned: ids that are never written.
        stop: the id that ends the text; None for none.
        state: (P, H), the state before the prompt; None for zeros.

    Yields:
        The ids of the continuation, one at a time.

    Raises:
        ValueError: the prompt is empty.
    """
    if len(prompt_ids) == 0:
        raise ValueError("a prompt needs at least one id")
    states = network.zero_state() if state is None else network.unpacked(state)
    for id in prompt_ids:
        logits, states = network.tick(int(id), states)
    for _ in range(max_length):
        logits[list(banned)] = -np.inf
        id = params.draw(logits, rng)
        yield id
        if id == stop:
            return
        logits, states = network.tick(id, states)
