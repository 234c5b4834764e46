"""The shared 1D codebook: low-dimensional, L2-normalized vectors to ids and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Quantized:
    """Latents on their nearest codes.

    Attributes:
        ids: b k int64 in [0, v).
        vectors: b k c, the normalized codes; gradients go straight through to the latents.
        loss: the VQ loss of this read-out (a scalar): 0.25·commitment + codebook, mean over all elements.
    """

    ids: Tensor
    vectors: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """v codes of c numbers; both sides are L2-normalized before they are compared (reference, step 6)."""

    commitment = 0.25

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(codes, dim))
        nn.init.normal_(self.weight)

    def forward(self, latents: Tensor) -> Quantized:
        """Nearest code of each latent (b k c). Runs in float32 whatever the precision around it."""
        with torch.autocast(latents.device.type, enabled=False):
            z = F.normalize(latents.float(), dim=-1)
            table = F.normalize(self.weight.float(), dim=-1)
            ids = nearest(z.detach(), table.detach())
            codes = F.embedding(ids, table)
            commitment = F.mse_loss(z, codes.detach())
            loss = self.commitment * commitment + F.mse_loss(codes, z.detach())
            # The value is exactly the code, so that decoding stored ids repeats the same reconstruction.
            return Quantized(ids, codes.detach() + (z - z.detach()), loss)

    def lookup(self, ids: Tensor) -> Tensor:
        """b k ids → b k c normalized codes, what the decoder is fed."""
        return F.embedding(ids, F.normalize(self.weight.float(), dim=-1))


def nearest(z: Tensor, table: Tensor) -> Tensor:
    """Index of the nearest row of `table` (v c) for every vector of z (… c), by Euclidean distance; int64."""
    distance = table.square().sum(-1) - 2 * z @ table.T
    return distance.argmin(dim=-1)
