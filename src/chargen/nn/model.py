"""`CharRNN`, a character-level language model: an embedding, stacked recurrent layers and an output layer.

    x_t = embedding[character t]
    h_t = the outputs of L recurrent layers, each one reading the outputs of the layer below
    p(character t+1 | all characters up to t) = softmax(W h_t + b)

Training reads a long text in windows of T characters (truncated backpropagation through time). The model therefore
takes the state before a window and returns the state after it. It stores no state between calls.

`StackedRNN` holds the recurrent layers. Its parameters have the names, order and shapes of those of `torch.nn.RNN`,
`torch.nn.LSTM` and `torch.nn.GRU`, so a state dict of one loads into the other.

Sources: forget gate bias of 1, Jozefowicz et al. 2015; one dropout mask
for all ticks of a window, Gal & Ghahramani 2016; dropped weights, Wan et al. 2013, applied to the recurrent matrices
only, Merity, Keskar & Socher 2018.
Dimensions: B lanes, T ticks, V vocabulary, E embedding, H hidden, L layers, G gates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.errors import ArgumentError
from chargen.nn.cells import CELLS, State
from chargen.nn.linear import linear
from chargen.nn.loss import cross_entropy
from chargen.nn.unroll import GatesX, TableLookup, Unroll, unroll
from chargen.storage.model_file import ModelFile

States = tuple[State, ...]
"""The state of every layer, the lowest first."""


def detached(states: States) -> States:
    """Return the same states cut off from autograd's graph, so that gradients stop at the start of the next window."""
    return tuple(tuple(part.detach() for part in state) for state in states)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Switch dropout off, and leave the training mode of a module as it was."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def drop_weights(weight: Tensor, fraction: float) -> Tensor:
    """Set a random fraction of the weights to zero and scale the others up, so that the expected value stays the same.

    A weight is dropped if a random byte is below 256 * fraction, rounded. One 64-bit random number decides on eight
    weights, which takes a sixth of the time of `torch.nn.functional.dropout`.

    Args:
        weight: any shape.
        fraction: the fraction to drop, at least 0 and below 1.

    Returns:
        A tensor of the same shape.
    """
    threshold = min(255, round(256 * fraction))
    numbers = torch.empty(-(-weight.numel() // 8), dtype=torch.int64, device=weight.device).random_(-(2**63), None)
    keep = numbers.view(torch.uint8)[: weight.numel()].ge(threshold).view(weight.shape)
    return weight * keep.to(weight.dtype).mul_(256 / (256 - threshold))


@torch.no_grad()
def initialize_recurrent(weight: Tensor, kind: str, gain: float) -> Tensor:
    """Fill the recurrent matrix of one gate so that its spectral radius is `gain`, and return it.

    - `orthogonal`: gain Q with Q orthogonal. Every singular value is `gain` (Saxe, McClelland & Ganguli 2013).
    - `identity`: gain I (Le, Jaitly & Hinton 2015).
    - `normal`: independent numbers with variance gain^2 / H. The spectral radius approaches `gain` as H grows (the
      circular law, Ginibre 1965), while the largest singular value approaches 2 gain.

    Args:
        weight: (H, H), modified in place.
        kind: one of `config.RECURRENT_INITS`.
        gain: the spectral radius.
    """
    if kind == "identity":
        return nn.init.eye_(weight).mul_(gain)
    if kind == "normal":
        return nn.init.normal_(weight, std=gain * weight.shape[1] ** -0.5)
    return nn.init.orthogonal_(weight, gain)


class StackedRNN(nn.Module):
    """Recurrent layers, each one reading the outputs of the layer below.

    Without dropout and residual connections it equals `torch.nn.RNN`, `torch.nn.LSTM` or `torch.nn.GRU` of the same
    sizes, gradients included.

    Args:
        input_size: the number of features that the first layer reads.
        config: the cell, the sizes, the dropout and the residual connections. A `weight_dropout` of None drops nothing.
        unroll: the function that runs the loop over time.
    """

    def __init__(self, input_size: int, config: ModelConfig, unroll: Unroll = unroll) -> None:
        super().__init__()
        self.cell = CELLS[config.cell]
        self.hidden_size = hidden_size = config.hidden_size
        self.num_layers = config.num_layers
        self.dropout = config.dropout
        self.residual = config.residual
        self.weight_dropout = config.weight_dropout or 0.0
        self.recurrent_init = config.recurrent_init
        self.recurrent_gain = config.recurrent_gain
        self.unroll = unroll
        gates_size = self.cell.num_gates * hidden_size
        for layer in range(self.num_layers):
            layer_input_size = hidden_size if layer else input_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(gates_size, layer_input_size)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(gates_size, hidden_size)))
            self.register_parameter(f"bias_ih_l{layer}", nn.Parameter(torch.zeros(gates_size)))
            self.register_parameter(f"bias_hh_l{layer}", nn.Parameter(torch.zeros(gates_size)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the parameters.

        Input matrices are Xavier uniform, gate by gate. Biases are zero, except that of the cell's open gate
        (`CellType.open_gate`), which is 1. `initialize_recurrent` describes the recurrent matrices.
        """
        for layer in range(self.num_layers):
            weight_ih, weight_hh, bias_ih, bias_hh = self.weights(layer)
            for gate in torch.split(weight_ih, self.hidden_size):
                nn.init.xavier_uniform_(gate)
            for gate in torch.split(weight_hh, self.hidden_size):
                initialize_recurrent(gate, self.recurrent_init, self.recurrent_gain)
            nn.init.zeros_(bias_ih)
            nn.init.zeros_(bias_hh)
            if self.cell.type.open_gate is not None:
                nn.init.ones_(torch.split(bias_ih, self.hidden_size)[self.cell.type.open_gate])

    def weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return `weight_ih`, `weight_hh`, `bias_ih` and `bias_hh` of one layer."""
        return (
            self.get_parameter(f"weight_ih_l{layer}"),
            self.get_parameter(f"weight_hh_l{layer}"),
            self.get_parameter(f"bias_ih_l{layer}"),
            self.get_parameter(f"bias_hh_l{layer}"),
        )

    def zero_state(self, num_lanes: int) -> States:
        """Return the state at the beginning of a text: zeros, (num_lanes, H) each."""
        weight = self.get_parameter("weight_hh_l0")
        zeros = weight.new_zeros(num_lanes, self.hidden_size)
        return tuple((zeros,) * self.cell.num_states for _ in range(self.num_layers))

    def forward(self, inputs: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Run the layers along a window.

        Args:
            inputs: (T, B, input_size).
            states: the states before the window; None for zeros.

        Returns:
            The outputs of the top layer, (T, B, H), and the states after the window.
        """
        weight_ih, _, bias_ih, _ = self.weights(0)
        outputs, mask, states = self.run_layers(linear(inputs, weight_ih, bias_ih), states)
        return outputs if mask is None else outputs * mask, states

    def run_layers(self, gates_x: GatesX, states: States | None = None) -> tuple[Tensor, Tensor | None, States]:
        """Run the layers along a window, given the input product of the first layer.

        The dropout mask of the top layer is returned and not applied, because the fused loss kernel applies it.

        Args:
            gates_x: (T, B, G*H), or a `TableLookup` of it.
            states: the states before the window; None for zeros.

        Returns:
            The outputs of the top layer before dropout, (T, B, H); their dropout mask, (B, H), or None; and the states
            after the window.
        """
        states = states or self.zero_state((gates_x.ids if isinstance(gates_x, TableLookup) else gates_x).shape[1])
        layer_input, mask, final_states = None, None, []
        for layer, state in enumerate(states):
            weight_ih, weight_hh, bias_ih, bias_hh = self.weights(layer)
            if layer_input is not None:
                if mask is not None:
                    layer_input = layer_input * mask
                gates_x = linear(layer_input, weight_ih, bias_ih)  # (T, B, G*H), one product for the whole window
            if self.training and self.weight_dropout:
                weight_hh = drop_weights(weight_hh, self.weight_dropout)
            outputs, state = self.unroll(self.cell, gates_x, weight_hh, bias_hh, state)
            if layer_input is not None and self.residual:
                outputs = outputs + layer_input
            if self.training and self.dropout:
                mask = F.dropout(torch.ones_like(outputs[0]), self.dropout)  # (B, H), the same for all ticks
            final_states.append(state)
            layer_input = outputs
        return outputs, mask, tuple(final_states)


class CharRNN(nn.Module):
    """A character-level language model: p(next character | all characters before it).

    Args:
        config: the shape of the network, with its `vocab_size`.

    Raises:
        ArgumentError: `config` is not a ModelConfig.
        ValueError: its `vocab_size` is not set.
    """

    def __init__(self, config: ModelConfig) -> None:
        if not isinstance(config, ModelConfig):
            raise ArgumentError("config", config, "a ModelConfig, such as ModelConfig(vocab_size=100)")
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_symbols, config.embedding_size)
        self.recurrence = StackedRNN(config.embedding_size, config)
        size = config.head_size if config.head_size is not None and config.has_projection else config.hidden_size
        self.projection = nn.Linear(config.hidden_size, size) if config.has_projection else None
        self.head = nn.Linear(size, config.num_symbols)
        nn.init.zeros_(self.head.bias)
        if self.projection is not None:
            nn.init.zeros_(self.projection.bias)

    def forward(self, ids: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Read a window of characters and predict the next one at each position.

        Args:
            ids: (B, T), integer.
            states: the states before the window; None for zeros.

        Returns:
            Logits, (B, T, V), and the states after the window. The logits are a view of a time-major tensor.
        """
        outputs, mask, states = self._run(ids, states)
        logits = linear(outputs if mask is None else outputs * mask, self.head.weight, self.head.bias)
        return logits.transpose(0, 1), states

    def cross_entropy(self, ids: Tensor, targets: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Read a window of characters and compute the loss of its predictions.

        Args:
            ids: (B, T), integer.
            targets: (B, T), integer, the character after each id; `loss.IGNORE_INDEX` where there is none.
            states: the states before the window; None for zeros.

        Returns:
            The sum of -ln p(target) in nats, a scalar, and the states after the window.
        """
        outputs, mask, states = self._run(ids, states)
        return cross_entropy(outputs, mask, self.head.weight, self.head.bias, targets.t()), states

    def outputs(self, ids: Tensor, states: States | None = None) -> tuple[Tensor, Tensor | None, States]:
        """Run the recurrent layers over a window of characters.

        Args:
            ids: (B, T), integer.
            states: the states before the window; None for zeros.

        Returns:
            What `StackedRNN.run_layers` returns: the outputs of the top layer, (T, B, H), their dropout mask or None,
            and the states after the window.
        """
        return self.recurrence.run_layers(self._input_gates(ids.t()), states)

    def _run(self, ids: Tensor, states: States | None) -> tuple[Tensor, Tensor | None, States]:
        """Run all layers over ids (B, T).

        Returns:
            What the output layer reads, (T, B, H or R); a factor for it, (B, H), or None; and the states.
        """
        outputs, mask, states = self.outputs(ids, states)
        if self.projection is None:
            return outputs, mask, states
        outputs = outputs if mask is None else outputs * mask
        return linear(outputs, self.projection.weight, self.projection.bias), None, states

    @torch.no_grad()
    def mean_states(self, ids: Tensor) -> Tensor:
        """Read several texts from the zero state, without dropout, and return the mean of the states behind them.

        Args:
            ids: (N, n), integer: N texts of n characters.

        Returns:
            (P, H): h, or h and c, of every layer, on the CPU.
        """
        with evaluating(self):
            _, _, states = self.outputs(ids.to(self.head.weight.device))
        return torch.stack([part.mean(0) for state in states for part in state]).float().cpu()

    def _input_gates(self, ids: Tensor) -> GatesX:
        """Compute the input product of the first layer for ids (T, B): (T, B, G*H) or a table of it.

        The product of a character depends on the character alone. If the window has at least V characters, a table of V
        rows is less work than a product for each of them.
        """
        weight_ih, _, bias_ih, _ = self.recurrence.weights(0)
        if ids.numel() >= self.config.num_symbols:
            return TableLookup(linear(self.embedding.weight, weight_ih, bias_ih), ids)
        return linear(self.embedding(ids), weight_ih, bias_ih)

    def to_model_file(self, tokenizer: str, metadata: dict[str, object]) -> ModelFile:
        """Return the model as float32 arrays and plain data.

        Args:
            tokenizer: the tokenizer's JSON.
            metadata: plain data about the run.
        """
        weights = {name: value.detach().float().cpu().numpy().copy() for name, value in self.state_dict().items()}
        return ModelFile(weights, self.config, tokenizer, metadata)

    @staticmethod
    def from_model_file(file: ModelFile) -> CharRNN:
        """Build the model of a model file.

        Raises:
            ArgumentError: `file` is not a ModelFile.
            ValueError: the weights do not fit the config. `ModelFile.load` never returns such a file.
        """
        if not isinstance(file, ModelFile):
            raise ArgumentError("file", file, "a ModelFile; ModelFile.load takes a path")
        model = CharRNN(file.config)
        try:
            model.load_state_dict({name: torch.from_numpy(value) for name, value in file.weights.items()})
        except RuntimeError as error:
            raise ValueError(f"the weights do not fit the config: {str(error).splitlines()[-1].strip()}") from None
        return model
