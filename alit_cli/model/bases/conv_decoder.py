"""The half after the grid of both convolutional base tokenizers: they differ in their blocks alone."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.config import BaseConfig
from alit_cli.model.layers import Stack, Upsample, full_precision, group_norm


class ConvDecoder(nn.Module):
    """Grid features → pixels, doubling the side between levels.

    Args:
        config: of the base tokenizer.
        middle: (channels, norm groups) → the module at the lowest level.
        block: (inner channels, outer channels, norm groups) → a residual block.
        blocks: residual blocks per level.
    """

    def __init__(
        self,
        config: BaseConfig,
        middle: Callable[[int, int], nn.Module],
        block: Callable[[int, int, int], nn.Module],
        blocks: int,
    ) -> None:
        super().__init__()
        groups = config.norm_groups
        widths = [config.channels * m for m in reversed(config.multipliers)]
        # Modules are made in this order because each draws its first weights from torch's one generator.
        self.conv_in = nn.Conv2d(config.latent_dim, widths[0], 3, padding=1)
        self.middle = middle(widths[0], groups)
        self.levels = nn.ModuleList(
            Stack(*(block(inner if i == 0 else width, width, groups) for i in range(blocks)))
            for inner, width in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.upsamples = nn.ModuleList(Upsample(width) for width in widths[:-1])
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], 3 * config.unshuffle**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """b d g g → b c h w."""
        with full_precision(x):
            x = self.middle(self.conv_in(x.float()))
        for i, level in enumerate(self.levels):
            x = level(x)
            if i < len(self.upsamples):
                x = self.upsamples[i](x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out
