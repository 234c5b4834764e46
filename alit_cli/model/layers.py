"""Building blocks: the pre-norm transformer of the distillation network, and what both base tokenizers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from alit_cli.model.tiles import Tiles

SEPARATION = 10.0
"""Unit of the learned separation of tiles: at 1, a token of another tile weighs e⁻¹⁰ of what an equal one of its own
does."""

Result = TypeVar("Result")


def checkpointed(on: bool, function: Callable[..., Result], *inputs: Tensor) -> Result:
    """function(*inputs); where `on`, with gradient checkpointing: the backward pass computes again what it needs of it.

    The function must draw nothing at random and count nothing, as it may run twice. Losses and gradients stay the same.
    """
    if not (on and torch.is_grad_enabled()):
        return function(*inputs)
    result: Result = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values.

    Args:
        width: numbers per token.
        heads: among which they are divided.
        tiled: every head learns how much less tokens of different tiles attend to each other (tiles.py).
    """

    # Whether training in bf16 on a CPU takes plain products (see forward). An estimate for a GPU turns it off.
    plain_on_cpu = True

    def __init__(self, width: int, heads: int, tiled: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.separation = nn.Parameter(torch.ones(heads)) if tiled else None

    def forward(self, x: Tensor, apart: Tensor | None = None) -> Tensor:
        """b s d → b s d.

        Args:
            x: b s d.
            apart: s s, 1 between tokens of different tiles and 0 elsewhere; for tiled attention only.
        """
        q, k, v = self._split(x)
        bias = self._bias(apart, q)
        cpu = self.plain_on_cpu and q.device.type == "cpu"
        if cpu and q.dtype == torch.bfloat16 and torch.is_grad_enabled():
            # In training on a CPU, two plain products in bf16 take half the time of the fused kernel, forward and
            # backward (16.5 ms instead of 32.6 ms for 4 images of 385 tokens on a Zen 4 EPYC).
            x = self._scores(q, k, bias).softmax(dim=-1) @ v
        else:
            x = F.scaled_dot_product_attention(q, k, v, bias)
        out: Tensor = self.out(rearrange(x, "b a s c -> b s (a c)"))
        return out

    def weights(self, x: Tensor, apart: Tensor | None = None) -> Tensor:
        """Attention probabilities b a s s (a heads; rows are queries and sum to 1).

        The fused attention of `forward` never forms them, so they are computed step by step here.
        """
        q, k, _ = self._split(x)
        return self._scores(q, k, self._bias(apart, q)).softmax(dim=-1)

    def _scores(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        scores: Tensor = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return scores if bias is None else scores + bias

    def _bias(self, apart: Tensor | None, q: Tensor) -> Tensor | None:
        """What is added to the scores, 1 a s s in the precision of the queries, as torch's fused kernels want it."""
        if self.separation is None or apart is None:
            return None
        return (-SEPARATION * self.separation[:, None, None] * apart)[None].to(q.dtype)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The order of queries, keys and values is that of torch's MultiheadAttention, from which released weights come.
        q, k, v = rearrange(self.qkv(x), "b s (three a c) -> three b a s c", three=3, a=self.heads)
        return q, k, v


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x); exact GELU, MLP four times as wide."""

    def __init__(self, width: int, heads: int, tiled: bool = False) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, tiled)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, apart: Tensor | None = None) -> Tensor:
        """b s d → b s d; `apart` as Attention.forward has it."""
        x = x + self.attention(self.norm_attention(x), apart)
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class Transformer(nn.ModuleList):
    """A stack of blocks, b s d → b s d."""

    def __init__(self, width: int, layers: int, heads: int, tiles: Tiles | None = None) -> None:
        super().__init__()
        self.tiles = tiles
        self.extend(Block(width, heads, tiles is not None) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """All blocks in order."""
        apart = None if self.tiles is None else self.tiles.apart(x)
        for block in self:
            x = block(x, apart)
        return x

    def attention(self, x: Tensor, layer: int) -> Tensor:
        """Attention probabilities b a s s of one layer (negative counts from the end)."""
        apart = None if self.tiles is None else self.tiles.apart(x)
        # All layers below the asked one must run; those above need not.
        blocks = list(self)
        for block in blocks[: range(len(blocks))[layer]]:  # the range turns a negative number into a positive one
            x = block(x, apart)
        chosen = blocks[layer]
        assert isinstance(chosen, Block)
        return chosen.attention.weights(chosen.norm_attention(x), apart)


class Stack(nn.Sequential):
    """Modules in order; with `checkpointing`, only what passes between them is kept for the backward pass."""

    checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b c' h w."""
        for module in self:
            x = checkpointed(self.checkpointing, module, x)
        return x


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
