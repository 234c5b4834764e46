"""A model that was tiled from a smaller one: its tiles are separate at first, and attention between them is released.

Every tile of the image starts as a copy of the small model, which knows only its own part of the image. If all tokens
could attend to all others at once, each copy would see three others as noise. So the scores of attention between
different tiles begin with a strongly negative bias, which rises to 0 over some hundred steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from alit_cli.config import ModelConfig
from alit_cli.model.layers import Attention
from alit_cli.model.rollout import Alit

SEPARATION = 6.0
"""Size of the negative bias at the start: a token of another tile weighs e⁻⁶ of what an equal one of its own does."""
HOLD = 20
"""Steps between two changes of the bias, so that its matrices are made rarely."""
EVERYWHERE = -1
"""The tile of the class token: it sees all tokens and is seen by all."""


class TileSeparation:
    """An additive attention bias between the tiles of an image, in every layer of both transformers.

    Args:
        config: of the tiled model.
        tiles: tiles along one side of the image.
        steps: until the bias is 0.
    """

    def __init__(self, config: ModelConfig, tiles: int, steps: int) -> None:
        self.steps = steps
        self.strength = SEPARATION if steps else 0.0
        self.tile_of = tile_of_tokens(config, tiles)
        self.biases: dict[int, Tensor] = {}

    def attach(self, model: Alit) -> None:
        """Let every attention layer of a model add the bias, from now on and also in deep copies of the model."""

        # A plain function, not a method: deepcopy copies a method together with its object, and the averaged weights
        # would then keep a separation that nobody releases.
        def add_bias(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return (args, {**kwargs, "bias": self.bias(args[0])}) if self.strength else None

        for module in model.modules():
            if isinstance(module, Attention):
                module.register_forward_pre_hook(add_bias, with_kwargs=True)

    def set_step(self, step: int) -> None:
        """Set the bias for a step."""
        left = 1 - (step // HOLD * HOLD) / self.steps if self.steps else 0.0
        strength = SEPARATION * max(0.0, left)
        if strength != self.strength:
            self.strength, self.biases = strength, {}

    def bias(self, x: Tensor) -> Tensor:
        """The bias for a sequence (b s w) of class token, image tokens and latents: s s."""
        length = x.shape[1]
        if length not in self.biases:
            tile = self.tile_of[:length]
            different = (tile[:, None] != tile) & (tile[:, None] != EVERYWHERE) & (tile != EVERYWHERE)
            self.biases[length] = torch.where(different, -self.strength, 0.0).to(x.device)
        return self.biases[length]


def tile_of_tokens(config: ModelConfig, tiles: int) -> Tensor:
    """The tile that each token of the longest sequence belongs to, row-major: class token, image tokens, latents.

    The latents of an iteration lie tile after tile, as many for each.
    """
    band = torch.arange(config.grid_side) // (config.grid_side // tiles)
    grid = (tiles * band[:, None] + band).flatten()
    latents = torch.arange(config.budgets[-1]) // (config.tokens_per_iteration // tiles**2) % tiles**2
    return torch.cat([torch.tensor([EVERYWHERE]), grid, latents])
