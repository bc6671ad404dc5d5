"""`CharRNN`: embedding, stacked unrolled layers, head; state in, state out.

The recurrent layers stand in `StackedRNN`, whose parameters have the names, order and shapes of
`torch.nn.RNN`, `torch.nn.LSTM` and `torch.nn.GRU`: a state dict of one loads into the other.

Sources: orthogonal recurrent weights, Saxe et al. 2013; forget-gate bias 1, Jozefowicz et al. 2015;
one dropout mask per window, Gal & Ghahramani 2016; dropped weights, Wan et al. 2013, of the recurrence
alone, Merity, Keskar & Socher 2018.
Dimensions: B lanes, T ticks, V vocabulary, E embedding, H hidden, L layers, G gates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.config import ModelConfig
from chargen.nn.cells import CELLS, State
from chargen.nn.linear import linear
from chargen.nn.loss import nats
from chargen.nn.unroll import GatesX, TableLookup, Unroll, unroll
from chargen.storage.model_file import ModelFile

States = tuple[State, ...]
"""The state of every layer, bottom first."""


def detached(states: States) -> States:
    """The same states, through which no gradient goes back."""
    return tuple(tuple(part.detach() for part in state) for state in states)


def drop_weights(weight: Tensor, fraction: float) -> Tensor:
    """A matrix some of whose weights are zero, and the rest larger in proportion: its mean is what it was.

    A weight is dropped where a random byte is below `fraction`, which is rounded to 256ths: eight masks to one
    random number, a sixth of the time that `torch.nn.functional.dropout` takes.

    Args:
        weight: of any shape.
        fraction: to be dropped, from 0 up and below 1.
    """
    bound = min(255, round(256 * fraction))
    numbers = torch.empty(-(-weight.numel() // 8), dtype=torch.int64, device=weight.device).random_(-(2**63), None)
    kept = numbers.view(torch.uint8)[: weight.numel()].ge(bound).view(weight.shape)
    return weight * kept.to(weight.dtype).mul_(256 / (256 - bound))


class StackedRNN(nn.Module):
    """Layers of one cell, unrolled along a window, each fed by the one below.

    Without dropout and residuals it equals `torch.nn.RNN`, `LSTM` or `GRU` of the same
    sizes, gradients included.

    Args:
        input_size: width of what the first layer reads.
        config: cell, hidden size, number of layers, dropout and residuals.
        unroll: runs the loop over time.
    """

    def __init__(self, input_size: int, config: ModelConfig, unroll: Unroll = unroll) -> None:
        super().__init__()
        self.cell = CELLS[config.cell]
        self.hidden_size = hidden_size = config.hidden_size
        self.num_layers = config.num_layers
        self.dropout = config.dropout
        self.residual = config.residual
        self.weight_dropout = config.weight_dropout or 0.0
        self.unroll = unroll
        gates_size = self.cell.num_gates * hidden_size
        for layer in range(self.num_layers):
            below_size = hidden_size if layer else input_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(gates_size, below_size)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(gates_size, hidden_size)))
            self.register_parameter(f"bias_ih_l{layer}", nn.Parameter(torch.zeros(gates_size)))
            self.register_parameter(f"bias_hh_l{layer}", nn.Parameter(torch.zeros(gates_size)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier input weights, orthogonal recurrent weights gate by gate, no bias but an open forget gate."""
        for layer in range(self.num_layers):
            weight_ih, weight_hh, bias_ih, bias_hh = self.weights(layer)
            for gate in torch.split(weight_ih, self.hidden_size):
                nn.init.xavier_uniform_(gate)
            for gate in torch.split(weight_hh, self.hidden_size):
                nn.init.orthogonal_(gate)
            nn.init.zeros_(bias_ih)
            nn.init.zeros_(bias_hh)
            if self.cell.type.open_gate is not None:
                nn.init.ones_(torch.split(bias_ih, self.hidden_size)[self.cell.type.open_gate])

    def weights(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`weight_ih`, `weight_hh`, `bias_ih`, `bias_hh` of one layer, as `torch.nn` names them."""
        return (
            self.get_parameter(f"weight_ih_l{layer}"),
            self.get_parameter(f"weight_hh_l{layer}"),
            self.get_parameter(f"bias_ih_l{layer}"),
            self.get_parameter(f"bias_hh_l{layer}"),
        )

    def zero_state(self, num_lanes: int) -> States:
        """The state of a text that has not begun: zeros, (B, H) each."""
        weight = self.get_parameter("weight_hh_l0")
        zeros = weight.new_zeros(num_lanes, self.hidden_size)
        return tuple((zeros,) * self.cell.num_states for _ in range(self.num_layers))

    def forward(self, inputs: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Runs the layers along a window.

        Args:
            inputs: (T, B, input_size).
            states: the state of every layer; None begins at zero.

        Returns:
            The top layer's outputs, (T, B, H), and the states after the window.
        """
        weight_ih, _, bias_ih, _ = self.weights(0)
        outputs, mask, states = self.climb(linear(inputs, weight_ih, bias_ih), states)
        return outputs if mask is None else outputs * mask, states

    def climb(self, gates_x: GatesX, states: States | None = None) -> tuple[Tensor, Tensor | None, States]:
        """`forward` from the first layer's input product, (T, B, G*H), wherever it came from.

        Returns:
            The top layer's outputs, (T, B, H); the mask of its dropout, (B, H), which is left for whoever reads
            them, or None; and the states after the window.
        """
        states = states or self.zero_state((gates_x.ids if isinstance(gates_x, TableLookup) else gates_x).shape[1])
        below, mask, last = None, None, []
        for layer, state in enumerate(states):
            weight_ih, weight_hh, bias_ih, bias_hh = self.weights(layer)
            if below is not None:
                if mask is not None:
                    below = below * mask
                gates_x = linear(below, weight_ih, bias_ih)  # (T, B, G*H), the whole window at once
            if self.training and self.weight_dropout:
                weight_hh = drop_weights(weight_hh, self.weight_dropout)
            outputs, state = self.unroll(self.cell, gates_x, weight_hh, bias_hh, state)
            if below is not None and self.residual:
                outputs = outputs + below
            if self.training and self.dropout:
                mask = F.dropout(torch.ones_like(outputs[0]), self.dropout)  # (B, H), one for all ticks
            last.append(state)
            below = outputs
        return outputs, mask, tuple(last)


class CharRNN(nn.Module):
    """A character-level language model: p(next character | all characters before)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_symbols, config.embedding_size)
        self.recurrence = StackedRNN(config.embedding_size, config)
        self.head = nn.Linear(config.hidden_size, config.num_symbols)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Reads a window and predicts each next character.

        Args:
            ids: (B, T), integer.
            states: the carry; None begins at zero.

        Returns:
            Logits, (B, T, V), a view of a time-major tensor, and the states after the window.
        """
        outputs, mask, states = self.recurrence.climb(self._input_gates(ids.t()), states)
        logits = linear(outputs if mask is None else outputs * mask, self.head.weight, self.head.bias)
        return logits.transpose(0, 1), states

    def nats(self, ids: Tensor, targets: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Reads a window and says how well it predicted it.

        Args:
            ids: (B, T), integer.
            targets: (B, T), integer, each the character after its id; `head.IGNORED` where there is none.
            states: the carry; None begins at zero.

        Returns:
            The sum of -ln p over the targets, nats, and the states after the window.
        """
        outputs, mask, states = self.recurrence.climb(self._input_gates(ids.t()), states)
        return nats(outputs, mask, self.head.weight, self.head.bias, targets.t()), states

    def _input_gates(self, ids: Tensor) -> GatesX:
        """The first layer's input product for ids (T, B): (T, B, G*H).

        A character's product depends on the character alone, so it is looked up in a table of V
        rows; where the window is shorter than the vocabulary is wide, multiplying is less work.
        """
        weight_ih, _, bias_ih, _ = self.recurrence.weights(0)
        if ids.numel() >= self.config.num_symbols:
            return TableLookup(linear(self.embedding.weight, weight_ih, bias_ih), ids)
        return linear(self.embedding(ids), weight_ih, bias_ih)

    def to_model_file(self, tokenizer: str, metadata: dict[str, object]) -> ModelFile:
        """Return the model as float32 arrays and plain data, with its tokenizer (JSON) and metadata about the run."""
        weights = {name: value.detach().float().cpu().numpy().copy() for name, value in self.state_dict().items()}
        return ModelFile(weights, self.config, tokenizer, metadata)

    @staticmethod
    def from_model_file(file: ModelFile) -> CharRNN:
        """Build the model that `to_model_file` wrote. `ModelFile.load` has checked that the weights fit."""
        model = CharRNN(file.config)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in file.weights.items()})
        return model
