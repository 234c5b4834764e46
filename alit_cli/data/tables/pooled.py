"""One image as a few vectors: what the encoder makes of it at every iteration, pooled, and its plain pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alit_cli.data.pictures.fitting import Pixels

Vectors = NDArray[np.float32]

SIDE = 16
"""Of the thumbnail that raw pixels are taken from."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """The encoder's output of one image at T iterations, mean-pooled over tokens; w is the encoder's width.

    Attributes:
        image: the key.
        iterations: counted from 0, in rising order.
        tokens: latent tokens at each.
        latents: T w, over all latent tokens.
        first: T w, over the first few of them, as many at every iteration.
        grid: T w, over the image tokens, of which there are grid_tokens.
        pixels: SIDE·SIDE·3, the fitted image's thumbnail in 0–1.
    """

    image: str
    iterations: tuple[int, ...]
    tokens: tuple[int, ...]
    latents: Vectors
    first: Vectors
    grid: Vectors
    pixels: Vectors
    grid_tokens: int

    def together(self, index: int) -> Vectors:
        """The mean over image and latent tokens together at one of the iterations, w."""
        latents, n = self.tokens[index], self.grid_tokens
        # Weighted by the number of tokens, so that it is the mean over all of them and not of two means.
        mean: Vectors = (latents * self.latents[index] + n * self.grid[index]) / np.float32(latents + n)
        return mean


def raw_pixels(pixels: Pixels) -> Vectors:
    """A fitted image (S S 3 uint8) as the numbers of a small thumbnail, each the mean of its box, in 0–1."""
    # A thumbnail of one size, so that images fitted to any side give vectors of one length.
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1) / np.float32(255)
