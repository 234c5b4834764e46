"""Classical complexity of a fitted image: the baselines that stand beside the tokenizer's own error.

The thumbnail is the plainest code of a given number of bits: the image box-averaged to h·w pixels, each
stored with 24 or 12 bits (whichever serves this image better), and enlarged again with bicubic interpolation.
Of n affordable pixels it uses h = ⌊√n⌋ rows of ⌊n / h⌋: as square as can be, yet spending what a square would
leave over. On 96 photographs at 256 × 256 with 384, 768 … 3072 bits its mean error is 0.118 0.103 0.097 0.092
0.088 0.086 0.083 0.080; with square thumbnails it would be 0.122 0.103 0.099 0.092 0.089 0.087 0.084 0.080.
"""

import io
import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import correlate1d
from skimage.feature import canny

# 75 is the default of libjpeg and of Pillow.
JPEG_QUALITY = 75
PNG_LEVEL = 3
"""As telling as Pillow's default 6 (rank correlation 0.99 over 708 pictures) in half the time."""
CANNY_SIGMA = 2.0
"""Follows human scores better than 1 on pictures of objects, scenes and shapes, as well elsewhere."""

COLOUR_LEVELS = 32
"""Levels per channel that distinct colours are counted at: finer ones count sensor noise."""
SOBEL_SCALES = {1: 0.4, 2: 0.3, 4: 0.2, 8: 0.1}
"""How much the gradient counts at each reduction of the picture (Sarıtaş et al., arXiv 2501.15890)."""

LEVELS = np.arange(256)
FOUR_BITS = [round(value / 17) * 17 for value in range(256)] * 3
"""Each of three channels rounded to 16 levels: 12 bits per pixel."""


@dataclass(frozen=True)
class Measures:
    """Complexity of one fitted image; it depends on the side, so compare only images fitted alike.

    `jpeg_bytes`, `png_bytes`: its length as JPEG (quality 75, else Pillow's defaults) and PNG (level 3).
    `edge_density`: share of pixels that Canny marks (grey in [0, 1], sigma 2, thresholds 0.1 and 0.2).
    `entropy`: of the grey levels, in bits, 0 to 8.
    `mad`: mean |x − mean colour| in [0, 1] pixels, the L1 of the mean colour.
    `distinct_colours`: how many of the 32³ colours of 32 levels per channel occur.
    `sobel_gradient`: mean length of Sobel's gradient over pixels and channels in [0, 1], its weights scaled so that
    a step from 0 to 1 has a gradient of 1, at full, half, quarter and eighth size with weights 0.4, 0.3, 0.2 and 0.1.
    `jpeg_bytes_128`, `jpeg_bytes_256`: its length as JPEG at that side; None where the fitted image is smaller.
    `thumbnail`: mean |x − thumbnail| in [0, 1] pixels for each number of bits; NaN where they buy no pixel.
    """

    jpeg_bytes: int
    png_bytes: int
    edge_density: float
    entropy: float
    mad: float
    distinct_colours: int
    sobel_gradient: float
    jpeg_bytes_128: int | None
    jpeg_bytes_256: int | None
    thumbnail: tuple[float, ...]


NEWER_MEASURES = ("distinct_colours", "sobel_gradient", "jpeg_bytes_128", "jpeg_bytes_256")
"""Columns that token tables of version 0.1 do not have; such tables are sound without them."""
WHOLE_NUMBERS = ("jpeg_bytes", "png_bytes", "distinct_colours", "jpeg_bytes_128", "jpeg_bytes_256")
"""The measures that are stored as integers."""
PLAIN_MEASURES = tuple(field.name for field in fields(Measures) if field.name != "thumbnail")
"""The numbers that describe an image alone, in the order of the columns they become."""


def measure(pixels: NDArray[np.uint8], bits: tuple[int, ...]) -> Measures:
    """The measures of one image, uint8 h × w × 3; `bits` are the sizes of the thumbnails to compare with."""
    image = Image.fromarray(pixels)
    grey = image.convert("L")
    # 'nearest' repeats the border; the default of zeros would make an edge of it.
    edges = canny(np.asarray(grey, dtype=np.float32) / 255, sigma=CANNY_SIGMA, mode="nearest")
    return Measures(
        jpeg_bytes=_encoded_size(image, "JPEG", quality=JPEG_QUALITY),
        png_bytes=_encoded_size(image, "PNG", compress_level=PNG_LEVEL),
        edge_density=float(edges.mean()),
        entropy=_entropy(grey),
        mad=_deviation(image),
        distinct_colours=_distinct_colours(pixels),
        sobel_gradient=_sobel_gradient(image),
        jpeg_bytes_128=_jpeg_at(image, 128),
        jpeg_bytes_256=_jpeg_at(image, 256),
        thumbnail=tuple(_thumbnail_error(image, pixels, budget) for budget in bits),
    )


def _encoded_size(image: Image.Image, form: str, **how: int) -> int:
    buffer = io.BytesIO()
    image.save(buffer, form, **how)
    return buffer.tell()


def _jpeg_at(image: Image.Image, side: int) -> int | None:
    """Bytes as JPEG at a side that is not larger than the image's own; None where it is."""
    if min(image.size) < side:
        return None
    # An image that has this side already is not resampled: it gives the same bytes as `jpeg_bytes`.
    resized = image if image.size == (side, side) else image.resize((side, side), Image.Resampling.BOX)
    return _encoded_size(resized, "JPEG", quality=JPEG_QUALITY)


def _distinct_colours(pixels: NDArray[np.uint8]) -> int:
    # int32, because 32³ colours do not fit into 8 bits.
    red, green, blue = np.moveaxis(pixels // (256 // COLOUR_LEVELS), 2, 0).astype(np.int32)
    colours = (red * COLOUR_LEVELS + green) * COLOUR_LEVELS + blue
    return int(np.count_nonzero(np.bincount(colours.ravel(), minlength=COLOUR_LEVELS**3)))


def _sobel_gradient(image: Image.Image) -> float:
    total = 0.0
    for scale, weight in SOBEL_SCALES.items():
        # reduce takes the mean of whole boxes, which is faster than `resize`.
        small = np.asarray(image if scale == 1 else image.reduce(scale), np.float32) / np.float32(255)
        down, right = _sobel(small, 0, 1), _sobel(small, 1, 0)
        total += weight * float(np.sqrt(down**2 + right**2).mean(dtype=np.float64))
    return total


def _sobel(pixels: NDArray[np.float32], along: int, across: int) -> NDArray[np.float32]:
    """Sobel's difference along one axis, smoothed across the other only: scipy's own would mix the channels."""
    difference = correlate1d(pixels, [-1, 0, 1], along, mode="nearest")
    smooth: NDArray[np.float32] = correlate1d(difference, [0.25, 0.5, 0.25], across, mode="nearest")
    return smooth


def _entropy(grey: Image.Image) -> float:
    share = np.array(grey.histogram()) / (grey.width * grey.height)
    # A level that does not occur adds nothing, but 0 times its logarithm, which is infinite, would be NaN.
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0  # never -0.0


def _deviation(image: Image.Image) -> float:
    """Mean |x − mean colour|, from the histogram of each channel."""
    share = np.array(image.histogram()).reshape(3, 256) / (image.width * image.height)
    means = share @ LEVELS
    return float((share * np.abs(LEVELS - means[:, None])).sum() / 3 / 255)


def thumbnail(image: Image.Image, bits: int) -> NDArray[np.uint8] | None:
    """The thumbnail of so many bits, enlarged again to uint8 h × w × 3; None where they buy no pixel."""
    thumbnails = _thumbnails(image, np.asarray(image), bits)
    return min(thumbnails, key=lambda thumbnail: thumbnail[0])[1] if thumbnails else None


def _thumbnail_error(image: Image.Image, pixels: NDArray[np.uint8], bits: int) -> float:
    """Mean |x − thumbnail| in [0, 1] pixels; both arguments are the image."""
    return min((error for error, _ in _thumbnails(image, pixels, bits)), default=math.nan)


def _thumbnails(image: Image.Image, pixels: NDArray[np.uint8], bits: int) -> list[tuple[float, NDArray[np.uint8]]]:
    """Error and pixels of the thumbnails of 24-bit and 12-bit pixels, as far as they can be had."""
    made = [large for depth in (24, 12) if (large := _enlarged(image, bits, depth)) is not None]
    return [(_error(large, pixels), large) for large in made]


def _enlarged(image: Image.Image, bits: int, depth: int) -> NDArray[np.uint8] | None:
    """The thumbnail whose pixels have `depth` bits."""
    affordable = bits // depth
    if not affordable:
        return None
    # With many bits the thumbnail would be larger than the image, which gains nothing.
    height = min(math.isqrt(affordable), image.height)
    small = image.resize((min(affordable // height, image.width), height), Image.Resampling.BOX)
    if depth == 12:
        small = small.point(FOUR_BITS)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def _error(large: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> float:
    difference = np.maximum(large, pixels) - np.minimum(large, pixels)  # stays uint8
    # 32 bits hold the sum for pictures up to a side of 2369 pixels.
    return int(difference.sum(dtype=np.uint32)) / (255 * difference.size)
