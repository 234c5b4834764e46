"""The KL VAE in the style of latent diffusion: an autoencoder around a Gaussian bottleneck."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from alit_cli.config import BaseConfig
from alit_cli.model.bases.base_tokenizer import Autoencoding, BaseTokenizer, to_grid, to_tokens
from alit_cli.model.bases.conv_decoder import ConvDecoder
from alit_cli.model.layers import Stack, full_precision, group_norm

# The numbers of blocks per level and the range of the log-variance are those of latent diffusion.
ENCODER_BLOCKS = 2
DECODER_BLOCKS = 3
LOG_VARIANCE_RANGE = (-30.0, 20.0)


class ResidualBlock(nn.Module):
    """norm, swish, 3×3 conv, twice; a 1×1 convolution on the skip where the channel count changes."""

    def __init__(self, inner: int, outer: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inner, groups)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.norm2 = group_norm(outer, groups)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b c' h w."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.skip(x) + h
        return out


class SpatialAttention(nn.Module):
    """One-head self-attention over positions; its projections are 1×1 convolutions."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b c h w."""
        h = self.norm(x)
        q, k, v = (rearrange(project(h), "b c h w -> b 1 (h w) c") for project in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)
        h = rearrange(h, "b 1 (h w) c -> b c h w", h=x.shape[2])
        out: Tensor = x + self.out(h)
        return out


class Downsample(nn.Module):
    """Stride-2 convolution, padded on the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """b c 2h 2w → b c h w."""
        # Released weights were trained with this padding; a symmetric one would shift the features.
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


def middle(channels: int, groups: int) -> Stack:
    """Block, attention, block: the bottom of both halves."""
    return Stack(
        ResidualBlock(channels, channels, groups),
        SpatialAttention(channels, groups),
        ResidualBlock(channels, channels, groups),
    )


class Encoder(nn.Module):
    """Pixels → means and log-variances; attention after each block of the lowest level."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        groups = config.norm_groups
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = nn.Conv2d(3 * config.unshuffle**2, config.channels, 3, padding=1)
        self.levels = nn.ModuleList()
        for i, (inner, width) in enumerate(zip([config.channels, *widths[:-1]], widths, strict=True)):
            level = Stack()
            for j in range(ENCODER_BLOCKS):
                level.append(ResidualBlock(inner if j == 0 else width, width, groups))
                if i == len(widths) - 1:
                    level.append(SpatialAttention(width, groups))
            self.levels.append(level)
        self.downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.middle = middle(widths[-1], groups)
        self.norm_out = group_norm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.latent_dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """b c h w → b (2 d) g g."""
        x = self.conv_in(x)
        for i, level in enumerate(self.levels):
            x = level(x)
            if i < len(self.downsamples):
                x = self.downsamples[i](x)
        x = self.middle(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


class Decoder(ConvDecoder):
    """Latents → pixels; three blocks per level, and attention in the middle only."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__(config, middle, ResidualBlock, DECODER_BLOCKS)


class VAE(BaseTokenizer):
    """The distillation network reads and predicts the posterior mean, scaled; nothing is ever sampled in eval."""

    def __init__(self, config: BaseConfig) -> None:
        super().__init__(config)
        self.outputs = config.latent_dim
        self.encoder = Encoder(config)
        self.to_moments = nn.Conv2d(2 * config.latent_dim, 2 * config.latent_dim, 1)
        self.from_latent = nn.Conv2d(config.latent_dim, config.latent_dim, 1)
        self.decoder = Decoder(config)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """b 3 h w → unscaled mean and log-variance, each b d g g."""
        mean, log_variance = self.to_moments(self.encoder(self.fold(images))).chunk(2, dim=1)
        # The clamp keeps exp() finite early in training.
        return mean, log_variance.clamp(*LOG_VARIANCE_RANGE)

    def encode(self, images: Tensor) -> Tensor:
        """b 3 h w → b d g g, posterior mean × latent_scale."""
        return self.posterior(images)[0] * self.config.latent_scale

    def target(self, features: Tensor) -> Tensor:
        """b d g g → b n d, the features themselves."""
        return to_tokens(features)

    def vectors(self, target: Tensor) -> Tensor:
        """b n d latents → the same."""
        return target

    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """b n d scaled latents → b 3 h w."""
        return self.decode(vectors)

    def decode(self, prediction: Tensor) -> Tensor:
        """b n d scaled latents → b 3 h w."""
        return self.decode_latent(to_grid(prediction) / self.config.decode_scale)

    def decode_latent(self, latent: Tensor) -> Tensor:
        """b d g g unscaled latents → b 3 h w."""
        with full_precision(latent):
            latent = self.from_latent(latent.float())
        return self.unfold(self.decoder(latent))

    def reconstruct(self, images: Tensor) -> Tensor:
        """b 3 h w → b 3 h w, from the mean, through the scales of both halves.

        They differ where a decoder was fine-tuned on scaled latents, as in the released models.
        """
        return self.decode(self.target(self.encode(images)))

    def autoencode(self, images: Tensor, noise: Tensor | None = None) -> Autoencoding:
        """From a sampled latent in training, from the mean in eval; the KL divergence is to a unit Gaussian."""
        mean, log_variance = self.posterior(images)
        sample = mean
        if self.training:
            drawn = torch.randn_like(mean) if noise is None else noise.to(mean)
            sample = mean + drawn * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return Autoencoding(self.decode_latent(sample), divergence, None)

    @torch.no_grad()
    def change_coordinates(self, change: Tensor, back: Tensor, mean: Tensor) -> None:
        """Make the posterior mean z into change·(z - mean), and the decoder undo it (change, back: d d inverses)."""
        d = len(mean)
        weight, bias = self.to_moments.weight, self.to_moments.bias
        assert bias is not None and self.from_latent.bias is not None
        # The first d outputs are the mean; the log-variances after them stay as they are.
        weight[:d] = torch.einsum("cd,dixy->cixy", change, weight[:d])
        bias[:d] = change @ (bias[:d] - mean)
        # The bias goes first, since it needs the weight as it was before the change.
        self.from_latent.bias += self.from_latent.weight[:, :, 0, 0] @ mean
        self.from_latent.weight.copy_(torch.einsum("odxy,dc->ocxy", self.from_latent.weight, back))

    def halves(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Modules before and after the grid."""
        return [self.encoder, self.to_moments], [self.from_latent, self.decoder]

    @property
    def last_layer(self) -> nn.Parameter:
        """Weight of the last convolution."""
        return self.decoder.conv_out.weight  # type: ignore[return-value]
