"""What a base tokenizer must do for the distillation network: pixels to a grid of features and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from alit_cli.config import BaseConfig


@dataclass(frozen=True)
class Autoencoding:
    """A base tokenizer's own reconstruction.

    Attributes:
        reconstruction: b 3 h w, unclamped.
        regularizer: a scalar: the VQ loss, or the KL divergence, mean over latent values.
        ids: b n codes of a VQGAN; None for a VAE.
    """

    reconstruction: Tensor
    regularizer: Tensor
    ids: Tensor | None


class BaseTokenizer(nn.Module, ABC):
    """A convolutional autoencoder with a g×g bottleneck (n = g² grid tokens).

    Attributes:
        config: its configuration.
        outputs: numbers per grid token that the distillation decoder must predict for it.
    """

    outputs: int

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """b 3 h w pixels in [0, 1] → b d g g continuous features, what the distillation encoder reads."""

    @abstractmethod
    def target(self, features: Tensor) -> Tensor:
        """b d g g features → what the decoder is trained to predict: b n ids (int64) or b n d latents."""

    @abstractmethod
    def vectors(self, target: Tensor) -> Tensor:
        """What `target` gave, b n ids or b n d latents → b n d vectors."""

    @abstractmethod
    def decode_vectors(self, vectors: Tensor) -> Tensor:
        """b n d code vectors or latents, row-major → b 3 h w pixels, unclamped."""

    @abstractmethod
    def decode(self, prediction: Tensor) -> Tensor:
        """b n outputs (logits or latents, row-major) → b 3 h w pixels, unclamped."""

    @abstractmethod
    def autoencode(self, images: Tensor, noise: Tensor | None = None) -> Autoencoding:
        """Training pass of the base tokenizer alone.

        Args:
            images: b 3 h w.
            noise: b d g g of a standard normal, from which a VAE samples its latent in training. Without it, torch's
                generator draws.
        """

    def reconstruct(self, images: Tensor) -> Tensor:
        """b 3 h w → b 3 h w, unclamped: encoded and decoded as the 1D tokenizer uses the two halves, without tokens."""
        return self.autoencode(images).reconstruction

    @abstractmethod
    def halves(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """The modules before and after the grid (a VQGAN's codebook belongs to neither)."""

    @property
    def grid_codebook(self) -> nn.Parameter | None:
        """The K d vectors that grid tokens are quantized to; None where the grid is continuous (a VAE)."""
        return None

    def change_coordinates(self, change: Tensor, back: Tensor, mean: Tensor) -> None:
        """Make the latent z of a continuous grid into change·(z - mean), in place, and let the decoder undo it.

        Args:
            change: d d.
            back: d d, its inverse.
            mean: d.
        """
        raise NotImplementedError(f"{type(self).__name__} has no continuous grid whose coordinates could change")

    @property
    @abstractmethod
    def last_layer(self) -> nn.Parameter:
        """Weight of the convolution that makes pixels (adaptive GAN weights are measured there)."""

    def fold(self, images: Tensor) -> Tensor:
        """b 3 h w → b (3·u²) h/u w/u."""
        return F.pixel_unshuffle(images, self.config.unshuffle) if self.config.unshuffle > 1 else images

    def unfold(self, x: Tensor) -> Tensor:
        """The inverse of fold."""
        return F.pixel_shuffle(x, self.config.unshuffle) if self.config.unshuffle > 1 else x


def to_tokens(grid: Tensor) -> Tensor:
    """b d g g → b n d, row-major."""
    return rearrange(grid, "b d g1 g2 -> b (g1 g2) d")


def to_grid(tokens: Tensor) -> Tensor:
    """b n d → b d g g."""
    side = round(tokens.shape[1] ** 0.5)
    return rearrange(tokens, "b (g1 g2) d -> b d g1 g2", g1=side)
