"""What both stages that roll out share: cached base features, and how far a rollout goes and its gradients reach."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alit_cli.model.layers import checkpointed
from alit_cli.model.rollout import Alit, DistillationEncoder
from alit_cli.model.tokenizer_model import State
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.feed import to_device

CACHE_BYTES = 4 << 30
"""Base features are cached in memory while all of them fit in this."""


def advance(encoder: DistillationEncoder, state: State, checkpointing: bool) -> State:
    """One iteration; with checkpointing, only the sequence before it is kept for the backward pass."""
    return State(checkpointed(checkpointing, lambda x: encoder.advance(State(x, state.t)).x, state.x), state.t + 1)


def roll(model: Alit, state: State, iterations: int, grad_window: int = 0, checkpointing: bool = False) -> State:
    """Advance a rollout, with gradients through its last `grad_window` iterations only (0: all of them)."""
    for step in range(iterations):
        in_window = not grad_window or step >= iterations - grad_window
        with torch.set_grad_enabled(torch.is_grad_enabled() and in_window):
            state = advance(model.encoder, state, checkpointing)
    return state


def append_all(encoder: DistillationEncoder, state: State, iterations: int, checkpointing: bool = False) -> State:
    """Append the new latents of several iterations at once and read the sequence once.

    With one iteration this is encoder.advance. With more it is no rollout but a cheap first lesson, which teaches every
    latent of every iteration what it is for.
    """
    embeddings = encoder.iteration_embedding[state.t : state.t + iterations]
    new = encoder.latent_tokens + encoder.latent_positions + embeddings
    x = checkpointed(
        checkpointing, lambda x, new: encoder.append(State(x, state.t), new, iterations).x, state.x, new.flatten(0, 1)
    )
    return State(x, state.t + iterations)


class FeatureCache:
    """Base features of every crop: computed once, at first use, and kept as float16 where they all fit.

    Only for a base encoder that does not move. Every use reads the float16 values, the first one too, so that a resumed
    run sees what an unbroken one saw.
    """

    def __init__(self, model: Alit, crops: CropDataset) -> None:
        self.model = model
        config = model.config
        shape = (crops.rows, config.base.latent_dim, config.grid_side, config.grid_side)
        fits = 2 * np.prod(shape, dtype=np.int64) <= CACHE_BYTES  # 2 bytes per float16
        self.store = torch.zeros(shape, dtype=torch.float16) if fits else None
        self.known = np.zeros(crops.rows if fits else 0, dtype=bool)

    @torch.no_grad()
    def of(self, batch: Batch) -> Tensor:
        """b d g g features of a batch, on its device."""
        if self.store is None:
            return self.model.base.encode(batch.images)
        if not self.known[batch.rows].all():
            # In float32 whoever asks first, be it a step in bf16: a resumed run asks in another order.
            with torch.autocast(batch.images.device.type, enabled=False):
                self.store[batch.rows] = self.model.base.encode(batch.images).to("cpu", torch.float16)
            self.known[batch.rows] = True
        return to_device(self.store[batch.rows], batch.images.device).to(batch.images)
