"""Photographs decoded once: a few random crops each, kept as uint8 on disk and read by memory map."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alit_cli.data.images import decode, fit, random_view
from alit_cli.data.sources import Item
from alit_cli.errors import ImageProblem, InputError
from alit_cli.progress import Progress

DECODE_THREADS = 4
Pixels = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]


@dataclass(frozen=True)
class Views:
    """The training set in memory-mapped form.

    Attributes:
        pixels: (photos × views) S S 3 uint8; the views of a photo lie side by side.
        views: views per photo.
        validation: held-out photos, fitted and not augmented, V S S 3 uint8.
    """

    pixels: Pixels
    views: int
    validation: Pixels

    @property
    def photos(self) -> int:
        """Number of training photographs."""
        return len(self.pixels) // self.views

    def batch(self, indices: np.ndarray) -> Tensor:
        """Rows of `pixels` as b 3 S S float32 in [0, 1]."""
        return to_images(self.pixels[np.sort(indices)])

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """The rows of one epoch: one view of each photo, shuffled; a function of epoch and seed alone."""
        rng = np.random.default_rng([seed, epoch])
        return rng.permutation(self.photos) * self.views + epoch % self.views


def to_images(pixels: np.ndarray) -> Tensor:
    """b S S 3 uint8 → b 3 S S float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def make_views(
    items: Sequence[Item], side: int, views: int, held_out: int, seed: int, folder: Path
) -> Iterator[Progress]:
    """Decode every photograph once and write `folder/views.npy`, `validation.npy` and `views.json`.

    Photographs that cannot be read are left out and counted. Done before: nothing happens.

    Raises:
        InputError: too few photographs can be read.
    """
    mark = folder / "views.json"
    if mark.exists():
        return
    rng = np.random.default_rng([seed, len(items)])
    order = rng.permutation(len(items))
    chosen, training = order[:held_out], np.sort(order[held_out:])
    validation = [picture for item in chosen if (picture := _one(items[item], side)) is not None]
    np.save(folder / "validation.npy", np.stack(validation) if validation else np.zeros((0, side, side, 3), np.uint8))
    shape = (len(training) * views, side, side, 3)
    store = np.lib.format.open_memmap(folder / "views.npy", "w+", np.uint8, shape)
    kept = 0
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        crops = pool.map(lambda index: _many(items[index], side, views, [seed, int(index)]), training)
        for done, picture in enumerate(crops, 1):
            if picture is not None:
                store[kept * views : (kept + 1) * views] = picture
                kept += 1
            yield Progress(done, len(training), "photographs", done - kept)
    store.flush()
    if kept < 2:
        raise InputError(f"only {kept} of {len(training)} photographs can be read: training needs more")
    mark.write_text(json.dumps({"photos": kept, "views": views}))


def open_views(folder: Path) -> Views:
    """What make_views wrote."""
    shape = json.loads((folder / "views.json").read_text())
    pixels = np.load(folder / "views.npy", mmap_mode="r")[: shape["photos"] * shape["views"]]
    return Views(pixels, shape["views"], np.load(folder / "validation.npy", mmap_mode="r"))


def _one(item: Item, side: int) -> np.ndarray | None:
    try:
        return fit(decode(item.read()), side)
    except (ImageProblem, OSError):
        return None


def _many(item: Item, side: int, views: int, seed: list[int]) -> np.ndarray | None:
    rng = np.random.default_rng(seed)
    try:
        image = decode(item.read())
        return np.stack([random_view(image, side, rng) for _ in range(views)])
    except (ImageProblem, OSError):
        return None
