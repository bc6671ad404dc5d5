"""Return a run that diverges to its last good checkpoint, with half the learning rate."""

from __future__ import annotations

from chargen.errors import UserError
from chargen.storage.atomic import previous_path
from chargen.storage.checkpoint import CHECKPOINT, Checkpoint
from chargen.training.attempt import Attempt, Start
from chargen.training.divergence import MAX_ROLLBACKS, Diverged
from chargen.training.windows import TextDataModule


def fit_with_rollbacks(attempt: Attempt, data: TextDataModule) -> Attempt:
    """Train. If the run diverges, return to its last checkpoint with half the learning rate.

    Returns:
        The attempt that came to the end.

    Raises:
        UserError: the run diverges after `MAX_ROLLBACKS` rollbacks, or without guard.
    """
    last_rollback = -1
    while True:
        try:
            attempt.fit(data)
            return attempt
        except Diverged as error:
            attempt.report.report_skipped(attempt.trainer)
            if attempt.checkpoints.stop_signal is not None:
                return attempt
            if not attempt.module.guard:
                raise UserError(
                    f"the run has diverged, {error}: write trainer.gradient_clip_val=1.0 or a smaller "
                    "optimizer.learning_rate, or leave out guard=false"
                ) from None
            rollbacks = attempt.module.detector.rollbacks + 1
            if rollbacks > MAX_ROLLBACKS:
                rate = attempt.module.optimizer_config.learning_rate
                raise UserError(
                    f"the run diverges, {error}; {MAX_ROLLBACKS} rollbacks with half the rate each did not help: write "
                    f"optimizer.learning_rate={rate / 10:.2g} or trainer.gradient_clip_val=1.0"
                ) from None
            checkpoint = checkpoint_to_return_to(attempt, last_rollback)
            last_rollback = checkpoint.update if checkpoint is not None else 0
            attempt.report.say(
                f"the run diverges, {error}; back to update {last_rollback:,}, with half the learning rate"
            )
            for logger in attempt.trainer.loggers:
                logger.log_metrics({"rollbacks": float(rollbacks)}, step=error.update)
            attempt = _next_attempt(attempt, checkpoint, rollbacks)
            attempt.metrics.drop_after(last_rollback, keep_events=True)


def _next_attempt(attempt: Attempt, checkpoint: Checkpoint | None, rollbacks: int) -> Attempt:
    """Start again from a checkpoint. The training since then is discarded, but counts against the time limit."""
    lost = attempt.clock.time_elapsed() - (checkpoint.seconds if checkpoint is not None else 0.0)
    limit = attempt.start.max_seconds
    max_seconds = max(1.0, limit - lost) if limit else None
    return Attempt(attempt.context, Start(checkpoint, max_seconds, rollbacks, attempt.start.new_length))


def checkpoint_to_return_to(attempt: Attempt, last_rollback: int) -> Checkpoint | None:
    """Return the last good checkpoint of a run that has diverged; None if there is none yet.

    Args:
        attempt: the attempt that has diverged.
        last_rollback: the update to which the run returned before. If it diverges again from there, that checkpoint may
            hold broken weights, and the one before it is used.
    """
    file = attempt.context.run_dir / CHECKPOINT
    if attempt.resume is not None and not attempt.checkpoints.has_saved:
        file = attempt.resume
    if not file.is_file():
        return None
    checkpoint, _ = Checkpoint.read_or_previous(file)
    if checkpoint.update == last_rollback and previous_path(checkpoint.file).is_file():
        checkpoint = Checkpoint.read(previous_path(checkpoint.file))
    return checkpoint
