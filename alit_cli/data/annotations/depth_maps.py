"""Depth maps as files: found beside their images, read, and fitted as the images were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alit_cli.data.annotations.matching import match
from alit_cli.data.files import readable
from alit_cli.data.pictures.fitting import Fit, fit_box
from alit_cli.errors import InputError

SUFFIXES = (".png", ".tif", ".tiff", ".npy")
UNKNOWN = (0, 65535)
"""What a sensor writes where it saw nothing."""


def find_depth_maps(folder: Path, images: Sequence[str]) -> list[Path | None]:
    """The map of every image: the file of the same name, whatever its suffix, else of the longest common ending.

    Raises:
        InputError: no such folder, or no map in it belongs to an image, or one belongs to several.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} with depth maps.")
    # Sorted, because file systems list in any order and an error should name the same file each time.
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    pairs = match(
        [_stem(path.relative_to(folder)) for path in files], [_stem(PurePath(i)) for i in images], "depth maps"
    )
    paths: list[Path | None] = [None] * len(images)
    for file, image in zip(pairs.names, pairs.keys, strict=True):
        paths[image] = files[file]
    if not len(pairs.names):
        example = f"; they are called like '{files[0].name}', the images like '{images[0]}'" if files else ""
        raise InputError(f"No depth map in {folder} (png, tif or npy) belongs to an image of the table{example}.")
    return paths


def read_map(path: Path, side: int, how: Fit) -> NDArray[np.float32]:
    """One map, fitted as its image: side × side in the file's unit, NaN where depth is not known.

    Integers of 0 or 65535, numbers that are not positive or not finite, and what `pad` adds are not known. No value is
    interpolated.

    Raises:
        InputError: the file is not a map of one number per pixel.
    """
    name = readable(str(path))
    try:
        with open(path, "rb") as file:
            # np.load refuses pickles unless told otherwise, so that a foreign file runs no code.
            values = np.asarray(np.load(file) if path.suffix.lower() == ".npy" else Image.open(file))
    except Exception as problem:  # a damaged file can raise nearly anything in Pillow and NumPy
        reason = " ".join(str(problem).split()).rstrip(".")[:120]
        raise InputError(f"The depth map '{name}' cannot be read ({reason}).") from problem
    if values.ndim != 2 or values.dtype.kind not in "buif" or not values.size:
        what = f"the shape {values.shape} and the type {values.dtype}"
        raise InputError(f"The depth map '{name}' cannot be used: it has {what}, not one number per pixel.")
    known = np.isfinite(values) & (values > 0)
    # In integers these values mean that the sensor saw nothing; a floating-point 65535 may be a depth.
    if values.dtype.kind in "iu":
        known &= ~np.isin(values, UNKNOWN)
    return _fitted(np.where(known, values, np.nan).astype(np.float32), side, how)


def _fitted(values: NDArray[np.float32], side: int, how: Fit) -> NDArray[np.float32]:
    """The nearest value at every pixel of the fitted square."""
    height, width = values.shape
    box, (left, top, inner_width, inner_height) = fit_box(width, height, side, how)
    out = np.full((side, side), np.nan, np.float32)
    # Any other filter would invent depths between a near and a far surface, and spread NaN around gaps.
    nearest = Image.fromarray(values).resize((inner_width, inner_height), Image.Resampling.NEAREST, box=box)
    out[top : top + inner_height, left : left + inner_width] = np.asarray(nearest)
    return out


def _stem(path: PurePath) -> str:
    return os.fspath(path.with_suffix(""))
