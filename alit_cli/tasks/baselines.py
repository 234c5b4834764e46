"""What stands beside a tokenizer: its base tokenizer alone, and thumbnail, JPEG and WebP of as many bits."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from alit_cli.data.pictures.measures import thumbnail
from alit_cli.data.tables.score_table import Kind, Measure
from alit_cli.errors import InputError
from alit_cli.model.losses import l1_per_image
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.tasks.base import Batch, Request, Task, Values
from alit_cli.tasks.recon import psnr, ssim

Codec = Literal["JPEG", "WEBP"]
CODECS: dict[Codec, tuple[int, int]] = {"JPEG": (1, 95), "WEBP": (0, 100)}
"""The codecs with their lowest and highest quality; optimized Huffman tables, 4:2:0, the slowest WebP search."""


@dataclass(frozen=True)
class Quality:
    """How near a picture is to the original: mean |x − y| of pixels in [0, 1], dB, SSIM; and its bytes as a file."""

    l1: float
    psnr: float
    ssim: float
    size: int | None = None


class Baselines(Task[list[dict[str, list[Quality]]]]):
    """Numbers that need no tokens, of the same fitted images and with the same bits.

    `base_l1` is of unclamped pixels as the token table's L1 is; everything else is of pixels in [0, 1]. Of JPEG and
    WebP the file whose size is nearest to the tokens' bits counts; where even the smallest is bigger, that one:
    `jpeg_size` and `webp_size` say so, in bytes.
    """

    reconstructions = False
    extras: Mapping[str, Kind] = {"base_l1": "float32", "base_psnr": "float32", "base_ssim": "float32"}

    def __init__(self, tokenizer: Tokenizer, budgets: Sequence[int], threads: Executor) -> None:
        if tokenizer.model.autoencoder is None:
            raise InputError(f"The tokenizer {tokenizer.config.name} holds no base tokenizer to compare it with.")
        self.budgets, self.base = budgets, tokenizer.model.autoencoder
        self.bits = [math.floor(budget * tokenizer.config.bits_per_token) for budget in budgets]
        self.threads = threads
        names = [f"{what}_{measure}" for what in ("thumb", "jpeg", "webp") for measure in ("l1", "psnr", "ssim")]
        self.measures = (*map(Measure, names), Measure("jpeg_size", "int32"), Measure("webp_size", "int32"))
        self.options = {"bits": self.bits}

    @torch.no_grad()
    def look(self, batch: Batch) -> tuple[list[dict[str, list[Quality]]], Values]:
        """Every baseline of every image."""
        originals = _bytes(batch.images)
        made = self.base.autoencode(batch.images).reconstruction.float()
        base = list(self.threads.map(_compare, _bytes(made.clamp(0, 1)), originals))
        values: Values = {
            "base_l1": l1_per_image(made, batch.images).cpu().numpy(),
            "base_psnr": [one.psnr for one in base],
            "base_ssim": [one.ssim for one in base],
        }
        return list(self.threads.map(self._of_one, originals)), values

    def score(self, seen: list[dict[str, list[Quality]]], pictures: Tensor, budget: int) -> Values:
        """Those of as many bits as the tokens have."""
        index = list(self.budgets).index(budget)
        chosen = {name: [one[name][index] for one in seen] for name in ("thumb", "jpeg", "webp")}
        return {
            measure.name: [getattr(one, measure.name.split("_")[1]) for one in chosen[measure.name.split("_")[0]]]
            for measure in self.measures
        }

    def _of_one(self, pixels: NDArray[np.uint8]) -> dict[str, list[Quality]]:
        """The thumbnail and both codecs at every budget's bits."""
        image = Image.fromarray(pixels)
        small = [thumbnail(image, bits) for bits in self.bits]
        nothing = Quality(math.nan, math.nan, math.nan)
        found = {"thumb": [nothing if one is None else _compare(one, pixels) for one in small]}
        for codec in CODECS:
            found[codec.lower()[:4]] = _nearest_files(image, codec, [bits / 8 for bits in self.bits])
        return found


def build(request: Request) -> Baselines:
    """The task, with the base tokenizer of the model that made the tokens."""
    return Baselines(request.tokenizer, request.info.budgets, request.threads)


def _nearest_files(image: Image.Image, codec: Codec, sizes: Sequence[float]) -> list[Quality]:
    """For each size in bytes, the quality of the image from the file of that codec whose size is nearest."""
    pixels = np.asarray(image)
    low, high = CODECS[codec]

    @cache
    def encoded(quality: int) -> bytes:
        buffer = io.BytesIO()
        how = {"optimize": True, "subsampling": "4:2:0"} if codec == "JPEG" else {"method": 6}
        image.save(buffer, codec, quality=quality, **how)
        return buffer.getvalue()

    @cache
    def judged(quality: int) -> Quality:
        data = encoded(quality)
        return _compare(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), pixels, len(data))

    def nearest(size: float) -> int:
        """By bisection: sizes grow with the quality, or nearly so."""
        fits, over = low, high + 1
        while over - fits > 1:
            middle = (fits + over) // 2
            fits, over = (middle, over) if len(encoded(middle)) <= size else (fits, middle)
        return min((fits, min(over, high)), key=lambda quality: abs(len(encoded(quality)) - size))

    smallest = len(encoded(low))
    return [judged(low if smallest >= size else nearest(size)) for size in sizes]


def _compare(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], size: int | None = None) -> Quality:
    a, b = (one.astype(np.float32) / np.float32(255) for one in (ours, theirs))
    mse = np.square(a - b, dtype=np.float64).mean(keepdims=True)
    return Quality(float(np.abs(a - b).mean()), float(psnr(mse).item()), ssim(a, b), size)


def _bytes(images: Tensor) -> list[NDArray[np.uint8]]:
    """b 3 h w in [0, 1] → b arrays h w 3 uint8."""
    return list(images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
