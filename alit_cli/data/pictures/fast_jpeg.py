"""Plain JPEG files through libjpeg-turbo directly, where simplejpeg is installed: the same pixels, a little sooner."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from PIL import Image

COLOURS = {"RGB": "RGB", "L": "GRAY"}
"""Modes that both read alike, as simplejpeg calls them; CMYK is left to Pillow."""


def decoded(data: bytes, opened: Image.Image) -> Image.Image | None:
    """The pixels of a JPEG that Pillow has opened but not loaded, with its EXIF.

    None where simplejpeg is missing, the file is another kind of JPEG, or anything about it is wrong: then Pillow
    decides what it is.
    """
    decode = _decoder()
    if decode is None or opened.format != "JPEG" or opened.mode not in COLOURS:
        return None
    try:
        # strict makes an error of every warning: what a damaged file gives is Pillow's to decide.
        pixels = decode(data, colorspace=COLOURS[opened.mode], strict=True)
    except Exception:
        return None
    # A file may hold several pictures or a header that lies; the two libraries must mean the same one.
    if pixels.shape[:2] != opened.size[::-1]:
        return None
    image = Image.fromarray(pixels[..., 0] if opened.mode == "L" else pixels)
    # The EXIF, which says how to turn the picture upright, is in `info`. A copy, as `opened` is closed soon.
    image.info = dict(opened.info)
    return image


# A missing package is looked for once and not for every image.
@lru_cache
def _decoder() -> Callable[..., Any] | None:
    try:
        from simplejpeg import decode_jpeg
    except ImportError:
        return None
    decoder: Callable[..., Any] = decode_jpeg
    return decoder
