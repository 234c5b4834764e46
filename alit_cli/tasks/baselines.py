"""What a tokenizer is compared with: its base tokenizer alone, and thumbnail, JPEG and WebP of as many bits."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from alit_cli.data.pictures.measures import thumbnail
from alit_cli.data.tables.score_table import Kind, Measure
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record
from alit_cli.model.losses import l1_per_image
from alit_cli.model.tokenizer import Tokenizer
from alit_cli.tasks.base import Batch, Request, Task, Values
from alit_cli.tasks.recon import psnr, ssim

Codec = Literal["JPEG", "WEBP"]
# JPEG ends at 95, as Pillow's manual advises: above it the files grow much and the pictures hardly gain.
QUALITY_RANGE: dict[Codec, tuple[int, int]] = {"JPEG": (1, 95), "WEBP": (0, 100)}
"""The lowest and highest quality of each codec; optimized Huffman tables, 4:2:0, the slowest WebP search."""


@dataclass(frozen=True)
class Quality:
    """How near a picture is to the original: mean |x − y| of pixels in [0, 1], dB, SSIM; and its file's bytes."""

    l1: float
    psnr: float
    ssim: float
    size: int | None = None


SYSTEMS = ("thumb", "jpeg", "webp")
"""What is held at the bits of the tokens; the names that its measures begin with."""
NOTHING = Quality(math.nan, math.nan, math.nan)
"""Where the bits buy no pixel."""
ByBudget = dict[str, list[Quality]]
"""Of one image: for each system, its quality at every budget's bits."""


class Baselines(Task[list[ByBudget]]):
    """Numbers that need no tokens, of the same fitted images and with the same bits.

    `base_…` is what the base tokenizer gives back of an image when nothing is lost between its encoder and its decoder.
    Once the decoder has been fine-tuned for 1D tokens it is no autoencoder any more, and reconstructs worse than it
    did after its own stage: the option `base` of the table says which it is, and `base_stage_l1` what the checkpoint
    records of the base stage (mean L1 of the photographs held out in training).

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
        # Half a bit buys nothing, so the baselines never get more than the tokens have.
        self.bits = [math.floor(budget * tokenizer.config.bits_per_token) for budget in budgets]
        self.threads = threads
        names = [f"{system}_{measure}" for system in SYSTEMS for measure in ("l1", "psnr", "ssim")]
        self.measures = (*map(Measure, names), Measure("jpeg_size", "int32"), Measure("webp_size", "int32"))
        self.options = {"bits": self.bits, **base_options(tokenizer.record)}

    @torch.no_grad()
    def look(self, batch: Batch) -> tuple[list[ByBudget], Values]:
        """Every baseline of every image."""
        # Codecs take and give 8-bit pixels, so all baselines are compared with the original rounded in the same way.
        originals = _bytes(batch.images)
        reconstructed = self.base.reconstruct(batch.images).float()
        base = list(self.threads.map(_compare, _bytes(reconstructed.clamp(0, 1)), originals))
        values: Values = {
            # This one is not clamped, so that it can be compared with the L1 columns of the token table.
            "base_l1": l1_per_image(reconstructed, batch.images).cpu().numpy(),
            "base_psnr": [quality.psnr for quality in base],
            "base_ssim": [quality.ssim for quality in base],
        }
        # No baseline depends on the tokens, so all budgets are computed here, where the original is at hand; score only
        # picks the budget.
        return list(self.threads.map(self._of_image, originals)), values

    def score(self, seen: list[ByBudget], pictures: Tensor, budget: int) -> Values:
        """Those of as many bits as the tokens have."""
        index = list(self.budgets).index(budget)
        values: dict[str, list[float | int | None]] = {}
        for measure in self.measures:
            # The name of a measure is its system, '_' and a field of Quality: __init__ makes the names in this way.
            system, _, field = measure.name.partition("_")
            values[measure.name] = [getattr(image[system][index], field) for image in seen]
        return values

    def _of_image(self, pixels: NDArray[np.uint8]) -> ByBudget:
        """The thumbnail and both codecs at every budget's bits."""
        image = Image.fromarray(pixels)
        small = [thumbnail(image, bits) for bits in self.bits]
        sizes = [bits / 8 for bits in self.bits]
        return {
            "thumb": [NOTHING if enlarged is None else _compare(enlarged, pixels) for enlarged in small],
            "jpeg": _nearest_files(image, "JPEG", sizes),
            "webp": _nearest_files(image, "WEBP", sizes),
        }


def base_options(record: Record) -> dict[str, Any]:
    """What a score table says about the base tokenizer: `base`, and `base_stage_l1` where the checkpoint has it."""
    if "finetune" in record.stages:
        state = "fine-tuned"
    elif "base" in record.stages:
        state = "as trained"
    else:
        state = "imported"
    of_base = next((dict(entry) for entry in record.training if entry.get("stage") == "base"), {})
    # The base stage has no budgets; its figure stands under the largest.
    figures = list(dict(of_base.get("validation_l1") or {}).values())
    return {"base": state, **({"base_stage_l1": float(figures[-1])} if figures else {})}


def build(request: Request) -> Baselines:
    """The task, with the base tokenizer of the model that made the tokens."""
    return Baselines(request.tokenizer, request.info.budgets, request.threads)


def _nearest_files(image: Image.Image, codec: Codec, sizes: Sequence[float]) -> list[Quality]:
    """For each size in bytes, the quality of the image from the file of that codec whose size is nearest."""
    pixels = np.asarray(image)
    low, high = QUALITY_RANGE[codec]

    # Bisection for several budgets asks for the same qualities again, and the slowest WebP search is expensive.
    @cache
    def encoded(quality: int) -> bytes:
        buffer = io.BytesIO()
        options = {"optimize": True, "subsampling": "4:2:0"} if codec == "JPEG" else {"method": 6}
        image.save(buffer, codec, quality=quality, **options)
        return buffer.getvalue()

    # Bisection needs only sizes; a file is decoded and judged only when it is the nearest of a budget.
    @cache
    def judged(quality: int) -> Quality:
        data = encoded(quality)
        return _compare(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), pixels, len(data))

    def nearest(size: float) -> int:
        """By bisection: sizes grow with the quality, or nearly so."""
        # `fits` is never above the size (the caller has tried the lowest quality), `over` is, or lies beyond the range.
        fits, over = low, high + 1
        while over - fits > 1:
            middle = (fits + over) // 2
            fits, over = (middle, over) if len(encoded(middle)) <= size else (fits, middle)
        # The nearest file may lie on either side of the size.
        return min((fits, min(over, high)), key=lambda quality: abs(len(encoded(quality)) - size))

    smallest = len(encoded(low))
    return [judged(low if smallest >= size else nearest(size)) for size in sizes]


def _compare(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], size: int | None = None) -> Quality:
    a, b = (picture.astype(np.float32) / np.float32(255) for picture in (ours, theirs))
    # keepdims leaves an array, which psnr takes, and float64 keeps the sum of many small squares accurate.
    mse = np.square(a - b, dtype=np.float64).mean(keepdims=True)
    return Quality(float(np.abs(a - b).mean()), float(psnr(mse).item()), ssim(a, b), size)


def _bytes(images: Tensor) -> list[NDArray[np.uint8]]:
    """b 3 h w in [0, 1] → b arrays h w 3 uint8."""
    return list(images.mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy())
