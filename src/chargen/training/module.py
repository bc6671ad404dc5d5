"""`CharLanguageModel`, the LightningModule: one TBPTT step, the carry, the optimizer.

One batch is one window. `training_step` reads it from the carry, the detached state in which the
window before it ended, and keeps the new one. Only a batch that says it begins the text starts from
zero. Backpropagation thus stops at the window's edge while the state does not: truncated BPTT with
automatic optimization, which leaves Lightning free to clip the gradient by its global norm
(Pascanu, Mikolov & Bengio 2013).

Dimensions: B lanes, T ticks, V vocabulary.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from chargen.nn.cells import State
from chargen.nn.loss import IGNORED
from chargen.nn.model import CharRNN, ModelConfig, States, detached
from chargen.storage.model_file import FORMAT_VERSION
from chargen.training.divergence import PATIENCE, Diverged, DivergenceDetector
from chargen.training.windows import Batch

VALIDATION_SCORE = "validation_nats_per_char"


@dataclass(frozen=True)
class Plan:
    """How far the run has come, as a function of its updates: a straight line to its end.

    Attributes:
        total: the updates of the whole run; None while that is not known.
        update: an update at which the progress is known.
        progress: what it is there, from 0 to 1.
    """

    total: int | None = None
    update: int = 0
    progress: float = 0.0

    def progress_at(self, update: int) -> float:
        """From `progress` at `update` to 1 at `total`; no progress while that is not known."""
        if self.total is None:
            return self.progress
        left = max(1, self.total - self.update)
        return min(1.0, self.progress + (1 - self.progress) * (update - self.update) / left)


def learning_rate(update: int, plan: Plan, peak: float, warmup: int, final_fraction: float) -> float:
    """The learning rate of an update: linear warm-up, then a cosine that ends with the run.

    Args:
        update: how many updates came before.
        plan: how far that is.
        peak: the highest rate.
        warmup: updates until it is reached, at most a tenth of the run.
        final_fraction: of the peak, where the cosine ends (Loshchilov & Hutter 2017).

    Returns:
        The rate, above zero.
    """
    if plan.total is not None:
        warmup = min(warmup, plan.total // 10)
    rising = min(1.0, (update + 1) / (warmup + 1))
    falling = 0.5 * (1 + math.cos(math.pi * plan.progress_at(update)))
    return peak * rising * (final_fraction + (1 - final_fraction) * falling)


class CharLanguageModel(LightningModule):
    """A `CharRNN` in training. Every argument is plain data, so that its checkpoints open safely.

    Args:
        model: what `ModelConfig` takes.
        optimizer: what `OptimizerConfig` holds.
        tokenizer: the tokenizer's JSON, so that a checkpoint is complete.
        run: the settings and notes of the run, carried along.
    """

    def __init__(self, model: dict[str, Any], optimizer: dict[str, Any], tokenizer: str, run: dict[str, Any]) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = CharRNN(ModelConfig(**model))
        self.optimizer_settings = optimizer
        self.tokenizer = tokenizer
        self.run = run
        self.plan = Plan()
        self.new_length = False  # a checkpoint's plan is not to be taken over
        self.carry: States | None = None
        self.learning_rate = 0.0
        self.guard = DivergenceDetector()
        self.skipped: list[
            tuple[int, str, float, float]
        ] = []  # update, why, loss, norm; until `ProgressReport` tells them
        self._windows: list[
            tuple[Batch, States | None, Tensor]
        ] = []  # of this update: with the carry into it, and loss
        self._generators: dict[str, Any] | None = None  # of a checkpoint, until training starts
        self._sums: dict[str, tuple[Tensor, int]] = {}  # and how many, since the last `take_means`
        self._validation: tuple[States | None, Tensor, int] = (None, torch.zeros(()), 0)

    # -------------------------------------------------------------------- one step

    def training_step(self, batch: Batch) -> Tensor:
        """Mean nats per character of one window, read from the carry."""
        before = None if batch.starts else self.carry
        nats, self.carry = self._nats(batch, before)
        # The mean over all lanes, of which this process has its share: averaging over processes gives it.
        loss = nats * (self.trainer.world_size / batch.num_targets)
        self._windows.append((batch, before, loss.detach()))
        return loss

    def _nats(self, batch: Batch, states: States | None) -> tuple[Tensor, States]:
        """The sum of -ln p over a window, and the detached states behind it."""
        nats, states = self.model.nats(batch.inputs, batch.targets, states)
        return nats, detached(states)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW (Loshchilov & Hutter 2019); only matrices decay."""
        settings, (matrices, vectors) = self.optimizer_settings, self._by_decay()
        return torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings["weight_decay"]},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=settings["learning_rate"],
            betas=(settings["beta1"], settings["beta2"]),
            # The fused step takes the loss scale of 16-mixed out by itself, behind the clipping: too late.
            fused=self.trainer.precision != "16-mixed",
        )

    def _by_decay(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters that decay, and those that do not, as the optimizer numbers them."""
        return [p for p in self.parameters() if p.dim() > 1], [p for p in self.parameters() if p.dim() <= 1]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Sets the rate of this update: a function of its number, so there is nothing to save."""
        settings = self.optimizer_settings
        self.learning_rate = learning_rate(
            self.global_step,
            self.plan,
            settings["learning_rate"] * self.guard.rate,
            settings["warmup_updates"],
            settings["final_fraction"],
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as Lightning was told, and keeps the norm from before, which Lightning throws away.

        Raises:
            Diverged: the guard has lost its patience.
        """
        by_norm = gradient_clip_algorithm in (None, "norm") and gradient_clip_val
        limit = float(gradient_clip_val) if by_norm and gradient_clip_val else math.inf
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not self._is_good(norm):
            for parameter in self.parameters():
                parameter.grad = None  # which AdamW passes over, its moments and its decay too
            return
        clipped = norm > limit
        # Scaling by one changes nothing. To find that out costs nothing where there is no device to wait for.
        if by_norm and (norm.device.type != "cpu" or clipped):
            torch.nn.utils.clip_grads_with_norm_(self.parameters(), limit, norm)
        elif not by_norm:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self._add(gradient_norm=norm, clip_fraction=clipped.to(norm.dtype))

    def _is_good(self, norm: Tensor) -> bool:
        """Whether the guard lets this update pass. One that is left out takes its carry with it."""
        windows, self._windows = self._windows, []
        mean = torch.stack([loss for _, _, loss in windows]).mean() if len(windows) > 1 else windows[0][2]
        loss, size = float(self._of_all_processes(mean)), float(norm)
        if self.trainer.precision == "16-mixed" and not math.isfinite(size):
            size = 0.0  # how the loss scale is found: the scaler leaves such an update out by itself
        why = self.guard.judge(loss, size, windows[-1][:2], self._reread)
        if not why:
            self._add(train_nats_per_char=mean)
            return True
        self.skipped.append((self.global_step, why, loss, size))
        self.carry = windows[0][1]
        if self.guard.streak >= PATIENCE:
            raise Diverged(self.global_step, why, loss, size, self.learning_rate)
        return False

    @torch.no_grad()
    def _reread(self, window: tuple[Batch, States | None]) -> float:
        """Nats per character of a window, by the weights as they are now, nothing dropped."""
        batch, states = window
        self.model.eval()
        nats, _ = self._nats(batch, states)
        self.model.train()
        return float(self._of_all_processes(nats * (self.trainer.world_size / batch.num_targets)))

    def _of_all_processes(self, value: Tensor) -> Tensor:
        return torch.as_tensor(self.trainer.strategy.reduce(value, reduce_op="mean"))

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """What the optimizer's own does, without its bookkeeping."""
        for parameter in self.parameters():
            parameter.grad = None

    # -------------------------------------------------------------------- means for the log

    def _add(self, **values: Tensor) -> None:
        """Sums stay on the device: reading one would wait for it."""
        for name, value in values.items():
            total, number = self._sums.get(name, (0, 0))
            self._sums[name] = (total + value, number + 1)

    def take_means(self) -> dict[str, float]:
        """Means since the last call: loss of the windows, pre-clip norm and fraction clipped of the updates."""
        means = {name: total.item() / number for name, (total, number) in self._sums.items()}
        self._sums = {}
        return means

    # -------------------------------------------------------------------- validation

    def on_validation_epoch_start(self) -> None:
        """Validation has a state of its own; the carry is not its to touch."""
        self._validation = (None, torch.zeros((), dtype=torch.float64), 0)

    def validation_step(self, batch: Batch) -> None:
        """One window of the held-out text."""
        states, total, num_targets = self._validation
        nats, states = self._nats(batch, states)
        self._validation = (states, total + nats.double().cpu(), num_targets + batch.num_targets)

    def on_validation_epoch_end(self) -> None:
        """The mean, in both units. `ProgressReport` logs it: Lightning would count it to the update before."""
        nats = self.validation_mean()
        scores = {VALIDATION_SCORE: nats, "validation_bits_per_char": nats / math.log(2)}
        self.log_dict({name: torch.tensor(score, dtype=torch.float64) for name, score in scores.items()}, logger=False)

    def validation_mean(self) -> float:
        """Nats per character over the windows since `on_validation_epoch_start`."""
        _, total, num_targets = self._validation
        return total.item() / max(1, num_targets)

    # -------------------------------------------------------------------- stopping and going on

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what Lightning leaves out: the carry, the random generators, the length of the run."""
        checkpoint["chargen"] = {
            "format_version": FORMAT_VERSION,
            "plan": asdict(self.plan),
            "carry": self._gathered_carry(),
            "guard": self._plain_guard(),
            "generators": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                "python": random.getstate(),
                "numpy": _plain_numpy_state(),
            },
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back; `on_train_start` puts it in place, for Lightning draws random numbers until then.

        Raises:
            ValueError: it was not saved by a run of this model.
        """
        saved = checkpoint["chargen"]
        self._require_own(checkpoint["optimizer_states"], saved["carry"], saved.get("guard", {}).get("kept"))
        if not self.new_length:
            self.plan = Plan(**saved["plan"])
        self._generators = saved["generators"]
        self.carry = saved["carry"]
        returns = self.guard.returns  # of the run, which may have gone back to a checkpoint from before
        self.guard = DivergenceDetector(**saved.get("guard", {}))
        self.guard.returns = max(returns, self.guard.returns)

    def _require_own(self, optimizer_states: list[Any], carry: States | None, window: Any) -> None:
        """The fused step takes the shapes of a parameter's moments on trust, and would write beside them."""
        matrices, vectors = self._by_decay()
        (optimizer,) = optimizer_states
        numbers = list(range(len(matrices) + len(vectors)))
        groups = [group["params"] for group in optimizer["param_groups"]]
        if groups != [numbers[: len(matrices)], numbers[len(matrices) :]] or optimizer["state"].keys() - set(numbers):
            raise ValueError("the optimizer's parameters are not those of the model")
        for number, parameter in enumerate([*matrices, *vectors]):
            for name, value in optimizer["state"].get(number, {}).items():
                shape = torch.Size() if name == "step" else parameter.shape
                if value.shape != shape or not value.is_floating_point() or not value.is_contiguous():
                    raise ValueError(f"the optimizer's {name} has the shape {tuple(value.shape)}, not {tuple(shape)}")
        self._require_own_states(carry)
        if window is None:
            return
        inputs, targets, starts, num_targets, states = window
        self._require_own_states(states)
        for ids, least in ((inputs, 0), (targets, IGNORED)):
            whole = ids.dtype == torch.int64 and ids.dim() == 2 and ids.shape == inputs.shape and ids.numel() > 0
            if not whole or ids.min() < least or ids.max() >= self.model.settings.vocab_size:
                raise ValueError("the guard has kept a window of another text")
        kinds = {part.dtype for state in (*(carry or ()), *(states or ())) for part in state}
        if type(starts) is not bool or type(num_targets) is not int or num_targets < 1 or len(kinds) > 1:
            raise ValueError("the guard has kept no window of this run")

    def _require_own_states(self, states: States | None) -> None:
        H, num_states = self.model.settings.hidden_size, self.model.recurrence.cell.num_states
        for state in states or ():
            if len(state) != num_states or any(part.dim() != 2 or part.shape[1] != H for part in state):
                raise ValueError("the carry is not one of its layers")
        if states is not None and len(states) != self.model.settings.num_layers:
            raise ValueError(f"the carry has {len(states)} layers, not {self.model.settings.num_layers}")

    def on_train_start(self) -> None:
        """The last moment before the first window."""
        if self._generators is None:
            return
        torch.set_rng_state(self._generators["torch"].cpu())
        if torch.cuda.is_available() and len(self._generators["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._generators["cuda"]])
        random.setstate(self._generators["python"])
        np.random.set_state(self._generators["numpy"])
        self._generators = None
        self.carry = self._own_carry(self.carry)
        if self.guard.kept is not None:
            inputs, targets, starts, num_targets, states = self.guard.kept
            batch = Batch(inputs, targets, starts, num_targets).to(self.device)
            self.guard.kept = batch, self._own_carry(states)

    def _plain_guard(self) -> dict[str, Any]:
        """The guard as plain data. The window it keeps is this process's own: of several, none is."""
        if self.guard.kept is None or self.trainer.world_size > 1:
            return {**vars(self.guard), "kept": None, "known": 0}
        batch, states = self.guard.kept
        return {**vars(self.guard), "kept": (*batch, states)}

    def _gathered_carry(self) -> States | None:
        """The carry of all B lanes, from every process."""
        if self.carry is None or self.trainer.world_size == 1:
            return self.carry
        return _each(self.carry, lambda part: torch.as_tensor(self.all_gather(part)).flatten(0, 1))

    def _own_carry(self, carry: States | None) -> States | None:
        """This process's lanes of a gathered carry, on its device."""
        if carry is None:
            return None
        rank, num_ranks = self.trainer.global_rank, self.trainer.world_size
        return _each(carry, lambda part: part.chunk(num_ranks)[rank].to(self.device))


def _each(states: States, change: Any) -> States:
    """`change` of every tensor in the states of all layers."""
    layers: list[State] = [tuple(change(part) for part in state) for state in states]
    return tuple(layers)


def _plain_numpy_state() -> tuple[str, list[int], int, int, float]:
    """numpy's global generator as plain data."""
    state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, gauss = state
    return str(name), [int(key) for key in keys], int(position), int(has_gauss), float(gauss)
