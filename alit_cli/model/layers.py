"""Building blocks: the pre-norm transformer of the distillation network, and what both base tokenizers share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
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


class Linear(nn.Linear):
    """torch's layer, whose product oneDNN may make in faster ways where nothing is trained (prepare_model sets both).

    Attributes:
        onednn: whether oneDNN makes products in float32 instead of MKL. On a Zen 4 EPYC it makes 108 GFLOP/s per core
            of those of a large transformer, where MKL makes 86. Sums are rounded in another order.
        keeps_bf16: whether weights are kept in bf16 as well, in the order of oneDNN, from the first product in bf16
            on. Otherwise autocast casts them and oneDNN reorders them for every product, which took an eighth of its
            time. The copy takes half the memory of the weights, and these must not change once it is made.
    """

    onednn = False
    keeps_bf16 = False
    kept: tuple[Tensor, Tensor | None] | None = None

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """… d → … d'.

        Args:
            x: … d.
            gelu: whether exact GELU follows, which oneDNN computes while it stores the product.
        """
        # The operation of oneDNN has no gradient, and autocast does not know it.
        if not torch.is_grad_enabled():
            if not torch.is_autocast_enabled("cpu"):
                if self.onednn:
                    return _onednn(x, self.weight, self.bias, gelu)
            elif self.keeps_bf16:
                return _onednn(x.bfloat16(), *self._kept(), gelu)
        product = super().forward(x)
        return F.gelu(product) if gelu else product

    def _kept(self) -> tuple[Tensor, Tensor | None]:
        """The weight in bf16 and in the order of oneDNN, and the bias in bf16."""
        if self.kept is None:
            # The number of rows is a guess, as they differ: it decides only about the order.
            weight = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach().bfloat16(), 1024)
            self.kept = weight, None if self.bias is None else self.bias.detach().bfloat16()
        return self.kept


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """The product of a layer, and exact GELU of it; "none" is no activation, and of GELU the exact one."""
    activation = "gelu" if gelu else "none"
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
    return product


class MLP(nn.Sequential):
    """Linear layer, exact GELU, linear layer; numbered, as the weights are in released files."""

    def __init__(self, width: int) -> None:
        super().__init__(Linear(width, 4 * width), nn.GELU(), Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """b s d → b s d."""
        first, _, second = self
        out: Tensor = second(first(x, gelu=True))
        return out


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values.

    Args:
        width: numbers per token.
        heads: among which they are divided.
        tiled: every head learns how much less tokens of different tiles attend to each other (tiles.py).
    """

    # Whether training in bf16 on a CPU takes plain products (see forward). An estimate for a GPU turns it off.
    plain_on_cpu = True
    # Whether inference in bf16 on a CPU does; prepare_model turns it on.
    plain_inference = False

    def __init__(self, width: int, heads: int, tiled: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.separation = nn.Parameter(torch.ones(heads)) if tiled else None

    def forward(self, x: Tensor, apart: Tensor | None = None) -> Tensor:
        """b s d → b s d.

        Args:
            x: b s d.
            apart: s s, 1 between tokens of different tiles and 0 elsewhere; for tiled attention only.
        """
        q, k, v = self._split(x)
        bias = self._bias(apart, q)
        plain = self.plain_on_cpu if torch.is_grad_enabled() else self.plain_inference
        if plain and q.device.type == "cpu" and q.dtype == torch.bfloat16:
            # On a CPU, two plain products in bf16 take half the time of the fused kernel: in training 16.5 ms instead
            # of 32.6 ms for 4 images of 385 tokens on a Zen 4 EPYC, forward and backward, and in inference 16 ms
            # instead of 30 ms for 2 images of 513 tokens of the width of `small`.
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
        # As they are, parts of one product, both would be read in small pieces: it takes oneDNN half as long again.
        products, scale = q.contiguous() @ k.contiguous().transpose(-1, -2), q.shape[-1] ** -0.5
        scores: Tensor = products * scale if bias is None else torch.add(bias, products, alpha=scale)
        return scores

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
        self.mlp = MLP(width)

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

    kernel: Tensor | None

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        # It is computed from the weights, so files of models do not hold it.
        self.register_buffer("kernel", None, persistent=False)

    @torch.no_grad()
    def merge(self) -> None:
        """Do both steps in one from now on where nothing is trained; the weights must not change afterwards.

        Each of the 2×2 pixels that an input pixel becomes sees at most 2×2 input pixels, so that most of the nine
        products of the convolution have the same input. Summed first, they are a transposed convolution with a kernel
        of 4×4 and stride 2: 4/9 of the arithmetic, and the same result but for rounding.
        """
        # Along each side, an input pixel reaches four output pixels: the two that it becomes and one beside them.
        first, second, third = self.conv.weight.unbind(-1)
        wide = torch.stack([third, second + third, first + second, first], dim=-1)
        first, second, third = wide.unbind(-2)
        kernel = torch.stack([third, second + third, first + second, first], dim=-2)
        # A transposed convolution has its input channels first.
        self.kernel = kernel.transpose(0, 1).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b c 2h 2w."""
        if self.kernel is not None and not torch.is_grad_enabled():
            # In channels-last it takes two thirds of the time of the other layout.
            x = x.contiguous(memory_format=torch.channels_last)
            return F.conv_transpose2d(x, self.kernel, self.conv.bias, stride=2, padding=1)
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def full_precision(x: Tensor) -> AbstractContextManager[object]:
    """The context of steps that stay float32 whatever the precision around them; in training it changes nothing.

    Pixels are decoded in bf16 where speed is wanted. Its rounding weighs most in the few cheap layers at the bottom of
    a decoder, whose every value spreads over 16×16 pixels: with these in float32 the L1 of the embedded model's
    pictures is off by 1e-5 on average, and by ten times as much without.
    """
    return contextlib.nullcontext() if torch.is_grad_enabled() else torch.autocast(x.device.type, enabled=False)


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """The normalization of both base tokenizers."""
    # Released weights were trained with this epsilon, which is not torch's default of 1e-5.
    return nn.GroupNorm(groups, channels, eps=1e-6)
