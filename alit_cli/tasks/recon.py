"""How near a reconstruction is to its original: MSE, PSNR, SSIM and, where its weights are given, LPIPS."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from alit_cli.data.tables.score_table import Measure
from alit_cli.model.losses import l1_per_image, mse_per_image
from alit_cli.model.lpips import Lpips, load_lpips
from alit_cli.tasks.base import Batch, Request, Task, Values


class Recon(Task[Tensor]):
    """Distances between pixels in [0, 1].

    The L1 of tokens is the token table's own, so that only pictures of another codec (`with_l1`) get one here.
    """

    def __init__(self, lpips: Lpips | None, files: Sequence[Path], threads: Executor, with_l1: bool = False) -> None:
        self.lpips, self.threads = lpips, threads
        self._l1 = ["l1"] if with_l1 else []
        self.measures = tuple(map(Measure, [*self._l1, "mse", "psnr", "ssim", *(["lpips"] if lpips else [])]))
        # Only the names: the same weights in another folder give the same numbers.
        self.options = {"lpips": [file.name for file in files]} if files else {}

    def look(self, batch: Batch) -> tuple[Tensor, Values]:
        """The originals themselves."""
        return batch.images, {}

    @torch.no_grad()
    def score(self, seen: Tensor, pictures: Tensor, budget: int) -> Values:
        """Three or four numbers per image."""
        # numpy takes the logarithm of psnr in float64; float32 is only what the device computes in.
        mse = mse_per_image(pictures, seen).double().cpu().numpy()
        pairs = zip(_arrays(pictures), _arrays(seen), strict=True)
        # scikit-image computes one picture at a time on the CPU, so that threads share the batch.
        similar = list(self.threads.map(lambda pair: ssim(*pair), pairs))
        values: dict[str, Any] = {"mse": mse, "psnr": psnr(mse), "ssim": similar}
        if self._l1:
            values["l1"] = l1_per_image(pictures, seen).cpu().numpy()
        if self.lpips is not None:
            values["lpips"] = self.lpips(pictures, seen).cpu().numpy()
        return values


def build(request: Request) -> Recon:
    """The task; LPIPS where its weight files are given."""
    lpips = load_lpips(request.lpips).to(request.tokenizer.device) if request.lpips else None
    return Recon(lpips, request.lpips, request.threads, with_l1=bool(request.codec))


def psnr(mse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio in dB of mean squared errors of pixels in [0, 1]; infinite for equal images."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(mse)


def ssim(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Structural similarity of two h w 3 images in [0, 1], as Wang et al. (2004) measure it, mean over the channels.

    A Gaussian window of deviation 1.5 and 11 pixels, population covariance, a data range of 1.
    """
    # scikit-image cuts the Gaussian at 3.5 deviations, a radius of 5 pixels: these are the paper's 11.
    similarity = structural_similarity(
        ours, theirs, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(similarity)


def _arrays(images: Tensor) -> NDArray[np.float32]:
    """b 3 h w → b h w 3."""
    return images.permute(0, 2, 3, 1).float().cpu().numpy()
