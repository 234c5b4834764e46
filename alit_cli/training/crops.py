"""Crops of photographs to train on: a few of each decoded once and kept, or a fresh one at every use."""

from __future__ import annotations

import io
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alit_cli.data.files import named_write_errors, open_output
from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import fit, random_view
from alit_cli.data.sources.items import Item
from alit_cli.errors import ImageProblem, InputError
from alit_cli.progress import Progress

DECODE_THREADS = 4
VIEWS_MARK = "views.json"
"""Its presence in a work folder says that the photographs are ready."""
FRESH = 1 << 20
"""How many different crops of a photograph there are where none is kept."""
Pixels = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]
Crop = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some photographs to train on.

    Attributes:
        rows: which of the views they are, ascending, b.
        images: their pixels in [0, 1], b 3 S S float32.
    """

    rows: np.ndarray
    images: Tensor


class Views(ABC):
    """The training set. Row r is crop r mod `views` of photograph r // `views`.

    Attributes:
        photos: number of training photographs.
        views: crops per photograph.
        validation: held-out photographs, fitted and not augmented, V S S 3 uint8.
    """

    photos: int
    views: int
    validation: Pixels

    @property
    def rows(self) -> int:
        """All crops of all photographs."""
        return self.photos * self.views

    def order(self, epoch: int, seed: int) -> np.ndarray:
        """The rows of one epoch: one crop of each photo, shuffled; a function of epoch and seed alone."""
        rng = np.random.default_rng([seed, epoch])
        return rng.permutation(self.photos) * self.views + epoch % self.views

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch:
        """These rows in ascending order, as they lie on the disk."""
        rows = np.sort(rows)
        return Batch(rows, to_images(self.read(rows)).to(device))

    @abstractmethod
    def read(self, rows: np.ndarray) -> Pixels:
        """These rows in this order, b S S 3 uint8."""

    def expect(self, rows: np.ndarray) -> None:  # noqa: B027 (kept crops need no warning)
        """Say which rows will be asked for next, so that they are ready then."""


class KeptViews(Views):
    """Crops decoded once and read by memory map; `pixels` is (photos × views) S S 3 uint8."""

    def __init__(self, pixels: Pixels, views: int, validation: Pixels) -> None:
        self.pixels, self.views, self.validation = pixels, views, validation
        self.photos = len(pixels) // views

    def read(self, rows: np.ndarray) -> Pixels:
        """Look the rows up."""
        found: Pixels = self.pixels[rows]
        return found


class FreshViews(Views):
    """Crops decoded when they are used, in threads, a batch ahead: any number of photographs, no disk.

    A photograph that cannot be read is replaced by the next one that can.
    """

    def __init__(self, items: Sequence[Item], side: int, seed: int, threads: int, validation: Pixels) -> None:
        self.items, self.side, self.seed = items, side, seed
        self.photos, self.views, self.validation = len(items), FRESH, validation
        self.pool = ThreadPoolExecutor(threads)
        self.coming: dict[int, Future[Crop]] = {}

    def read(self, rows: np.ndarray) -> Pixels:
        """Decode the rows, or take them where they were expected."""
        wanted = [int(row) for row in rows]
        late = {row: self.pool.submit(self._crop, row) for row in wanted if row not in self.coming}
        return np.stack([(late.get(row) or self.coming.pop(row)).result() for row in wanted])

    def expect(self, rows: np.ndarray) -> None:
        """Begin to decode them; what was expected before and never used is dropped."""
        wanted = {int(row) for row in rows}
        self.coming = {row: crop for row, crop in self.coming.items() if row in wanted}
        self.coming |= {row: self.pool.submit(self._crop, row) for row in wanted - self.coming.keys()}

    def _crop(self, row: int) -> Crop:
        photo, view = divmod(row, self.views)
        for index in range(photo, photo + self.photos):
            crops = _random_crops(self.items[index % self.photos], self.side, 1, [self.seed, index, view])
            if crops is not None:
                crop: Crop = crops[0]
                return crop
        raise InputError("None of the photographs can be read any more: put them back where the run found them.")


def to_images(pixels: np.ndarray) -> Tensor:
    """b S S 3 uint8 → b 3 S S float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float() / 255


def make_views(
    items: Sequence[Item], side: int, views: int, held_out: int, seed: int, folder: Path
) -> Iterator[Progress]:
    """Write `validation.npy`, `views.json` and, where crops are kept, `views.npy` into a folder.

    Photographs that cannot be read are left out and counted. Done before: nothing happens.

    Args:
        views: crops kept per photograph; 0 keeps none.

    Raises:
        InputError: too few photographs can be read, or their crops do not fit on the disk.
        AlitError: the disk is full.
    """
    mark = folder / VIEWS_MARK
    if mark.exists():
        return
    chosen, training = _split(len(items), held_out, seed)
    validation = [picture for item in chosen if (picture := _whole(items[item], side)) is not None]
    held = io.BytesIO()  # numpy names no reason where a file cannot be written
    np.save(held, np.stack(validation) if validation else np.zeros((0, side, side, 3), np.uint8))
    with open_output(folder / "validation.npy", "working file") as file:
        file.write(held.getbuffer())
    kept = len(training)
    if views:
        kept = yield from _keep(items, training, side, views, seed, folder)
    if kept < 2:
        why = next(filter(None, (_problem(items[index]) for index in training)), "")
        raise InputError(
            f"Only {kept} of {len(training)} photographs can be trained on, and it takes two or more{why}."
        )
    with open_output(mark, "working file") as file:
        file.write(json.dumps({"photos": kept, "views": views}).encode())


def open_views(
    folder: Path, items: Sequence[Item], side: int, held_out: int, seed: int, threads: int = DECODE_THREADS
) -> Views:
    """What make_views prepared of the same items."""
    shape = json.loads((folder / VIEWS_MARK).read_text())
    validation = np.load(folder / "validation.npy", mmap_mode="r")
    if shape["views"]:
        pixels = np.load(folder / "views.npy", mmap_mode="r")[: shape["photos"] * shape["views"]]
        return KeptViews(pixels, shape["views"], validation)
    training = _split(len(items), held_out, seed)[1]
    return FreshViews([items[index] for index in training], side, seed, threads, validation)


def _split(items: int, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which items are held out, and which are trained on."""
    order = np.random.default_rng([seed, items]).permutation(items)
    return order[:held_out], np.sort(order[held_out:])


def _keep(
    items: Sequence[Item], training: np.ndarray, side: int, views: int, seed: int, folder: Path
) -> Generator[Progress, None, int]:
    """Decode every photograph once; gives the number that could be read."""
    path = folder / "views.npy"
    path.unlink(missing_ok=True)  # an attempt that was interrupted must not take the room of this one
    shape = (len(training) * views, side, side, 3)
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{views} crops of {len(training)} photographs take {needed / 2**20:,.1f} MiB and {folder} has "
            f"{free / 2**20:,.1f} MiB free; give fewer --views, or --views 0 to decode them again at every use."
        )
    store = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    with named_write_errors(path), open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):  # a page of the map that finds no room on the disk would kill the process
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    kept = 0
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        crops = pool.map(lambda index: _random_crops(items[index], side, views, [seed, int(index)]), training)
        for done, picture in enumerate(crops, 1):
            if picture is not None:
                store[kept * views : (kept + 1) * views] = picture
                kept += 1
            yield Progress(done, len(training), "photographs", done - kept)
    store.flush()
    return kept


def _whole(item: Item, side: int) -> np.ndarray | None:
    """A photograph fitted as tokenization fits it, S S 3; None where it cannot be read."""
    try:
        return fit(decode(item.read()), side)
    except (ImageProblem, OSError):
        return None


def _problem(item: Item) -> str:
    """What is wrong with a photograph, for the end of a sentence; empty where it can be read."""
    try:
        decode(item.read())
    except (ImageProblem, OSError) as problem:
        return f"; '{item.image}': {problem}"
    return ""


def _random_crops(item: Item, side: int, views: int, seed: list[int]) -> np.ndarray | None:
    """Crops of a photograph, views S S 3; None where it cannot be read."""
    rng = np.random.default_rng(seed)
    try:
        image = decode(item.read())
        return np.stack([random_view(image, side, rng) for _ in range(views)])
    except (ImageProblem, OSError):
        return None
