"""Dynamic halting: image tokens that are explained well enough leave the encoder (training only; paper, Section 3)."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from torch import Tensor

from alit_cli.model.bases.base_tokenizer import BaseTokenizer
from alit_cli.model.rollout import DistillationEncoder
from alit_cli.model.tokenizer_model import State

PROBABILITY = 0.55
"""A VQGAN's token is a candidate from this probability of its true code on (the authors' value)."""
LATENT_ERROR = 0.025
"""A VAE's token is halted below this mean absolute error of its latent (the authors' value)."""


def halt(encoder: DistillationEncoder, state: State, halted: Tensor) -> State:
    """Replace the image tokens marked in `halted` (b n bool) by the mask token at their place."""
    n = encoder.n
    mask = encoder.mask_token + encoder.positions[1:]  # position 0 is the class token's
    image = torch.where(rearrange(halted, "b n -> b n 1"), mask.to(state.x.dtype), state.x[:, 1 : 1 + n])
    return dataclasses.replace(state, x=torch.cat([state.x[:, :1], image, state.x[:, 1 + n :]], dim=1))


def halted_tokens(base: BaseTokenizer, prediction: Tensor, target: Tensor, draw: Tensor) -> Tensor:
    """Which image tokens are halted, b n bool.

    Args:
        base: the base tokenizer; whether its grid has a codebook decides the rule.
        prediction: b n K logits or b n d latents.
        target: what base.target gave.
        draw: b n, uniform in [0, 1).
    """
    if base.grid_codebook is None:
        return halted_by_error(prediction, target)
    return halted_by_probability(prediction, target, draw)


def halted_by_probability(logits: Tensor, target: Tensor, draw: Tensor, threshold: float = PROBABILITY) -> Tensor:
    """VQGAN: a token whose true code is predicted with p ≥ threshold is halted with probability p.

    Args:
        logits: b n K.
        target: b n ids in [0, K).
        draw: b n, uniform in [0, 1); given, so that training repeats itself.
        threshold: see PROBABILITY.

    Returns: b n bool.
    """
    p = logits.detach().float().softmax(dim=-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    return (p >= threshold) & (draw < p)


def halted_by_error(latent: Tensor, target: Tensor, threshold: float = LATENT_ERROR) -> Tensor:
    """VAE: a token whose latent is predicted within a mean absolute error below threshold is halted.

    Args:
        latent: b n d prediction.
        target: b n d.
        threshold: see LATENT_ERROR.

    Returns: b n bool.
    """
    return (latent - target).detach().abs().mean(dim=-1) < threshold
