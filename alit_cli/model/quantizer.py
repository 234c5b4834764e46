"""The shared 1D codebook: low-dimensional, L2-normalized vectors to ids and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COMMITMENT = 0.25
"""How much the latents are drawn to their codes, beside the codes to the latents (of both codebooks)."""


@dataclass(frozen=True)
class Quantized:
    """Latents on their nearest codes.

    Attributes:
        ids: b k int64 in [0, v).
        vectors: b k c, the normalized codes; gradients go straight through to the latents.
    """

    ids: Tensor
    vectors: Tensor


class Codebook(nn.Module):
    """v codes of c numbers, and the nearest one to each latent.

    Args:
        codes, dim: v and c.
        normalized: latents and codes are divided by their L2 norm before they are compared, and the decoder is fed the
            normalized code (reference, step 6). Without it both stay as they are.
    """

    def __init__(self, codes: int, dim: int, normalized: bool = True) -> None:
        super().__init__()
        self.normalized = normalized
        self.weight = nn.Parameter(torch.empty(codes, dim))
        nn.init.normal_(self.weight)

    def forward(self, latents: Tensor) -> Quantized:
        """Nearest code of each latent (b k c). Runs in float32 whatever the precision around it."""
        with torch.autocast(latents.device.type, enabled=False):
            z, table = self._scaled(latents), self._scaled(self.weight)
            # The choice of a code has no gradient; without detach, torch would keep all distances for the backward
            # pass.
            ids = nearest(z.detach(), table.detach())
            codes = F.embedding(ids, table)
            return Quantized(ids, straight_through(z, codes))

    def lookup(self, ids: Tensor) -> Tensor:
        """b k ids → b k c codes, normalized where the codebook is: what the decoder is fed."""
        return F.embedding(ids, self._scaled(self.weight))

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors.float(), dim=-1) if self.normalized else vectors.float()


def straight_through(z: Tensor, codes: Tensor) -> Tensor:
    """The codes in value, to the bit, so that decoding stored ids repeats a reconstruction; gradients go to z alone."""
    return codes.detach() + (z - z.detach())


def vq_loss(z: Tensor, codes: Tensor) -> Tensor:
    """COMMITMENT · (z drawn to its codes) + (the codes drawn to z): mean squares over all elements, a scalar."""
    return COMMITMENT * F.mse_loss(z, codes.detach()) + F.mse_loss(codes, z.detach())


def nearest(z: Tensor, table: Tensor) -> Tensor:
    """Index of the nearest row of `table` (v c) for every vector of z (… c), by Euclidean distance; int64."""
    # The square of z is the same for every code, so it is left out of the comparison.
    distance = table.square().sum(-1) - 2 * z @ table.T
    return distance.argmin(dim=-1)
