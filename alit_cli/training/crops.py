"""Crops of photographs to train on: a few of each decoded once and cached, or a new one at every use."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alit_cli.data.files import named_write_errors, open_output
from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import CropBox, CropFilter, fit, random_view
from alit_cli.data.sources.items import Item
from alit_cli.errors import ImageProblem, InputError
from alit_cli.progress import Progress
from alit_cli.training.feed import Feed, Pixels

FEWEST_THREADS = 4
"""Threads that decode on a small machine: some of them always wait for the disk."""
CROPS_MARK = "views.json"
"""Its presence in a work folder says that the photographs are ready."""
MANY = 1 << 20
"""How many different crops of a photograph there are where none is cached; an epoch uses one."""
Crop = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]


@dataclass(frozen=True)
class CropSettings:
    """How crops are made of photographs.

    Attributes:
        side: pixels of a square crop.
        per_photo: crops cached per photograph; 0 caches none.
        area: the smallest and the largest share of a photograph's area that a crop takes.
        held_out: photographs kept out of training.
        seed: of all that is drawn.
        box, resample: how a crop is drawn and resized, as random_view has them.
    """

    side: int
    per_photo: int
    held_out: int
    seed: int
    area: tuple[float, float] = (0.8, 1.0)
    box: CropBox = "fitted"
    resample: CropFilter = "bicubic"

    @property
    def zoom(self) -> float:
        """How much larger than the crop a validation photograph is fitted, so that it shows the scale of training.

        1 where crops may take the whole photograph; 2 where they take a quarter of it on average.
        """
        return 1.0 if self.area[1] == 1 else 1 / math.sqrt(sum(self.area) / 2)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some photographs to train on.

    Attributes:
        rows: which crops they are, ascending, b.
        images: their pixels in [0, 1], b 3 S S float32.
    """

    rows: np.ndarray
    images: Tensor


class CropDataset(ABC):
    """The training set. Row r is crop r mod `per_photo` of photograph r // `per_photo`.

    Attributes:
        photos: number of training photographs.
        per_photo: crops per photograph.
        validation: held-out photographs, fitted and not augmented, V S S 3 uint8.
    """

    photos: int
    per_photo: int
    validation: Pixels

    def __init__(self) -> None:
        self._orders: dict[tuple[int, int], np.ndarray] = {}
        self._feed = Feed(self.read)

    @property
    def rows(self) -> int:
        """All crops of all photographs."""
        return self.photos * self.per_photo

    def order(self, epoch: int, seed: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The rows of one epoch: one crop of each photograph, shuffled; a function of epoch and seed alone.

        Args:
            epoch, seed: what the order is drawn from.
            start, stop: which part of it is wanted.
        """
        key = (epoch, seed)
        if key not in self._orders:
            # Every step asks, and shuffling 50 million photographs takes seconds. Two epochs meet where one ends.
            self._orders = dict(list(self._orders.items())[-1:])
            self._orders[key] = _shuffled(self.photos, epoch, seed)
        return self._orders[key][start:stop].astype(np.int64) * self.per_photo + epoch % self.per_photo

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch:
        """These rows in ascending order, as they lie on the disk."""
        rows = np.sort(rows)
        return Batch(rows, _images(self._feed.take(rows, device)))

    def prefetch(self, batches: Sequence[np.ndarray], device: torch.device) -> None:
        """Say which batches will be asked for next, each by its rows, so that they are on the device then."""
        self._feed.announce([np.sort(rows) for rows in batches], device)

    @abstractmethod
    def read(self, rows: np.ndarray) -> Pixels:
        """These rows in this order, b S S 3 uint8."""

    def close(self) -> None:
        """Stop the threads; what they have not begun is dropped."""
        self._feed.close()


class CachedCrops(CropDataset):
    """Crops decoded once and read by memory map; `pixels` is (photos × per_photo) S S 3 uint8."""

    def __init__(self, pixels: Pixels, per_photo: int, validation: Pixels) -> None:
        super().__init__()
        self.pixels, self.per_photo, self.validation = pixels, per_photo, validation
        self.photos = len(pixels) // per_photo

    def read(self, rows: np.ndarray) -> Pixels:
        """Look the rows up."""
        pixels: Pixels = self.pixels[rows]
        return pixels


class OnTheFlyCrops(CropDataset):
    """Crops decoded when they are used, in threads: any number of photographs, no disk.

    A photograph that cannot be read is replaced by the next one that can.
    """

    def __init__(self, items: Sequence[Item], settings: CropSettings, threads: int, validation: Pixels) -> None:
        super().__init__()
        self.items, self.settings = items, settings
        self.photos, self.per_photo, self.validation = len(items), MANY, validation
        self.pool = ThreadPoolExecutor(threads)

    def read(self, rows: np.ndarray) -> Pixels:
        """Decode the rows in parallel."""
        pixels: Pixels = np.stack(list(self.pool.map(self._crop, map(int, rows))))
        return pixels

    def close(self) -> None:
        """Stop the threads; what they have not begun is dropped."""
        # The pool first: the feed may be waiting for it.
        self.pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _crop(self, row: int) -> Crop:
        photo, number = divmod(row, self.per_photo)
        # A broken photograph gives way to the next readable one, so that every batch is full.
        for index in range(photo, photo + self.photos):
            seed = [self.settings.seed, index, number]
            crops = _random_crops(self.items[index % self.photos], self.settings, 1, seed)
            if crops is not None:
                crop: Crop = crops[0]
                return crop
        raise InputError("None of the photographs can be read any more. Put them back where the run read them first.")


def to_images(pixels: np.ndarray, device: torch.device | None = None) -> Tensor:
    """b S S 3 uint8 → b 3 S S float32 in [0, 1], on a device; bytes travel, as they are a quarter of the floats."""
    return _images(torch.from_numpy(np.array(pixels)).to(device or "cpu"))  # a copy: a memory map is read-only


def _images(raw: Tensor) -> Tensor:
    return raw.permute(0, 3, 1, 2).contiguous().float() / 255


def _shuffled(photos: int, epoch: int, seed: int) -> np.ndarray:
    """All photographs in the order of an epoch; half as large as the numbers that NumPy shuffles."""
    order = np.random.default_rng([seed, epoch]).permutation(photos)
    return order.astype(np.uint32) if photos <= 2**32 else order


def decode_threads() -> int:
    """Threads that decode photographs where the user does not say: the cores of this process's part of the machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(FEWEST_THREADS, usable // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def make_crops(
    items: Sequence[Item], settings: CropSettings, folder: Path, threads: int = FEWEST_THREADS
) -> Iterator[Progress]:
    """Write `validation.npy`, `views.json` and, where crops are cached, `views.npy` into a folder.

    Photographs that cannot be read are left out and counted. If this was done before, nothing happens.

    Raises:
        InputError: too few photographs can be read, or their crops do not fit on the disk.
        AlitError: the disk is full.
    """
    mark = folder / CROPS_MARK
    if mark.exists():
        return
    held_out, training = _split(len(items), settings)
    validation = [pixels for item in held_out if (pixels := _validation(items[item], settings)) is not None]
    encoded = io.BytesIO()  # np.save into a file gives no reason where that cannot be written
    np.save(encoded, np.stack(validation) if validation else np.zeros((0, settings.side, settings.side, 3), np.uint8))
    with open_output(folder / "validation.npy", "working file") as file:
        file.write(encoded.getbuffer())
    readable = len(training)
    if settings.per_photo:
        readable = yield from _cache(items, training, settings, folder, threads)
    if readable < 2:
        why = next(filter(None, (_problem(items[index]) for index in training)), "")
        raise InputError(
            f"Only {readable} of {len(training)} photographs can be trained on, and it takes two or more{why}."
        )
    with open_output(mark, "working file") as file:
        file.write(json.dumps({"photos": readable, "views": settings.per_photo}).encode())


def open_crops(
    folder: Path, items: Sequence[Item], settings: CropSettings, threads: int = FEWEST_THREADS
) -> CropDataset:
    """What make_crops prepared of the same items."""
    shape = json.loads((folder / CROPS_MARK).read_text())
    validation = np.load(folder / "validation.npy", mmap_mode="r")
    if shape["views"]:
        pixels = np.load(folder / "views.npy", mmap_mode="r")[: shape["photos"] * shape["views"]]
        return CachedCrops(pixels, shape["views"], validation)
    training = _split(len(items), settings)[1]
    return OnTheFlyCrops([items[index] for index in training], settings, threads, validation)


def _split(items: int, settings: CropSettings) -> tuple[np.ndarray, np.ndarray]:
    """Which items are held out, and which are trained on."""
    order = np.random.default_rng([settings.seed, items]).permutation(items)
    return order[: settings.held_out], np.sort(order[settings.held_out :])


def _cache(
    items: Sequence[Item], training: np.ndarray, settings: CropSettings, folder: Path, threads: int
) -> Generator[Progress, None, int]:
    """Decode every photograph once; returns the number that could be read."""
    path, per_photo = folder / "views.npy", settings.per_photo
    path.unlink(missing_ok=True)  # an attempt that was interrupted must not take the room of this one
    shape = (len(training) * per_photo, settings.side, settings.side, 3)
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{per_photo} crops of {len(training)} photographs take {needed / 2**20:,.1f} MiB and {folder} has "
            f"{free / 2**20:,.1f} MiB free. Give fewer --crops, or --crops 0 to decode them again at every use."
        )
    store = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    with named_write_errors(path), open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):  # a page of the map that finds no room on the disk would kill the process
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
    readable = 0
    yield Progress(0, len(training), "photographs")
    with ThreadPoolExecutor(threads) as pool:
        decoded = pool.map(
            lambda index: _random_crops(items[index], settings, per_photo, [settings.seed, int(index)]), training
        )
        for done, crops in enumerate(decoded, 1):
            if crops is not None:
                store[readable * per_photo : (readable + 1) * per_photo] = crops
                readable += 1
            yield Progress(done, len(training), "photographs", done - readable)
    # The mark that is written next says that all crops are on the disk.
    store.flush()
    return readable


def _validation(item: Item, settings: CropSettings) -> np.ndarray | None:
    """A photograph fitted as tokenization fits it, at the zoom of the crops, S S 3; None where it cannot be read."""
    side, zoomed = settings.side, round(settings.side * settings.zoom)
    try:
        pixels = fit(decode(item.read()), zoomed)
    except (ImageProblem, OSError):
        return None
    # The centre of the enlarged photograph; without a zoom, all of it.
    margin = (zoomed - side) // 2
    return np.ascontiguousarray(pixels[margin : margin + side, margin : margin + side])


def _problem(item: Item) -> str:
    """What is wrong with a photograph, for the end of a sentence; empty where it can be read."""
    try:
        decode(item.read())
    except (ImageProblem, OSError) as problem:
        return f"; '{item.image}': {str(problem).rstrip('.')}"
    return ""


def _random_crops(item: Item, settings: CropSettings, count: int, seed: list[int]) -> np.ndarray | None:
    """Crops of a photograph, count S S 3; None where it cannot be read."""
    rng = np.random.default_rng(seed)
    try:
        drawn = decode(item.read()), settings.side, rng, settings.area, settings.box, settings.resample
        return np.stack([random_view(*drawn) for _ in range(count)])
    except (ImageProblem, OSError):
        return None
