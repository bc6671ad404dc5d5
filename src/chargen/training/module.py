"""`CharLanguageModel`, the LightningModule: one step of truncated backpropagation through time, and the optimizer.

One batch is one window. `training_step` reads it from the carry, the detached state after the window before it, and
keeps the new state as the next carry. Only a batch that begins the text starts from a zero state. Backpropagation thus
stops at the edge of the window while the state does not (Williams & Peng 1990). Optimization is automatic, so Lightning
clips the gradient by its global norm (Pascanu, Mikolov & Bengio 2013) through `gradient_clip_val`.

The module is the only writer of the training state: the carry, the schedule and the divergence detector. Callbacks
change it through the module's methods. The module is long because Lightning wants its hooks in one class.

Dimensions: B lanes, T ticks, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from chargen.config import OptimizerConfig, parse_model_config
from chargen.corpus.contexts import Contexts
from chargen.nn.cells import State
from chargen.nn.model import CharRNN, States, detached
from chargen.planning.schedule import Schedule, learning_rate
from chargen.schema import parse
from chargen.storage.checkpoint import TrainingState
from chargen.storage.model_file import ModelFile
from chargen.training.divergence import MAX_SKIPPED_IN_A_ROW, Diverged, DivergenceDetector, SkippedUpdate, not_finite
from chargen.training.optimizer import build_optimizer, parameter_groups
from chargen.training.restore import (
    generator_states,
    require_fitting_detector,
    require_fitting_optimizer,
    require_fitting_states,
    restore_generators,
)
from chargen.training.windows import Batch, ReadWindow

VALIDATION_SCORE = "validation_nats_per_char"


class CharLanguageModel(LightningModule):
    """A `CharRNN` in training. Every argument is plain data, so that its checkpoints load safely.

    Args:
        model: the fields of `ModelConfig`.
        optimizer: the fields of `OptimizerConfig`.
        tokenizer: the tokenizer's JSON, so that a checkpoint is complete.
        metadata: what each file of the run stores about it: settings, corpus, versions.
    """

    def __init__(
        self, model: dict[str, Any], optimizer: dict[str, Any], tokenizer: str, metadata: dict[str, Any]
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = CharRNN(parse_model_config(model))
        self.optimizer_config: OptimizerConfig = parse(OptimizerConfig, optimizer, "optimizer.")
        self.tokenizer = tokenizer
        self.metadata = metadata
        self.schedule = Schedule()
        self.detector = DivergenceDetector()
        self.carry: States | None = None
        self.contexts: Contexts | None = None  # of the training text
        self.learning_rate = 0.0
        self.guard = True  # skip an update that would break the model
        self.is_restoring = False  # the run continues, and its first update is not over
        self.has_started = False
        self._start_update = 0
        self._keep_schedule = False
        self._generators: dict[str, Any] | None = None  # of a checkpoint, until training starts
        self._windows: list[ReadWindow] = []  # of the present update
        self._skipped: list[SkippedUpdate] = []  # since the last `take_skipped`
        self._sums: dict[str, tuple[Tensor, int]] = {}  # sum and count of each metric since the last `take_means`
        self._validation: tuple[States | None, Tensor, int] = (None, torch.zeros(()), 0)

    def start_run(
        self,
        total_updates: int | None,
        *,
        rollbacks: int = 0,
        new_length: bool = False,
        restoring: bool = False,
        guard: bool = True,
        contexts: Contexts | None = None,
    ) -> None:
        """Prepare the training state of a run.

        Args:
            total_updates: of the whole run; None while they are not known.
            rollbacks: how often the run has returned to a checkpoint.
            new_length: keep this schedule instead of the one in the checkpoint that is restored.
            restoring: the run continues from a checkpoint.
            guard: skip an update that would break the model.
            contexts: of the training text; None for a model without initial states.
        """
        self.schedule = Schedule(total_updates)
        self.detector.rollbacks = rollbacks
        self._keep_schedule = new_length
        self.is_restoring = restoring
        self.guard = guard
        self.contexts = contexts

    def set_total_updates(self, total: int) -> None:
        """Correct the number of updates of the run; the schedule continues from its present progress."""
        update = self.global_step
        self.schedule = Schedule(total, update, self.schedule.progress_at(update))

    def begin_at(self, progress: float) -> None:
        """Set the progress of a run whose number of updates is not known yet."""
        self.schedule = Schedule(None, self.global_step, min(1.0, progress))

    # -------------------------------------------------------------------- one step

    def training_step(self, batch: Batch) -> Tensor:
        """Return the mean nats per character of one window, read from the carry."""
        before = None if batch.starts else self.carry
        nats, self.carry = self._cross_entropy(batch, before)
        # The mean over the lanes of all processes; this process has a share of them, and gradients are averaged.
        loss = nats * (self.trainer.world_size / batch.num_targets)
        self._windows.append(ReadWindow(batch, before, loss.detach()))
        return loss

    def _cross_entropy(self, batch: Batch, states: States | None) -> tuple[Tensor, States]:
        """Return the sum of -ln p over a window and the detached states after it."""
        nats, states = self.model.cross_entropy(batch.inputs, batch.targets, states)
        return nats, detached(states)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the run's settings."""
        # The fused step removes the loss scale of 16-mixed itself, after clipping, which is too late.
        return build_optimizer(self.parameters(), self.optimizer_config, fused=self.trainer.precision != "16-mixed")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate, which depends on the number of the update alone."""
        update = self.global_step
        if update > self._start_update:  # every part of the checkpoint has been used by now
            self.is_restoring = False
        self.learning_rate = learning_rate(
            update, self.schedule, self.optimizer_config, self.detector.learning_rate_scale
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient as the Trainer's settings say, or skip the update if the run diverges.

        Raises:
            Diverged: too many updates in a row were skipped, or loss or gradient are not finite in a run without guard.
        """
        windows, self._windows = self._windows, []
        losses = [window.loss for window in windows]
        mean = torch.stack(losses).mean() if len(losses) > 1 else losses[0]
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        if reason := self._reason_to_skip(mean, norm, windows[-1]):
            self._skip_update(reason, mean, norm, carry=windows[0].carry)
            return
        clips_norm = bool(gradient_clip_val) and gradient_clip_algorithm in (None, "norm")
        limit = float(gradient_clip_val or math.inf) if clips_norm else math.inf
        is_clipped = norm > limit
        # Scaling by one changes nothing. Reading the flag costs nothing on the CPU; on a GPU it would wait.
        if clips_norm and (norm.device.type != "cpu" or is_clipped):
            torch.nn.utils.clip_grads_with_norm_(self.parameters(), limit, norm)
        elif not clips_norm:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self._add(train_nats_per_char=mean, gradient_norm=norm, clip_fraction=is_clipped.to(norm.dtype))

    def _reason_to_skip(self, mean: Tensor, norm: Tensor, last: ReadWindow) -> str:
        """Return why the detector skips this update, or ""; nothing is skipped without guard.

        Raises:
            Diverged: there is no guard, and the loss or the gradient is not finite.
        """
        loss, size = float(self._over_processes(mean)), float(norm)
        if self.trainer.precision == "16-mixed" and not math.isfinite(size):
            size = 0.0  # the loss scaler searches for its scale this way, and skips such an update itself
        if not self.guard:
            if reason := not_finite(loss, size):
                raise Diverged(self.global_step, reason, loss=loss, norm=size, learning_rate=self.learning_rate)
            return ""
        return self.detector.observe(loss, size, (last.batch, last.carry), self._reread)

    def _skip_update(self, reason: str, mean: Tensor, norm: Tensor, carry: States | None) -> None:
        """Leave weights and optimizer as they are, and return to the state before the update's windows.

        Raises:
            Diverged: too many updates in a row were skipped.
        """
        for parameter in self.parameters():
            parameter.grad = None  # AdamW skips a parameter without a gradient, its means and its decay as well
        self.carry = carry
        loss, size = float(self._over_processes(mean)), float(norm)
        self._skipped.append(SkippedUpdate(self.global_step, reason, loss, size))
        if self.detector.streak >= MAX_SKIPPED_IN_A_ROW:
            raise Diverged(self.global_step, reason, loss=loss, norm=size, learning_rate=self.learning_rate)

    @torch.no_grad()
    def _reread(self, window: tuple[Batch, States | None]) -> float:
        """Score a window with the present weights, without dropout, in nats per character."""
        batch, states = window
        self.model.eval()
        with self.trainer.precision_plugin.forward_context():
            nats, _ = self._cross_entropy(batch, states)
        self.model.train()
        return float(self._over_processes(nats * (self.trainer.world_size / batch.num_targets)))

    def _over_processes(self, value: Tensor) -> Tensor:
        return torch.as_tensor(self.trainer.strategy.reduce(value, reduce_op="mean"))

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Do what the optimizer's own version does, without its overhead on each step."""
        for parameter in self.parameters():
            parameter.grad = None

    # -------------------------------------------------------------------- what callbacks report

    def _add(self, **values: Tensor) -> None:
        """Add to the running sums on the device; reading a value would wait for the device."""
        for name, value in values.items():
            total, number = self._sums.get(name, (0, 0))
            self._sums[name] = (total + value, number + 1)

    def take_means(self) -> dict[str, float]:
        """Return the means since the last call: loss, norm before clipping, and fraction of clipped updates."""
        means = {name: total.item() / number for name, (total, number) in self._sums.items()}
        self._sums = {}
        return means

    def take_skipped(self) -> list[SkippedUpdate]:
        """Return the updates that were skipped since the last call."""
        skipped, self._skipped = self._skipped, []
        return skipped

    # -------------------------------------------------------------------- validation

    def on_validation_epoch_start(self) -> None:
        """Begin with a zero state of its own; the carry of training is not touched."""
        self._validation = (None, torch.zeros((), dtype=torch.float64), 0)

    def validation_step(self, batch: Batch) -> None:
        """Score one window of the held-out text."""
        states, total, num_targets = self._validation
        nats, states = self._cross_entropy(batch, states)
        self._validation = (states, total + nats.double().cpu(), num_targets + batch.num_targets)

    def on_validation_epoch_end(self) -> None:
        """Report the mean in nats and bits. `ProgressReport` logs it with the right update."""
        nats = self.validation_mean()
        scores = {VALIDATION_SCORE: nats, "validation_bits_per_char": nats / math.log(2)}
        self.log_dict({name: torch.tensor(score, dtype=torch.float64) for name, score in scores.items()}, logger=False)

    def validation_mean(self) -> float:
        """Return the nats per character of the windows since `on_validation_epoch_start`."""
        _, total, num_targets = self._validation
        return total.item() / max(1, num_targets)

    # -------------------------------------------------------------------- the model and what it writes from

    def model_file(self, **metadata: Any) -> ModelFile:
        """Return the model as it is now, with more metadata than that of the run."""
        model = self.model.to_model_file(self.tokenizer, {**self.metadata, **metadata})
        states = self.initial_states()
        return model.with_initial_states({name: state.numpy() for name, state in states.items()}) if states else model

    def initial_states(self) -> dict[str, Tensor]:
        """Return the mean states behind the contexts of the training text, each (P, H) float32, on the CPU.

        There are none if the module has no contexts, or if the weights are not finite.
        """
        contexts = {} if self.contexts is None else self.contexts._asdict()
        states = {name: self.model.mean_states(torch.from_numpy(ids)) for name, ids in contexts.items()}
        return states if all(state.isfinite().all() for state in states.values()) else {}

    # -------------------------------------------------------------------- stop and continue

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not store: carry, random number generators, schedule and detector."""
        detector = {**vars(self.detector), "window": None, "num_losses": 0}
        if self.detector.window is not None and self.trainer.world_size == 1:  # a window of one process otherwise
            batch, states = self.detector.window
            detector |= {"window": (*batch, states), "num_losses": self.detector.num_losses}
        state = TrainingState(
            asdict(self.schedule), self._gathered_carry(), detector, generator_states(), self.initial_states()
        )
        state.add_to(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` added. The generators follow in `on_train_start`: Lightning uses them.

        Raises:
            ValueError: the checkpoint does not belong to this model.
        """
        state = TrainingState.of(checkpoint)
        require_fitting_optimizer(checkpoint["optimizer_states"], *parameter_groups(self.parameters()))
        require_fitting_states(state.carry, self.model)
        require_fitting_detector(state.detector, state.carry, self.model)
        if not self._keep_schedule:
            self.schedule = Schedule(**state.schedule)
        self.carry = state.carry
        self._generators = state.generators
        rollbacks = self.detector.rollbacks  # the run may have returned to a checkpoint from before a rollback
        self.detector = DivergenceDetector(**state.detector)
        self.detector.rollbacks = max(rollbacks, self.detector.rollbacks)

    def on_train_start(self) -> None:
        """Restore the random number generators and move restored states to the device."""
        self.has_started, self._start_update = True, self.global_step
        if self._generators is None:
            return
        restore_generators(self._generators)
        self._generators = None
        self.carry = self._own_carry(self.carry)
        if self.detector.window is not None:
            inputs, targets, starts, num_targets, states = self.detector.window
            batch = Batch(inputs, targets, starts, num_targets).to(self.device)
            self.detector.window = batch, self._own_carry(states)

    def _gathered_carry(self) -> States | None:
        """Return the carry of all B lanes, from every process."""
        if self.carry is None or self.trainer.world_size == 1:
            return self.carry
        return _map_states(self.carry, lambda part: torch.as_tensor(self.all_gather(part)).flatten(0, 1))

    def _own_carry(self, carry: States | None) -> States | None:
        """Return this process's lanes of a gathered carry, on its device."""
        if carry is None:
            return None
        rank, num_ranks = self.trainer.global_rank, self.trainer.world_size
        return _map_states(carry, lambda part: part.chunk(num_ranks)[rank].to(self.device))


def module_of(trainer: Trainer) -> CharLanguageModel:
    """Return the module of a trainer with its own type."""
    module = trainer.lightning_module
    assert isinstance(module, CharLanguageModel)
    return module


def _map_states(states: States, change: Callable[[Tensor], Tensor]) -> States:
    """Apply a function to every tensor in the states of all layers."""
    layers: list[State] = [tuple(change(part) for part in state) for state in states]
    return tuple(layers)
