"""Training losses as plain functions: what each stage minimizes (reference, "Training")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from alit_cli.model.bases.base_tokenizer import BaseTokenizer
from alit_cli.model.bases.vqgan import VQGAN

# Weight λ_t of the main term at iteration t; later iterations count 1.
ITERATION_WEIGHTS: tuple[float, ...] = (2.5, 2.0, 1.5, 1.25)


@dataclass(frozen=True)
class GridLoss:
    """How far a predicted grid is from the base tokenizer's, at one iteration.

    Attributes:
        main: cross-entropy over the K codes (VQGAN) or MSE of the latents (VAE); weighted by λ_t.
        code: MSE of the expected code (VQGAN), unweighted; None for a VAE.
    """

    main: Tensor
    code: Tensor | None

    def weighted(self, t: int, weights: Sequence[float] = ITERATION_WEIGHTS) -> Tensor:
        """λ_t · main + code."""
        total = iteration_weight(t, weights) * self.main
        return total if self.code is None else total + self.code


def iteration_weight(t: int, weights: Sequence[float] = ITERATION_WEIGHTS) -> float:
    """λ_t."""
    return weights[t] if t < len(weights) else 1.0


def grid_loss(base: BaseTokenizer, prediction: Tensor, target: Tensor) -> GridLoss:
    """Stage 1's loss at one iteration.

    Args:
        base: the frozen base tokenizer.
        prediction: b n K logits (VQGAN) or b n d latents (VAE).
        target: what base.target gave: b n ids or b n d latents.
    """
    if isinstance(base, VQGAN):
        nll = F.cross_entropy(prediction.flatten(0, 1), target.flatten())
        return GridLoss(nll, F.mse_loss(base.expected(prediction), base.vectors(target)))
    return GridLoss(F.mse_loss(prediction, target), None)


def l1_per_image(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error of each image, float32 b; pixels in [0, 1], the reconstruction unclamped."""
    return (reconstruction.float() - images.float()).abs().mean(dim=(1, 2, 3))


def mse_per_image(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean squared error of each image, float32 b."""
    return (reconstruction.float() - images.float()).square().mean(dim=(1, 2, 3))
