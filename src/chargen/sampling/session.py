"""One text that is being written, and the interface of the networks that write it.

A network holds weights alone. A `Session` holds everything that belongs to one text: the state of the network behind
the last character, the logits of the next one, the sampling parameters and the random generator. A network advances any
number of sessions together. The text of a session does not depend on the other sessions.

Dimensions: N streams, n characters of each, V vocabulary, H hidden, P parts of the state: h, or h and c, of every
layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from chargen.corpus.tokenizer import UNKNOWN_ID, checked_ids
from chargen.errors import ArgumentError
from chargen.sampling.arguments import check_type, is_whole, whole_number
from chargen.sampling.params import SamplingParams

Array = np.ndarray

Seed = int | Sequence[int] | np.random.Generator | None
"""What `numpy.random.default_rng` takes: the same numbers give the same text; None gives another text each time.

The integers may be those of numpy, from 0 up.
"""

BANNED = (UNKNOWN_ID,)
"""Ids that are never written unless the caller says otherwise: the unknown character has no spelling."""


@dataclass(eq=False)
class Session:
    """One text that is being written.

    `Network.open` makes a session. It can be copied and pickled: the copy continues the same text on its own.

    Attributes:
        params: how each character is chosen.
        rng: the source of randomness.
        max_length: how many ids to write at most; None for no limit.
        banned: ids that are never written, int64.
        stop: the id that ends the text; None for none.
        state: (P, H) float32, the state behind the last id; undefined once the text has ended.
        logits: (V,) float32, of the next id; undefined once the text has ended.
        num_written: how many ids have been written.
        finish_reason: `stop` or `length` once the text has ended.
        closed: whether `Network.close` has released the session.
        stream: the struct of the compiled kernels, which holds addresses of the arrays above.
    """

    params: SamplingParams
    rng: np.random.Generator = field(repr=False)
    max_length: int | None
    banned: Array = field(repr=False)
    stop: int | None
    state: Array = field(repr=False)
    logits: Array = field(repr=False)
    num_written: int = 0
    finish_reason: Literal["stop", "length"] | None = None
    closed: bool = False
    stream: Any = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether the text has ended."""
        return self.finish_reason is not None

    def fork(self, seed: Seed) -> Session:
        """Return a session at the same place of the same text, with a random generator of its own."""
        copies = {name: getattr(self, name).copy() for name in ("banned", "state", "logits")}
        return replace(self, rng=make_rng(seed), stream=None, **copies)

    def num_wanted(self, num_characters: int) -> int:
        """Return how many of the next `num_characters` ids `max_length` leaves room for."""
        return num_characters if self.max_length is None else min(num_characters, self.max_length - self.num_written)

    def accept(self, ids: list[int]) -> list[int]:
        """Append ids to the text, up to `stop` or `max_length`. Return those that were appended."""
        if self.max_length is not None:
            ids = ids[: self.max_length - self.num_written]
        if self.stop is not None and self.stop in ids:
            ids = ids[: ids.index(self.stop) + 1]
            self.finish_reason = "stop"
        self.num_written += len(ids)
        if self.num_written == self.max_length and not self.finished:
            self.finish_reason = "length"
        return ids

    def close(self) -> None:
        """Release the arrays. The session takes no further steps."""
        self.closed = True
        self.stream, self.state, self.logits = None, np.empty((0, 0), np.float32), np.empty(0, np.float32)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "stream": None}  # its addresses are those of this session's arrays

    def __copy__(self) -> Session:
        return deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        copied = {name: deepcopy(value, memo) for name, value in self.__getstate__().items()}
        return Session(**copied)


class Network(Protocol):
    """A trained network that reads and writes ids."""

    @property
    def vocab_size(self) -> int:
        """V, the size of the vocabulary."""

    @property
    def state_shape(self) -> tuple[int, int]:
        """(P, H), the shape of the state of one stream."""

    def read(self, ids: Array, states: Array | None = None) -> tuple[Array, Array]:
        """Read n ids on each of N streams.

        Args:
            ids: (N, n) integers, N and n at least 1.
            states: (P, N, H) as returned before; None for zeros.

        Returns:
            The logits of the next id, (N, V), and the states, (P, N, H).

        Raises:
            ArgumentError: an id is not a whole number from 0 to V - 1, there are no ids, or the states have another
                shape.
        """

    def predict(self, ids: Array, states: Array | None = None) -> tuple[Array, Array]:
        """Read ids like `read`, but return the logits behind every id, (N, n, V), and the states."""

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
        """Read a prompt and return a session that continues it.

        Args:
            prompt_ids: at least one id.
            params: how each character is chosen.
            seed: an integer, several integers, a numpy Generator, or None for a random seed.
            max_length: how many ids to write at most; None for no limit.
            banned: ids that are never written.
            stop: the id that ends the text; None for none.
            state: (P, H) float32, the state before the prompt; None for zeros.

        Raises:
            ArgumentError: an argument has the wrong type or is out of range, or the prompt is empty.
        """

    def step(self, sessions: Sequence[Session], num_characters: int) -> list[list[int]]:
        """Write the next ids of every session.

        Args:
            sessions: different sessions of this network, none of them finished or closed.
            num_characters: how many ids to write, at least 1.

        Returns:
            For each session `num_characters` ids, or fewer if its text has ended; the last one is then `stop` if the
            session has met it.

        Raises:
            ArgumentError: `sessions` is not a list of sessions, a session belongs to a network of another shape or
                appears twice, or `num_characters` is below 1.
            RuntimeError: a session is finished or closed.
        """

    def close(self, session: Session) -> None:
        """Release the memory of a session. A closed session takes no further steps.

        Raises:
            ArgumentError: `session` is not a session.
        """


def make_rng(seed: Seed, name: str = "seed") -> np.random.Generator:
    """Return the random generator of a seed. `name` is the argument that holds it, for the error.

    Raises:
        ArgumentError: the seed is not one of those that `Seed` lists.
    """
    if seed is None or isinstance(seed, (np.random.Generator, np.random.BitGenerator, np.random.SeedSequence)):
        return np.random.default_rng(seed)
    given: Any = seed.tolist() if isinstance(seed, np.ndarray) else seed
    if is_whole(given, 0):
        return np.random.default_rng(int(given))
    is_list = isinstance(given, Sequence) and not isinstance(given, (str, bytes, bytearray))
    if not (is_list and len(given) and all(is_whole(one, 0) for one in given)):
        raise ArgumentError(name, seed, "a whole number from 0 up, or several of them")
    return np.random.default_rng([int(one) for one in given])


def new_session(
    network: Network,
    prompt_ids: Sequence[int] | Array,
    params: SamplingParams,
    *,
    seed: Seed,
    max_length: int | None,
    banned: Sequence[int],
    stop: int | None,
    state: Array | None,
) -> Session:
    """Implement `Network.open` with `Network.read`."""
    ids = checked_ids("prompt_ids", prompt_ids, network.vocab_size)
    if len(ids) == 0:
        raise ArgumentError("prompt_ids", prompt_ids, "at least one id")
    check_type("params", params, SamplingParams, "a SamplingParams, such as SamplingParams(temperature=0.8)")
    rng, max_length = make_rng(seed), None if max_length is None else whole_number("max_length", max_length, 1)
    excluded = np.unique(checked_ids("banned", banned, network.vocab_size)).astype(np.int64)
    if len(excluded) == network.vocab_size:
        raise ArgumentError("banned", "every id", "fewer ids than the vocabulary has")
    if stop is not None:
        allowed = f"a whole number from 0 to {network.vocab_size - 1}, or None"
        stop = whole_number("stop", stop, 0, allowed)
        if stop >= network.vocab_size:
            raise ArgumentError("stop", stop, allowed)
    if state is not None and (not isinstance(state, Array) or state.shape != network.state_shape):
        raise ArgumentError("state", state, f"None, or floats of shape {network.state_shape}")
    logits, states = network.read(ids[None], None if state is None else state[:, None])
    behind = np.ascontiguousarray(states[:, 0])
    return Session(params, rng, max_length, excluded, stop, behind, np.ascontiguousarray(logits[0]))


def checked_read(ids: Any, states: Any, state_shape: tuple[int, int], vocab_size: int) -> tuple[Array, Array]:
    """Return the arguments of `Network.read` as arrays.

    Args:
        ids: the ids as given.
        states: the states as given.
        state_shape: (P, H) of the network.
        vocab_size: V of the network.

    Returns:
        The ids, (N, n) int64, and a copy of the states, (P, N, H) float32; zeros if there are none.

    Raises:
        ArgumentError: the errors of `Network.read`.
    """
    checked = checked_ids("ids", ids, vocab_size, num_axes=2).astype(np.int64, copy=False)
    if checked.size == 0:
        raise ArgumentError("ids", ids, "at least one id")
    (num_parts, hidden_size), num_streams = state_shape, len(checked)
    shape = (num_parts, num_streams, hidden_size)
    if states is None:
        return checked, np.zeros(shape, np.float32)
    if not isinstance(states, np.ndarray) or states.dtype.kind != "f" or states.shape != shape:
        raise ArgumentError("states", states, f"None, or floats of shape {shape} as `read` returns them")
    return checked, np.array(states, np.float32, order="C")


def check_session(session: Session, name: str = "session") -> None:
    """Raise ArgumentError unless `session` is a session. `name` is the argument that holds it, for the error."""
    check_type(name, session, Session, "a Session, as `open` returns it")


def check_step(sessions: Sequence[Session], num_characters: int, state_shape: tuple[int, int], vocab_size: int) -> None:
    """Raise the errors of `Network.step`."""
    whole_number("num_characters", num_characters, 1)
    check_type("sessions", sessions, Sequence, "a list of sessions, such as [session]")
    for session in sessions:
        check_session(session, "sessions")
        if session.closed:
            raise RuntimeError("this session is closed: open another one")
        if session.finish_reason is not None:
            raise RuntimeError(f"this session has finished ({session.finish_reason}): open another one")
        if session.state.shape != state_shape or session.logits.shape != (vocab_size,):
            raise ArgumentError("sessions", session, "sessions of this network; this one is of another shape")
    if len(set(map(id, sessions))) < len(sessions):
        raise ArgumentError("sessions", "a session twice", "different sessions; `fork` makes another one")
