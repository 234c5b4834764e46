"""A model whose image is made of tiles: tokens of different tiles attend to each other less, by a learned amount.

A small model that is copied to every tile of a larger image knows only its own part of it. If all tokens could attend
to all others at once, each copy would take three others for noise. So every head has a number that is subtracted from
its scores between different tiles. It starts so large that the copies are on their own, and training lowers it where
the rest of the image helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from alit_cli.config import ModelConfig

EVERYWHERE = -1
"""The tile of the class token: it sees all tokens and is seen by all."""


@dataclass(frozen=True)
class Tiles:
    """Which tokens of a sequence belong to which tile.

    Attributes:
        per_side: tiles along one side of the image.
        grid_side: grid tokens along one side of the image.
        per_iteration: latents of one iteration. They lie tile after tile, as many for each.
        latents: of the longest sequence.
    """

    per_side: int
    grid_side: int
    per_iteration: int
    latents: int

    @staticmethod
    def of(config: ModelConfig) -> Tiles | None:
        """The tiles of a model; None for one whose image is a whole, as all published ones are."""
        if config.tiles == 1:
            return None
        return Tiles(config.tiles, config.grid_side, config.tokens_per_iteration, config.budgets[-1])

    def apart(self, x: Tensor) -> Tensor:
        """For a sequence b s w of class token, image tokens and latents: s s, 1 between different tiles, else 0."""
        length = x.shape[1]
        return apart_everywhere(self, x.device)[:length, :length]

    def of_tokens(self) -> Tensor:
        """The tile of each token of the longest sequence, s; tiles are numbered by row."""
        band = torch.arange(self.grid_side) // (self.grid_side // self.per_side)
        grid = (self.per_side * band[:, None] + band).flatten()
        count = self.per_side**2
        latents = torch.arange(self.latents) // (self.per_iteration // count) % count
        return torch.cat([torch.tensor([EVERYWHERE]), grid, latents])


@lru_cache(maxsize=8)
def apart_everywhere(tiles: Tiles, device: torch.device) -> Tensor:
    """Tiles.apart for the longest sequence. Whoever runs a model on tensors without values clears this cache after."""
    # No buffer of the model: those have no values on the meta device, where models are built. And no tensor of the
    # inference mode that may be on now, as training may be the next to use it.
    with torch.inference_mode(False):
        tile = tiles.of_tokens()
        different = (tile[:, None] != tile) & (tile[:, None] != EVERYWHERE) & (tile != EVERYWHERE)
        return different.float().to(device)
