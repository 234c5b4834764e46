"""Building blocks: the pre-norm transformer of the distillation network, and what both base tokenizers share."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """b s d → b s d.

        Args:
            x: b s d.
            bias: s s, added to the scores of every head before the softmax (rows are queries).
        """
        q, k, v = self._split(x)
        mask = None if bias is None else bias.to(q.dtype)  # torch wants the mask in the precision of the queries
        x = F.scaled_dot_product_attention(q, k, v, mask)
        out: Tensor = self.out(rearrange(x, "b a s c -> b s (a c)"))
        return out

    def weights(self, x: Tensor) -> Tensor:
        """Attention probabilities b a s s (a heads; rows are queries and sum to 1).

        The fused attention of `forward` never forms them, so they are computed step by step here.
        """
        q, k, _ = self._split(x)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights: Tensor = scores.softmax(dim=-1)
        return weights

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The order of queries, keys and values is that of torch's MultiheadAttention, from which released weights come.
        q, k, v = rearrange(self.qkv(x), "b s (three a c) -> three b a s c", three=3, a=self.heads)
        return q, k, v


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x); exact GELU, MLP four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """b s d → b s d."""
        x = x + self.attention(self.norm_attention(x))
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class Transformer(nn.ModuleList):
    """A stack of blocks, b s d → b s d."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.extend(Block(width, heads) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """All blocks in order."""
        for block in self:
            x = block(x)
        return x

    def attention(self, x: Tensor, layer: int) -> Tensor:
        """Attention probabilities b a s s of one layer (negative counts from the end)."""
        # All layers below the asked one must run; those above need not.
        blocks = list(self)
        for block in blocks[: range(len(blocks))[layer]]:  # the range turns a negative number into a positive one
            x = block(x)
        chosen = blocks[layer]
        assert isinstance(chosen, Block)
        return chosen.attention.weights(chosen.norm_attention(x))


class Upsample(nn.Module):
    """Nearest ×2, then a 3×3 convolution with bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b c 2h 2w."""
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """The normalization of both base tokenizers."""
    # Released weights were trained with this epsilon, which is not torch's default of 1e-5.
    return nn.GroupNorm(groups, channels, eps=1e-6)
