"""A trained network in compiled code, for many texts at once.

Dimensions: N streams, n characters of each, L layers, V vocabulary, H hidden, G gates, K columns of a matrix, P parts
of the state: h, or h and c, of every layer.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ctypes import byref
from typing import Any

import numpy as np

from chargen import native
from chargen.errors import FileError
from chargen.sampling.arguments import whole_number
from chargen.sampling.params import SamplingParams
from chargen.sampling.session import BANNED, Seed, Session, check_session, check_step, checked_read, new_session
from chargen.sampling.weights import Precision, check_precision, head_weights, input_table, layer_weights, quantize
from chargen.storage.model_file import ModelFile

Array = np.ndarray

STREAMS_PER_THREAD = 8
"""With fewer streams on each thread, a second thread takes longer to start than it saves."""

PRODUCTS_PER_CALL = 1 << 27
"""How many products of two numbers a call of the kernels computes at most, unless a single character takes more.

That is a fraction of a second. Python handles signals, such as the one of Ctrl-C, between two calls.
"""

_TICK_PRODUCTS = 4096
"""How many products take as long as the rest of a tick."""


class NativeNetwork:
    """A trained `CharRNN` in compiled code; equal to `NumpyNetwork` up to float rounding.

    It implements `chargen.sampling.session.Network`. The text of a session is the same, bit for bit, regardless of the
    other sessions, of when they join or leave, and of the number of threads. A network can be copied, pickled and sent
    to another process: the copy packs the weights anew.

    Args:
        model_file: the model. The network keeps a reference to it.
        precision: of its matrices.
        num_threads: threads to use; None for one per eight streams, up to the number of processors.

    Raises:
        ArgumentError: `precision` is none of `PRECISIONS`, or `num_threads` is below 1.
        FileError: the weights do not fit the settings of the model.
        ValueError: the kernels do not compute its cell.
    """

    def __init__(
        self, model_file: ModelFile, precision: Precision = "float32", *, num_threads: int | None = None
    ) -> None:
        check_precision(precision)
        num_threads = None if num_threads is None else whole_number("num_threads", num_threads, 1)
        config = model_file.config
        self.model_file, self.precision, self.num_threads = model_file, precision, num_threads
        self._kernels = native.kernels()
        self._vector_width, self._panel = self._kernels.chargen_vector_width(), self._kernels.chargen_panel()
        self._arrays: list[object] = []  # the memory that the structs point into
        cell = native.cell_number(config.cell)
        L, H, G = config.num_layers, config.hidden_size, config.cell_type.num_gates
        try:
            table = input_table(model_file)
            input_products, hidden_products = (native.PackedMatrix * L)(), (native.PackedMatrix * L)()
            for layer in range(L):
                weight_ih, weight_hh, bias_ih, bias_hh = layer_weights(model_file, layer)
                hidden_products[layer] = self._packed(weight_hh, bias_hh, (G, H, H))
                if layer:
                    input_products[layer] = self._packed(weight_ih, bias_ih, (G, H, H))
            head = self._packed(*head_weights(model_file), (1, len(table), H))
            if table.shape[1] != G * H:
                raise ValueError(f"{table.shape[1]} input gates for {G} gates of {H} units")
        except (KeyError, ValueError, IndexError) as error:
            raise FileError(f"the model's weights do not fit its settings ({error})") from None
        self._vocab_size = len(table)
        self._state_shape = (L * config.cell_type.num_states, H)
        self._products = (2 * L - 1) * G * H * H + self._vocab_size * H + _TICK_PRODUCTS  # of one character
        self._network = native.Network(
            cell, L, H, self._vocab_size, config.residual, self._kernels.chargen_instruction_set_number(),
            self._address(table),
            hidden_products, input_products, head,
        )  # fmt: skip

    @property
    def vocab_size(self) -> int:
        """V, the size of the vocabulary."""
        return self._vocab_size

    @property
    def state_shape(self) -> tuple[int, int]:
        """(P, H), the shape of the state of one stream."""
        return self._state_shape

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
        """Write the next ids of every session side by side. See `Network.step`."""
        check_step(sessions, num_characters, self.state_shape, self._vocab_size)
        if not sessions:
            return []
        # A session that ends early computes on to the end of the step. What it writes there is dropped.
        wanted = [session.num_wanted(num_characters) for session in sessions]
        N, n = len(sessions), max(wanted)
        uniforms, ids = np.zeros((N, n)), np.empty((N, n), dtype=np.int64)
        uniforms_address, ids_address, row_size = uniforms.ctypes.data, ids.ctypes.data, n * uniforms.itemsize
        streams = (native.Stream * N)()
        for place, session in enumerate(sessions):
            row, offset = uniforms[place], place * row_size
            session.rng.random(out=row if wanted[place] == n else row[: wanted[place]])
            stream = session.stream or _make_stream(session)
            stream.uniforms, stream.ids = uniforms_address + offset, ids_address + offset
            streams[place] = stream
        size, num_threads = self.characters_per_call(N), self._threads_for(N)
        for begin in range(0, n, size):
            num_ticks = min(size, n - begin)
            native.check(self._kernels.chargen_write(byref(self._network), streams, N, num_ticks, num_threads))
            for stream in streams:
                stream.uniforms += num_ticks * uniforms.itemsize
                stream.ids += num_ticks * ids.itemsize
        return [session.accept(row) for session, row in zip(sessions, ids.tolist(), strict=True)]

    def close(self, session: Session) -> None:
        """Release the memory of a session. See `Network.close`."""
        check_session(session)
        session.close()

    def characters_per_call(self, num_streams: int) -> int:
        """Return how many characters of each stream one call of the kernels reads or writes at most."""
        return max(1, PRODUCTS_PER_CALL // (num_streams * self._products))

    def _read(self, ids: Array, states: Array | None, every: bool) -> tuple[Array, Array]:
        ids, states = checked_read(ids, states, self.state_shape, self._vocab_size)
        N, n = ids.shape
        logits = np.empty((N, n, self._vocab_size) if every else (N, self._vocab_size), dtype=np.float32)
        size = self.characters_per_call(N)
        for begin in range(0, n, size):
            piece = np.ascontiguousarray(ids[:, begin : begin + size])
            here = np.empty((*piece.shape, self._vocab_size), dtype=np.float32) if every else logits
            wanted = every or begin + size >= n  # the head is computed for the last character alone
            native.check(
                self._kernels.chargen_read(
                    byref(self._network), *piece.shape, piece.ctypes.data, states.ctypes.data,
                    here.ctypes.data if wanted else None, every, self._threads_for(N),
                )
            )  # fmt: skip
            if every:
                logits[:, begin : begin + size] = here
        return logits, states

    def _threads_for(self, num_streams: int) -> int:
        if self.num_threads is not None:
            return self.num_threads
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(processors, num_streams // STREAMS_PER_THREAD))

    # --------------------------------------------------------------------------- packing

    def _packed(self, rows: Array, bias: Array, sizes: tuple[int, int, int]) -> native.PackedMatrix:
        """Return a matrix in the order in which the kernel reads it (`PackedMatrix` of kernels.h).

        Args:
            rows: (gates * units, K).
            bias: (gates * units,).
            sizes: the numbers of gates, of units of a gate, and of columns that the settings ask for.
        """
        num_gates, num_units, num_columns = sizes
        if rows.shape != (num_gates * num_units, num_columns) or bias.shape != rows.shape[:1]:
            raise ValueError(f"a matrix of shape {rows.shape} for {num_gates} gates of {num_units} units")
        rows, bias = rows.astype(np.float32), bias.astype(np.float32)
        panel_size = self._panel * self._vector_width
        scale = offset = None
        if self.precision == "int8":
            rows, scale = quantize(rows)
            offset = -128 * rows.sum(axis=1, dtype=np.int32)

        def padded(values: Array) -> Array:
            """Pad each gate's rows to whole vectors, and all rows to whole panels: (panels, panel size, ...)."""
            by_gate = _pad(values.reshape(num_gates, -1, *values.shape[1:]), 1, self._vector_width)
            flat = by_gate.reshape(-1, *values.shape[1:])
            return _pad(flat, 0, panel_size).reshape(-1, panel_size, *values.shape[1:])

        panels = padded(rows)  # (panels, panel size, K)
        if self.precision == "int8":
            panels = _pad(panels, 2, 4)
            panels = panels.reshape(*panels.shape[:2], -1, 4).transpose(0, 2, 1, 3)
        else:
            panels = panels.transpose(0, 2, 1)
        return native.PackedMatrix(
            self._address(panels),
            self._address(padded(bias)),
            None if scale is None else self._address(padded(scale)),
            None if offset is None else self._address(padded(offset)),
        )

    def _address(self, values: Array) -> int:
        """Return the address of a contiguous copy that is aligned to a cache line and lives as long as the network."""
        room = np.empty(values.nbytes + 64, dtype=np.uint8)
        start = -room.ctypes.data % 64
        room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)[...] = values
        self._arrays.append(room)
        return room.ctypes.data + start

    # --------------------------------------------------------------------------- copies

    def __getstate__(self) -> dict[str, Any]:
        return {"model_file": self.model_file, "precision": self.precision, "num_threads": self.num_threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # addresses are packed anew


def _make_stream(session: Session) -> native.Stream:
    """Give a session its struct for the kernel. Its arrays stay where they are until it is closed."""
    params = session.params
    stream = native.Stream(
        params.temperature, params.top_p, params.min_p, min(params.top_k, len(session.logits)), len(session.banned),
        session.banned.ctypes.data, None, session.state.ctypes.data, session.logits.ctypes.data, None,
    )  # fmt: skip
    session.stream = stream
    return stream


def _pad(values: Array, axis: int, multiple: int) -> Array:
    """Append zeros along an axis, up to a multiple."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, -values.shape[axis] % multiple)
    return np.pad(values, widths)
