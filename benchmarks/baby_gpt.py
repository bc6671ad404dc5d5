"""A GPT of the size of nanoGPT's CPU recipe, written with `torch.nn`'s own transformer layers.

What a newcomer with a laptop would train otherwise: 4 layers, 4 heads, width 128, context 64, batch 12,
no dropout; about 0.8 M parameters. It reads random windows, and samples without a cache: every
character costs a pass over the whole context.

Sources: Vaswani et al. 2017; Radford et al. 2019 (normalization first, weights of the head tied to the
embedding, residual projections scaled down by depth); sizes and optimizer, nanoGPT (Karpathy 2022).
Dimensions: B windows, T characters, V vocabulary, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_LAYERS, NUM_HEADS, WIDTH, CONTEXT, BATCH_SIZE = 4, 4, 128, 64, 12
PEAK, FLOOR, WARMUP_UPDATES = 1e-3, 1e-4, 100  # of the learning rate
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 0.1, 1.0


class BabyGPT(nn.Module):
    """A decoder-only transformer over characters: p(next character | up to 64 before)."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, NUM_HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=False
        )
        norm = nn.LayerNorm(WIDTH, bias=False)
        self.layers = nn.TransformerEncoder(layer, NUM_LAYERS, norm, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        self.register_buffer("mask", mask, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small normal weights; those that add to the residual stream smaller by its number of additions."""
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                adds = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * NUM_LAYERS) if adds else 1))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of the character after each of ids (B, T), T at most the context."""
        T = ids.shape[1]
        x = self.embedding(ids) + self.positions.weight[:T]  # (B, T, W)
        return self.head(self.layers(x, mask=self.mask[:T, :T], is_causal=True))


def learning_rate(update: int, total: int) -> float:
    """Linear warm-up, then a cosine from the peak to the floor."""
    if update < WARMUP_UPDATES:
        return PEAK * (update + 1) / (WARMUP_UPDATES + 1)
    progress = min(1.0, (update - WARMUP_UPDATES) / max(1, total - WARMUP_UPDATES))
    return FLOOR + 0.5 * (PEAK - FLOOR) * (1 + math.cos(math.pi * progress))


def train(model: BabyGPT, ids: Tensor, total: int) -> Iterator[Tensor]:
    """Learns from random windows, one update for each item that is asked for.

    Args:
        model: to be changed in place.
        ids: (N,) the text, int64.
        total: updates of the whole run; the learning rate falls until there.

    Yields:
        The loss of each update, mean nats per character.
    """
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS, fused=True)
    ticks = torch.arange(CONTEXT + 1)
    for update in range(total):
        windows = ids[torch.randint(len(ids) - CONTEXT, (BATCH_SIZE, 1)) + ticks]  # (B, T+1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(update, total)
        model.train()
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        yield loss.detach()


def sample(model: BabyGPT, prompt: Sequence[int], length: int, temperature: float = 1.0) -> Iterator[int]:
    """Writes on behind a prompt of at least one id, one id after the other.

    The context is cropped to the last 64 characters, which is all that the model can see.
    """
    written = list(prompt)
    model.eval()
    for _ in range(length):
        with torch.inference_mode():
            logits = model(torch.tensor([written[-CONTEXT:]]))[0, -1]
            probabilities = torch.softmax(logits / temperature, dim=-1)
        written.append(int(torch.multinomial(probabilities, 1)))
        yield written[-1]
