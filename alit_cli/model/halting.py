"""Dynamic halting: which image tokens are already explained well enough to leave the encoder (training only)."""

from __future__ import annotations

import torch
from torch import Tensor

# Paper, Section 3 and reference, "Training, stage 1".
PROBABILITY = 0.55
LATENT_ERROR = 0.025


def halted_by_probability(
    logits: Tensor, target: Tensor, generator: torch.Generator, threshold: float = PROBABILITY
) -> Tensor:
    """VQGAN: a token whose true code is predicted with p ≥ threshold is halted with probability p.

    Args:
        logits: b n K.
        target: b n ids in [0, K).
        generator: where the draws come from, so that training repeats itself.

    Returns: b n bool.
    """
    p = logits.detach().float().softmax(dim=-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    draw = torch.rand(p.shape, generator=generator, device=generator.device).to(p.device)
    return (p >= threshold) & (draw < p)


def halted_by_error(latent: Tensor, target: Tensor, threshold: float = LATENT_ERROR) -> Tensor:
    """VAE: a token whose latent is predicted within a mean absolute error below threshold is halted.

    Args:
        latent: b n d prediction.
        target: b n d.

    Returns: b n bool.
    """
    return (latent - target).detach().abs().mean(dim=-1) < threshold
