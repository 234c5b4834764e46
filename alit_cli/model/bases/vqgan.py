"""The MaskGIT-style VQGAN: a convolutional autoencoder around a codebook of K vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.config import BaseConfig
from alit_cli.model.bases.base_tokenizer import Autoencoding, BaseTokenizer, to_grid, to_tokens
from alit_cli.model.bases.conv_decoder import ConvDecoder
from alit_cli.model.layers import Stack, full_precision, group_norm
from alit_cli.model.quantizer import nearest, straight_through, vq_loss

# The released weights have two blocks per level.
BLOCKS_PER_LEVEL = 2


class ResidualBlock(nn.Module):
    """norm, swish, 3×3 conv, twice.

    Where the channel count changes, the skip is a 1×1 convolution of the branch's output, as in the released
    weights (reference, "Base tokenizer: VQGAN").
    """

    def __init__(self, inner: int, outer: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inner, groups)
        # The convolutions of the released blocks have no biases.
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1, bias=False)
        self.norm2 = group_norm(outer, groups)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(outer, outer, 1, bias=False) if inner != outer else None

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b c' h w."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = (x if self.skip is None else self.skip(h)) + h
        return out


def middle(channels: int, groups: int) -> Stack:
    """Two blocks: the bottom of both halves."""
    return Stack(*(ResidualBlock(channels, channels, groups) for _ in range(2)))


class Encoder(nn.Module):
    """Pixels → features, halving the side between levels by average pooling."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        groups = config.norm_groups
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = nn.Conv2d(3 * config.unshuffle**2, config.channels, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            Stack(*(ResidualBlock(inner if i == 0 else width, width, groups) for i in range(BLOCKS_PER_LEVEL)))
            for inner, width in zip([config.channels, *widths[:-1]], widths, strict=True)
        )
        self.middle = middle(widths[-1], groups)
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], config.latent_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b d g g."""
        x = self.conv_in(x)
        for i, level in enumerate(self.levels):
            x = level(x if i == 0 else F.avg_pool2d(x, 2))
        x = self.middle(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


class Decoder(ConvDecoder):
    """Features → pixels, doubling the side between levels."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__(config, middle, ResidualBlock, BLOCKS_PER_LEVEL)


class VQGAN(BaseTokenizer):
    """The distillation network reads features before quantization and predicts logits over the K codes."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__(config)
        self.outputs = config.codes
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.codebook = nn.Parameter(torch.empty(config.codes, config.latent_dim))
        # This is the usual start of a VQGAN's codebook: codes that are all small, so that none is out of reach.
        nn.init.uniform_(self.codebook, -1 / config.codes, 1 / config.codes)

    def encode(self, images: Tensor) -> Tensor:
        """b 3 h w → b d g g, before quantization."""
        features: Tensor = self.encoder(self.fold(images))
        return features

    def target(self, features: Tensor) -> Tensor:
        """b d g g → b n ids of the nearest codes (Euclidean)."""
        # Codes lie close together, so that half precision would change ids.
        with torch.autocast(features.device.type, enabled=False):
            return nearest(to_tokens(features).float(), self.codebook.float())

    def vectors(self, target: Tensor) -> Tensor:
        """b n ids → b n d code vectors."""
        return F.embedding(target, self.codebook)

    def expected(self, logits: Tensor) -> Tensor:
        """b n K logits → b n d, the code expected under their softmax."""
        with full_precision(logits):
            return logits.float().softmax(dim=-1) @ self.codebook

    def decode(self, prediction: Tensor) -> Tensor:
        """b n K logits → b 3 h w, from the expected codes rather than the likeliest ones."""
        return self.decode_vectors(self.expected(prediction))

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """b n d code vectors → b 3 h w."""
        return self.unfold(self.decoder(to_grid(vectors)))

    def autoencode(self, images: Tensor, noise: Tensor | None = None) -> Autoencoding:
        """Straight-through reconstruction and its VQ loss; nothing is sampled, so noise is not used."""
        z = to_tokens(self.encode(images))
        ids = self.target(to_grid(z))
        codes = self.vectors(ids)
        return Autoencoding(self.decode_vectors(straight_through(z, codes)), vq_loss(z, codes), ids)

    def halves(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Modules before and after the grid."""
        return [self.encoder], [self.decoder]

    @property
    def grid_codebook(self) -> nn.Parameter:
        """The K d code vectors."""
        return self.codebook

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the last convolution."""
        return self.decoder.conv_out.weight  # type: ignore[return-value]
