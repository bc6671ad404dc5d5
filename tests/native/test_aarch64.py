"""The kernels for 64-bit ARM equal the reference on an emulated processor, on every one of their instruction sets.

The kernels are built with a cross compiler together with drive_kernels.cpp, which runs under qemu-user. The problems
and their solutions come from Python: autograd in float64, or the twin that rounds to bf16. Debian's packages are
g++-aarch64-linux-gnu and qemu-user.
"""

from __future__ import annotations

import itertools
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from support.compilers import NATIVE
from torch import Tensor

from chargen import native
from chargen.config import ModelConfig
from chargen.nn.cells import CELLS
from chargen.nn.loss import IGNORE_INDEX, cross_entropy_reference
from chargen.nn.model import CharRNN
from chargen.nn.precision import bf16_products, linear_reference
from chargen.nn.unroll import TableLookup, unroll_by_hand
from chargen.sampling.native_network import NativeNetwork
from chargen.sampling.numpy_network import NumpyNetwork
from chargen.sampling.weights import Precision
from chargen.storage.model_file import ModelFile

COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(native.library() is None, reason="the kernels were not built here"),
    pytest.mark.skipif(not (COMPILER and EMULATOR), reason="needs g++-aarch64-linux-gnu and qemu-user"),
]

PROCESSORS = {"cortex-a57": ["portable"], "cortex-a76": ["neon_dot", "portable"],
              "max": ["neon_bf16", "neon_dot", "portable"]}  # fmt: skip
"""Processors that qemu emulates, and the instruction sets that they have."""

WIDTH, PANEL = 4, 2
"""Floats in a vector and vectors in a panel, for which a network is packed here."""

EXACT, FLOAT32, BF16 = 1e-6, 3e-5, 4e-3
"""Tolerances relative to the largest number: of the same sums, of other orders of a sum, and of numbers that round to
bf16 differently."""

WINDOW, LINEAR, HEAD, NETWORK = 1, 2, 3, 4


class Problems:
    """Writes the file that drive_kernels.cpp reads."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def integers(self, *values: int) -> None:
        self.stream.write(struct.pack(f"<{len(values)}q", *map(int, values)))

    def array(self, values: Tensor | np.ndarray | None, dtype: str = "<f4") -> None:
        numbers = np.zeros(0, dtype) if values is None else np.asarray(values).astype(dtype)
        self.integers(numbers.size)
        self.stream.write(np.ascontiguousarray(numbers).tobytes())

    def expected(self, values: Tensor | np.ndarray | None, tolerance: float) -> None:
        self.array(values)
        self.stream.write(struct.pack("<d", tolerance))


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float32)


def write_window(to: Problems, name: str, sizes: tuple[int, int, int], *, bf16: bool, looked_up: bool) -> None:
    cell, (T, B, H), rows = CELLS[name], sizes, 11
    G, states = cell.num_gates, cell.num_states
    first = randn(rows, G * H) if looked_up else randn(T, B, G * H)
    ids = torch.randint(rows, (T, B)) if looked_up else None
    inputs = [first, randn(G * H, H) / H**0.5, randn(G * H), *(randn(B, H) for _ in range(states))]
    grads = [randn(T, B, H), *(randn(B, H) for _ in range(states))]
    leaves = [part.double().requires_grad_() for part in inputs]
    with bf16_products(bf16):
        gates_x = leaves[0] if ids is None else TableLookup(leaves[0], ids)
        outputs, final = unroll_by_hand(cell, gates_x, leaves[1], leaves[2], tuple(leaves[3:]))
    loss = sum((part * grad).sum() for part, grad in zip([outputs, *final], grads, strict=True))
    d_first, d_weight, d_bias, *d_state = torch.autograd.grad(loss, leaves)
    c0, grad_c = (inputs[4], grads[2]) if states > 1 else (None, None)
    to.integers(WINDOW, native.cell_number(name), T, B, H, 2, bf16, rows if looked_up else T * B)
    to.array(ids, "<i8")
    for part in (*inputs[:4], c0, grads[0], grads[1], grad_c):
        to.array(part)
    tolerance = BF16 if bf16 else FLOAT32
    c, d_c = (final[1].detach(), d_state[1]) if states > 1 else (None, None)
    for result in (outputs.detach(), c, d_first, d_weight, d_bias, d_state[0], d_c):
        to.expected(result, tolerance)


def write_linear(to: Problems, num_rows: int, K: int, M: int, *, bf16: bool) -> None:
    x, weight, bias, grad = randn(num_rows, K), randn(M, K), randn(M), randn(num_rows, M)
    leaves = [part.double().requires_grad_() for part in (x, weight, bias)]
    with bf16_products(bf16):
        y = linear_reference(*leaves)
    results = [y.detach(), *torch.autograd.grad(y, leaves, grad.double())]
    to.integers(LINEAR, num_rows, K, M, 2, bf16)
    for part in (x, weight, bias, grad):
        to.array(part)
    for result in results:
        to.expected(result, FLOAT32)  # the factors are given, so both round them alike


def write_head(to: Problems, T: int, B: int, H: int, V: int, *, masked: bool, bf16: bool) -> None:
    outputs, weight, bias = randn(T, B, H), randn(V, H), randn(V)
    mask = (torch.rand(B, H) < 0.8) / 0.8 if masked else None
    targets = torch.randint(V, (T, B))
    targets[0, 0] = IGNORE_INDEX
    leaves = [part.double().requires_grad_() for part in (outputs, weight, bias)]
    factor = torch.ones(B, H).double() if mask is None else mask.double()
    with bf16_products(bf16):
        loss = cross_entropy_reference(leaves[0], factor, leaves[1], leaves[2], targets)
        logits = linear_reference(leaves[0] * factor, leaves[1], leaves[2])
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none"
    )
    results = [nats.detach(), *torch.autograd.grad(loss / 3, leaves)]
    to.integers(HEAD, T * B, B, H, V, 2, bf16, IGNORE_INDEX)
    for part in (outputs, mask, weight, bias):
        to.array(part)
    to.array(targets, "<i8")
    for result in results:
        to.expected(result, BF16 if bf16 else FLOAT32)


class Packed(NativeNetwork):
    """A network that remembers what it packs, for another instruction set."""

    def _address(self, values: np.ndarray) -> int:
        address = super()._address(values)
        self.__dict__.setdefault("packed", {})[address] = np.ascontiguousarray(values)
        return address

    def bytes_at(self, address: int | None) -> np.ndarray | None:
        return None if address is None else self.__dict__["packed"][address].reshape(-1).view(np.uint8)


class OtherPanels:
    """The compiled kernels with another width of vectors and panels."""

    def __getattr__(self, name: str) -> Any:
        sizes = {"chargen_vector_width": WIDTH, "chargen_panel": PANEL, "chargen_instruction_set_number": 0}
        return (lambda: sizes[name]) if name in sizes else getattr(native.library(), name)


def write_network(to: Problems, file: ModelFile, precision: Precision) -> None:
    reference, with_kernels = NumpyNetwork(file, precision), NativeNetwork(file, precision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "kernels", OtherPanels)
        packed = Packed(file, precision)
    config, net = file.config, packed._network
    to.integers(NETWORK, net.cell, net.L, net.H, net.V, net.residual)
    table = packed.__dict__["packed"][net.table]
    to.array(table)
    matrices = [matrix for layer in range(net.L) for matrix in (net.hidden[layer], net.input[layer])]
    for matrix in (*matrices, net.head):
        for name in ("panels", "bias", "scale", "offset"):
            to.array(packed.bytes_at(getattr(matrix, name)), "u1")
    N, n = 5, 6
    ids = np.random.default_rng(1).integers(0, config.num_symbols, (N, n))
    states = np.zeros((config.num_layers * config.cell_type.num_states, N, config.hidden_size), dtype=np.float32)
    to.integers(N, n)
    to.array(ids, "<i8")
    to.array(states)
    # Sums of int8 are exact and everything else reproducible, so the kernels of x86 give the same bits.
    logits, after = (with_kernels if precision == "int8" else reference).predict(ids)
    for result in (logits, after):
        to.expected(result, 0.0 if precision == "int8" else FLOAT32)


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One problem of each kind and size."""
    folder = tmp_path_factory.mktemp("problems")
    torch.manual_seed(1)
    with open(folder / "problems", "wb") as stream:
        to = Problems(stream)
        for name, bf16, looked_up in itertools.product(CELLS, (False, True), (False, True)):
            for sizes in ((1, 1, 1), (3, 5, 7), (2, 17, 40), (3, 2, 300)):
                write_window(to, name, sizes, bf16=bf16, looked_up=looked_up)
        for bf16 in (False, True):
            for sizes in ((1, 1, 1), (6, 7, 5), (300, 33, 70)):
                write_linear(to, *sizes, bf16=bf16)
            for masked in (False, True):
                write_head(to, 3, 5, 20, 67, masked=masked, bf16=bf16)
        for name, precision in itertools.product(CELLS, ("float32", "int8")):
            model = CharRNN(ModelConfig(67, name, 21, 2, 4))
            write_network(to, model.to_model_file("{}", {}), precision)
        to.integers(0)
    return folder / "problems"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    sources = [*sorted(NATIVE.glob("*.cpp")), Path(__file__).with_name("drive_kernels.cpp")]

    def compiled(source: Path) -> str:
        target = str(folder / f"{source.stem}.o")
        flags = ["-O2", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi", f"-I{NATIVE}"]
        subprocess.run([str(COMPILER), *flags, "-c", str(source), "-o", target], check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sources))
    subprocess.run([str(COMPILER), *objects, "-static", "-pthread", "-o", str(folder / "drive_kernels")], check=True)
    return folder / "drive_kernels"


def drive(driver: Path, processor: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(EMULATOR), "-cpu", processor, str(driver), *words], capture_output=True, text=True)


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_kernels_equal_the_reference(processor: str, driver: Path, problems: Path) -> None:
    result = drive(driver, processor, str(problems))
    assert result.returncode == 0, result.stdout + result.stderr
    sets = [f"{name} {WIDTH} {PANEL}" for name in PROCESSORS[processor]]
    assert result.stdout.splitlines() == [*sets, "0 failures"]


def test_a_wrong_result_is_noticed(driver: Path, problems: Path, tmp_path: Path) -> None:
    """The last number of the file but one tolerance is a state of the last network."""
    content = bytearray(problems.read_bytes())
    end = len(content) - 8 - 8  # the end of the file and the tolerance
    (value,) = struct.unpack_from("<f", content, end - 4)
    struct.pack_into("<f", content, end - 4, value + 1e-5)
    (tmp_path / "wrong").write_bytes(content)
    result = drive(driver, "cortex-a57", str(tmp_path / "wrong"))
    assert result.returncode == 1
    assert "states: error" in result.stdout
    assert result.stdout.endswith("1 failures\n")
