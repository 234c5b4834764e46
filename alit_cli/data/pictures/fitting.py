"""Items to square pixels: fit an image, take a random view, or read a whole picture with its measures."""

import dataclasses
import hashlib
import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.measures import Measures, measure
from alit_cli.data.sources.items import Item
from alit_cli.errors import ImageProblem

Pixels = NDArray[np.uint8]
Fit = Literal["crop", "squash", "pad", "centre"]
CropBox = Literal["fitted", "torchvision"]
CropFilter = Literal["bicubic", "bilinear"]
Box = tuple[int, int, int, int]

CORNER = 1.1
"""The square that corners are cut from is larger than they are by this."""
WHITE = 255
"""What `pad` puts around an image, as transparency lies on white too."""
BLACK = 0
"""What `centre` puts around an image that is smaller than the square, as torchvision's CenterCrop does."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One image as it goes into the model, or why it does not.

    `status` is 'ok', 'unreadable', 'truncated', 'too_large', 'empty' or 'unsupported', or 'timeout' or 'crashed' where
    a decoding process had to be replaced; `error` says why in one sentence. `width` and `height` are those of the
    upright image before fitting, `pixels` is uint8 side × side × 3; all three are None unless the status is 'ok'.
    `measures` is None where they were not asked for, and so is `sha256`, the hex digest of the encoded bytes.
    `seconds` is the time that reading the bytes took, and all that came after.
    """

    image: str
    source: str
    status: str
    error: str | None = None
    width: int | None = None
    height: int | None = None
    pixels: Pixels | None = None
    measures: Measures | None = None
    sha256: str | None = None
    seconds: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Reading:
    """What is done with every item.

    Attributes:
        side: pixels of the fitted square.
        how: crop, squash, pad or centre.
        bits: bits of each budget, for the measures; None leaves them out.
        digest: whether the sha256 of the bytes is wanted.
    """

    side: int
    how: Fit = "crop"
    bits: tuple[int, ...] | None = None
    digest: bool = False

    def __call__(self, item: Item) -> Picture:
        """Read, decode, fit and measure one image. Never raises for a bad image or an unreadable file."""
        begun = time.perf_counter()
        try:
            data = item.read()
        except (ImageProblem, OSError, MemoryError) as problem:
            return dataclasses.replace(_failed(item, problem), seconds=(time.perf_counter() - begun, 0.0))
        read = time.perf_counter()
        picture = _picture(item, data, self)
        digest = hashlib.sha256(data).hexdigest() if self.digest else None
        return dataclasses.replace(picture, sha256=digest, seconds=(read - begun, time.perf_counter() - read))


def read_picture(item: Item, side: int, how: Fit = "crop", measures: tuple[int, ...] | None = None) -> Picture:
    """Read, decode, fit and measure one image; `measures` holds the budgets' bits, None skips the measures.

    Never raises for a bad image or an unreadable file: the picture then carries the status and no pixels.
    """
    return Reading(side, how, measures)(item)


def _picture(item: Item, data: bytes, reading: Reading) -> Picture:
    try:
        image = decode(data)
        pixels = fit_view(image, reading.side, reading.how, item.view)
        measures = None if reading.bits is None else measure(pixels, reading.bits)
    except (ImageProblem, OSError, MemoryError) as problem:
        return _failed(item, problem)
    return Picture(item.image, item.source, "ok", None, image.width, image.height, pixels, measures)


def _failed(item: Item, problem: Exception) -> Picture:
    if isinstance(problem, ImageProblem):
        return Picture(item.image, item.source, problem.status, str(problem))
    if isinstance(problem, MemoryError):
        return Picture(item.image, item.source, "too_large", "There is not enough memory to read the image.")
    reason = getattr(problem, "strerror", None) or type(problem).__name__
    return Picture(item.image, item.source, "unreadable", f"The file cannot be read: {reason}.")


def fit(image: Image.Image, side: int, how: Fit = "crop") -> Pixels:
    """An RGB image as uint8 side × side × 3, resized with Pillow's antialiased bicubic filter.

    'crop' takes the centre square (short side to `side`), 'squash' the whole image without its aspect, 'pad'
    the whole image with its aspect, centred on white. 'centre' cuts the centre out and resizes nothing, as the
    evaluation of ALIT's authors does; a smaller image lies on black.
    """
    box, (left, top, width, height) = fit_box(*image.size, side, how)
    inner = _resized(image, (width, height), box)
    if (width, height) == (side, side):
        return inner
    pixels = np.full((side, side, 3), BLACK if how == "centre" else WHITE, dtype=np.uint8)
    pixels[top : top + height, left : left + width] = inner
    return pixels


def fit_box(width: int, height: int, side: int, how: Fit) -> tuple[Box, Box]:
    """How `fit` places an image: the box of it that is resized (left, top, right, bottom), and where that comes to
    lie in the square (left, top, width, height)."""
    whole = (0, 0, width, height)
    if how == "crop":
        # The crop is taken while resizing: a 1 × 5000 image would be gigantic if it were resized whole.
        short = min(width, height)
        left, top = (width - short) // 2, (height - short) // 2
        return (left, top, left + short, top + short), (0, 0, side, side)
    if how == "squash":
        return whole, (0, 0, side, side)
    if how == "pad":
        scale = side / max(width, height)
        # A side of a very long image would be rounded to no pixel at all.
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return whole, ((side - inner[0]) // 2, (side - inner[1]) // 2, *inner)
    if how == "centre":
        w, h = min(width, side), min(height, side)
        # Half pixels are rounded as torchvision's CenterCrop rounds them: to the even place.
        left, top = round((width - w) / 2), round((height - h) / 2)
        return (left, top, left + w, top + h), ((side - w) // 2, (side - h) // 2, w, h)
    raise ValueError(f"fit must be 'crop', 'squash', 'pad' or 'centre', not {how!r}")


def fit_view(image: Image.Image, side: int, how: Fit, view: str) -> Pixels:
    """An RGB image as one of its views (see VIEWS in data/views.py), uint8 side × side × 3.

    A corner is one of the square that `fit` ('crop' or 'squash') makes 1.1 times as large; the plain view is `fit`.
    """
    corner, mirrored = view.removesuffix("flip").rstrip("-"), view.endswith("flip")
    if corner:
        width, height = image.size if how == "squash" else [min(image.size)] * 2
        w, h = width / CORNER, height / CORNER
        # Corners are cut from the original, not from its resized square, so that the image is resampled only once.
        left = (image.width - width) / 2 + (width - w if "right" in corner else 0)
        top = (image.height - height) / 2 + (height - h if "bottom" in corner else 0)
        pixels = _resized(image, (side, side), (left, top, left + w, top + h))
    else:
        pixels = fit(image, side, how)
    # A copy, because a mirrored view of numpy has negative strides, which torch refuses.
    return np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels


def random_view(
    image: Image.Image,
    side: int,
    rng: np.random.Generator,
    area: tuple[float, float] = (0.8, 1.0),
    box: CropBox = "fitted",
    resample: CropFilter = "bicubic",
) -> Pixels:
    """A random part of an RGB image for training, uint8 side × side × 3.

    Its aspect is 3/4 to 4/3 (log-uniform), its place any, and half of all views are mirrored. Unlike the usual
    rejection loop, which `box="torchvision"` is, the fitted box moves over long panoramas too.

    Args:
        image: any size.
        side: pixels of the view.
        rng: what the view is drawn from.
        area: the smallest and the largest share of the largest box of that aspect that the image holds; with
            torchvision's box, of the whole image.
        box: how the part is drawn.
        resample: the filter; Pillow's are antialiased.
    """
    drawn = (_box_of_torchvision if box == "torchvision" else _fitted_box)(*image.size, rng, area)
    # torchvision cuts first, so that its filter sees nothing beyond the part's edge.
    whole, part = (image.crop(drawn), None) if box == "torchvision" else (image, drawn)
    pixels = _resized(whole, (side, side), part, Image.Resampling[resample.upper()])
    return np.ascontiguousarray(pixels[:, ::-1]) if rng.random() < 0.5 else pixels


def _fitted_box(width: int, height: int, rng: np.random.Generator, area: tuple[float, float]) -> Box:
    """A box of any aspect that is drawn, which always fits; random_view explains it."""
    # Log-uniform, so that a view is as often wider than high by some ratio as the other way round.
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    shrink = math.sqrt(rng.uniform(*area))
    w = max(1, round(min(width, height * aspect) * shrink))
    h = max(1, round(min(height, width / aspect) * shrink))
    # The order of the draws is fixed: another order would give other views for the same seed.
    left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return left, top, left + w, top + h


def _box_of_torchvision(width: int, height: int, rng: np.random.Generator, area: tuple[float, float]) -> Box:
    """The box of torchvision's RandomResizedCrop: ten tries, then the largest in the centre with an aspect in range."""
    narrow, wide = 3 / 4, 4 / 3
    for _ in range(10):
        pixels = width * height * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(narrow), math.log(wide)))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * wide)), min(height, round(width / narrow))
    # An image one pixel wide would leave no box at all.
    w, h = max(1, w), max(1, h)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> Pixels:
    """Part of an image at another size, height × width × 3; the filter may look beyond the part's edge."""
    return np.array(image.resize(size, resample, box=box))
