"""A GPT of the size of nanoGPT's CPU recipe, built from the transformer layers of `torch.nn`.

It is the usual alternative to chargen on a laptop: 4 layers, 4 heads, width 128, context 64, batch size 12, no dropout,
about 0.8 M parameters. It trains on random windows. It samples without a key-value cache, so every character costs a
pass over the whole context.

Sources: transformer, Vaswani et al. 2017; pre-normalization, output weights tied to the embedding, and residual
projections initialized smaller with depth, Radford et al. 2019; sizes and optimizer, nanoGPT (Karpathy 2022).
Dimensions: B windows, T characters, V vocabulary, W width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_LAYERS, NUM_HEADS, WIDTH, CONTEXT, BATCH_SIZE = 4, 4, 128, 64, 12
MAX_LEARNING_RATE, MIN_LEARNING_RATE, WARMUP_UPDATES = 1e-3, 1e-4, 100
BETAS, WEIGHT_DECAY, MAX_GRADIENT_NORM = (0.9, 0.99), 0.1, 1.0


class BabyGPT(nn.Module):
    """A decoder-only transformer over characters: p(next character | at most 64 characters before it)."""

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
        """Draw normal weights. Residual projections get a deviation divided by the root of the number of additions."""
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                is_residual = name.endswith(("out_proj.weight", "linear2.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * NUM_LAYERS) if is_residual else 1))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of the character after each id (B, T). T is at most the context length."""
        T = ids.shape[1]
        x = self.embedding(ids) + self.positions.weight[:T]  # (B, T, W)
        return self.head(self.layers(x, mask=self.mask[:T, :T], is_causal=True))


def learning_rate(update: int, total_updates: int) -> float:
    """Return the learning rate of an update: linear warm-up, then a cosine from the highest to the lowest rate."""
    if update < WARMUP_UPDATES:
        return MAX_LEARNING_RATE * (update + 1) / (WARMUP_UPDATES + 1)
    progress = min(1.0, (update - WARMUP_UPDATES) / max(1, total_updates - WARMUP_UPDATES))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return MIN_LEARNING_RATE + (MAX_LEARNING_RATE - MIN_LEARNING_RATE) * cosine


def train(model: BabyGPT, ids: Tensor, total_updates: int) -> Iterator[Tensor]:
    """Train on random windows. Each step of the iterator is one update.

    Args:
        model: the model, which is changed in place.
        ids: (N,) the text, int64.
        total_updates: the number of updates of the whole run, at which the learning rate reaches its lowest value.

    Yields:
        The loss of each update, mean nats per character.
    """
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=MAX_LEARNING_RATE, betas=BETAS, fused=True)
    offsets = torch.arange(CONTEXT + 1)
    for update in range(total_updates):
        windows = ids[torch.randint(len(ids) - CONTEXT, (BATCH_SIZE, 1)) + offsets]  # (B, T+1)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(update, total_updates)
        model.train()
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        yield loss.detach()


def sample(model: BabyGPT, prompt: Sequence[int], length: int, temperature: float = 1.0) -> Iterator[int]:
    """Continue a prompt one id at a time. Each id is predicted from at most 64 ids before it.

    Args:
        model: the model, which is switched to evaluation mode.
        prompt: at least one id.
        length: the number of ids to generate.
        temperature: divides the logits.

    Yields:
        The ids of the continuation.
    """
    ids = list(prompt)
    model.eval()
    for _ in range(length):
        with torch.inference_mode():
            logits = model(torch.tensor([ids[-CONTEXT:]]))[0, -1]
            probabilities = torch.softmax(logits / temperature, dim=-1)
        ids.append(int(torch.multinomial(probabilities, 1)))
        yield ids[-1]
