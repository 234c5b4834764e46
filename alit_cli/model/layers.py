"""Building blocks: the pre-norm transformer of the distillation network, and what both base tokenizers share."""

from __future__ import annotations

import math

import torch
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

    def forward(self, x: Tensor) -> Tensor:
        """b s d → b s d."""
        q, k, v = self._split(x)
        x = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(rearrange(x, "b a s c -> b s (a c)"))
        return out

    def weights(self, x: Tensor) -> Tensor:
        """Attention probabilities b a s s (a heads; rows are queries and sum to 1)."""
        q, k, _ = self._split(x)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        weights: Tensor = scores.softmax(dim=-1)
        return weights

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
        blocks = list(self)
        for block in blocks[: range(len(blocks))[layer]]:
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
    return nn.GroupNorm(groups, channels, eps=1e-6)


def sincos(rows: Tensor, columns: Tensor, width: int, side: int) -> Tensor:
    """Sine–cosine embedding of places on a grid (s numbers each, in grid tokens), s × width, rms √½.

    Frequencies fall from one radian a token to a quarter turn over the grid. The usual 10000-fold range is made for
    long texts: on a small grid most of its waves stand still, all places look alike, and attention learns slowly.
    """
    quarter = width // 4
    frequency = (math.pi / (2 * side)) ** torch.linspace(0, 1, quarter)
    angles = [axis.float().reshape(-1, 1) * frequency for axis in (rows, columns)]
    waves = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return F.pad(waves, (0, width - 4 * quarter))


def grid_places(side: int) -> tuple[Tensor, Tensor]:
    """Row and column of every grid token, row-major."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return rows.flatten(), columns.flatten()


def spread_places(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of `count` points such that every prefix covers the grid evenly (the R2 sequence)."""
    plastic = 1.32471795724474602596  # real root of x³ = x + 1
    steps = torch.arange(1, count + 1, dtype=torch.float64)
    rows, columns = ((0.5 + steps / plastic**power) % 1 for power in (1, 2))
    return rows * side - 0.5, columns * side - 0.5


SHARPNESS = 1.5
"""Scale of queries and keys at the start: how much more attention near places get than far ones."""


@torch.no_grad()
def start_near_identity(transformer: Transformer, attention: float, mlp: float) -> None:
    """Start every layer with keys equal to queries, values undone by the output, and an MLP that says little.

    With Q ≈ K and V·O ≈ attention·I, attention begins by averaging over similar tokens, which halves the steps to a
    useful rollout. A stack that is applied to its own output wants both strengths small: what a layer adds piles up
    against what it passes on.
    Follows the observation of Trockman & Kolter, "Mimetic Initialization of Self-Attention Layers", ICML 2023.
    """
    for block in transformer:
        assert isinstance(block, Block)
        q, k, v = block.attention.qkv.weight.chunk(3)
        q.mul_(SHARPNESS)
        k.copy_(q)
        nn.init.orthogonal_(v)
        block.attention.out.weight.copy_(attention * v.T)
        narrow = block.mlp[-1]
        assert isinstance(narrow, nn.Linear)
        narrow.weight.mul_(mlp)
