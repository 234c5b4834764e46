"""Losses of the distilled latents, as plain functions. Losses of pixels are in pixel_loss.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from alit_cli.model.bases.base_tokenizer import BaseTokenizer
from alit_cli.model.quantizer import Codebook, vq_loss
from alit_cli.model.tokenizer_model import Latents

ITERATION_WEIGHTS: tuple[float, ...] = (2.5, 2.0, 1.5, 1.25)
"""λ_t of the authors' code: the first iterations count more, because all later ones build on them. The rest count 1."""


@dataclass(frozen=True)
class GridLoss:
    """How far a predicted grid is from the base tokenizer's, at one iteration.

    Attributes:
        main: cross-entropy over the K codes where the base tokenizer has a codebook (VQGAN), else the MSE of its
            latents (VAE); weighted by λ_t.
        code: MSE of the expected code, unweighted; None without a codebook.
    """

    main: Tensor
    code: Tensor | None

    def weighted(self, t: int, weights: Sequence[float] = ITERATION_WEIGHTS) -> Tensor:
        """λ_t · main + code."""
        total = iteration_weight(t, weights) * self.main
        return total if self.code is None else total + self.code


def iteration_weight(t: int, weights: Sequence[float] = ITERATION_WEIGHTS) -> float:
    """λ_t; iterations beyond the given weights count 1."""
    return weights[t] if t < len(weights) else 1.0


def grid_loss(base: BaseTokenizer, prediction: Tensor, target: Tensor) -> GridLoss:
    """The loss of distillation at one iteration.

    Args:
        base: the frozen base tokenizer.
        prediction: b n K logits (VQGAN) or b n d latents (VAE).
        target: what base.target gave: b n ids or b n d latents.
    """
    codes = base.grid_codebook
    if codes is None:
        return GridLoss(F.mse_loss(prediction, target), None)
    nll = F.cross_entropy(prediction.flatten(0, 1), target.flatten())
    # Pixels are decoded from the expected code, not from the likeliest one; so it is trained, too.
    expected = prediction.softmax(dim=-1) @ codes
    return GridLoss(nll, F.mse_loss(expected, F.embedding(target, codes)))


def quantization_loss(codebook: Codebook | None, latents: Latents) -> Tensor:
    """The VQ loss between latents and their codes, a float32 scalar; 0 for a continuous model."""
    if codebook is None or latents.ids is None:
        return latents.values.new_zeros(())
    with torch.autocast(latents.values.device.type, enabled=False):  # codes lie too close together for bf16
        z = F.normalize(latents.values.float(), dim=-1)
        return vq_loss(z, codebook.lookup(latents.ids))
