"""The pictures of the page: each image's original and reconstructions side by side in one small WebP."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from alit_cli.data.pictures.fitting import Pixels, read_picture
from alit_cli.data.sources.items import Item
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.jobs.decode import decoded_pictures
from alit_cli.model.tokenizer import Tokenizer

QUALITIES = (88, 80, 70, 55, 40, 25)
"""WebP qualities to try, the first that fits."""
LONGEST = 16_000
"""Pixels of a WebP's side, rounded down from 16,383."""
SMALLEST = 32
"""Pixels of a picture's side below which it is not made smaller, even where it takes more bytes than allowed."""


@dataclass(frozen=True)
class Sprite:
    """Pictures of one image from left to right: its original where `original`, then each budget that it reached.

    `data` is a WebP of this quality, with `frames` squares of `side` pixels. One file per image is decoded once, and
    the page moves it behind a window to show another budget, which is what makes its slider smooth.
    """

    data: bytes
    frames: int
    original: bool
    quality: int
    side: int

    def base64(self) -> str:
        """As it stands in the page."""
        return base64.b64encode(self.data).decode()


def decode_all(
    tokenizer: Tokenizer, info: TableInfo, rows: pa.Table, batch_size: int
) -> Iterator[tuple[int, int, Pixels]]:
    """Row, budget and S S 3 uint8 pixels of everything that the rows hold tokens for, budget by budget."""
    for budget in info.budgets:
        for row, pixels in decoded_pictures(tokenizer, rows[f"{info.tokens}_{budget}"], batch_size):
            yield row, budget, pixels


def read_original(item: Item | None, info: TableInfo, size: tuple[int, int]) -> Pixels | None:
    """The fitted original, S S 3; None where it is gone, cannot be read or is no longer of this width and height."""
    if item is None:
        return None
    picture = read_picture(item, info.image_size, info.fit)
    # Another size means that the file was replaced after it was tokenized, so it is not this original.
    same = (picture.width, picture.height) == size
    return picture.pixels if same else None


def make_sprite(original: Pixels | None, reconstructions: Sequence[Pixels], most: int) -> Sprite:
    """Put pictures beside each other in at most `most` bytes, as finely as those allow.

    First the quality falls, then the side. A sprite of `SMALLEST` pixels may take a little more than `most`.
    """
    frames: list[NDArray[np.uint8]] = [*([] if original is None else [original]), *reconstructions]
    # All frames stand in one row, and the whole row must fit into a WebP.
    side = min(len(frames[0]), LONGEST // len(frames))
    while True:
        picture = Image.fromarray(np.concatenate([_resized(frame, side) for frame in frames], axis=1))
        for quality in QUALITIES:
            data = _webp(picture, quality)
            if len(data) <= most:
                break
        if len(data) <= most or side <= SMALLEST:
            return Sprite(data, len(frames), original is not None, quality, side)
        # Three quarters of the side are about half of the pixels.
        side = max(side * 3 // 4, SMALLEST)


def _resized(frame: Pixels, side: int) -> Pixels:
    if len(frame) == side:
        return frame
    # A box filter only averages, so it adds no sharp edges that a reconstruction does not have.
    return np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BOX))


def _webp(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    # Method 4 is Pillow's own choice between speed and size.
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
