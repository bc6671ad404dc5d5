"""Where a run computes, and in which precision. Both are settled once, before the run begins."""

from __future__ import annotations

from dataclasses import replace

import torch

from chargen import native
from chargen.config import TrainConfig
from chargen.trainer_settings import canonical_trainer_value

BF16, FLOAT16, FLOAT32 = "bf16-mixed", "16-mixed", "32-true"


def accelerator_of(config: TrainConfig) -> str:
    """Return the accelerator that `trainer.accelerator` stands for on this machine: `cpu` or `cuda`.

    Lightning's own `auto` and `gpu` may also mean Apple's GPU, on which chargen is not tested.
    """
    wanted = config.trainer.get("accelerator") or "auto"
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if wanted == "gpu" else str(wanted)


def settle_precision(config: TrainConfig, *, is_new: bool) -> tuple[TrainConfig, str]:
    """Settle the precision of a run.

    A new run on a CPU computes in float32 where a mixed precision would not be faster. The settings of the run then
    say so, and a resumed run keeps them. A run that has begun with products in bf16 continues with them on every
    processor.

    Args:
        config: the settings of the run.
        is_new: whether the run begins.

    Returns:
        The settings, and a line that says what is not as the user may expect; it is empty if there is nothing to say.
    """
    wanted = canonical_trainer_value("precision", config.trainer.get("precision"))
    if wanted in (BF16, FLOAT16):
        config = replace(config, trainer={**config.trainer, "precision": wanted})
    if accelerator_of(config) != "cpu" or wanted not in (BF16, FLOAT16) or (wanted == BF16 and native.has_bf16()):
        return config, ""
    if wanted == BF16 and not is_new:
        return config, (
            f"trainer.precision={BF16}: this processor has no instruction for products in bf16; the run goes on with "
            "them, but slower than it would in float32"
        )
    reason = "a CPU has no fast float16" if wanted == FLOAT16 else "there is no instruction for products in bf16 here"
    settled = replace(config, trainer={**config.trainer, "precision": FLOAT32})
    return settled, f"trainer.precision={wanted}: {reason}, so the run computes in float32"
