"""How far a reconstruction is from its image, in pixels. The losses of training are in training/stages/."""

from __future__ import annotations

from torch import Tensor


def l1_per_image(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean absolute error of each image, float32 b; pixels in [0, 1], the reconstruction unclamped."""
    return (reconstruction.float() - images.float()).abs().mean(dim=(1, 2, 3))


def mse_per_image(reconstruction: Tensor, images: Tensor) -> Tensor:
    """Mean squared error of each image, float32 b; pixels in [0, 1], the reconstruction unclamped."""
    return (reconstruction.float() - images.float()).square().mean(dim=(1, 2, 3))
