"""Images sent through a model in batches: one record per image, also for an image that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from alit_cli.data.pictures.fitting import Picture, Pixels
from alit_cli.data.sources.items import Item
from alit_cli.jobs.reading.reader import default_workers, read_ahead
from alit_cli.progress import Progress

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ImageRecord(Generic[T]):
    """What became of one image: what the model makes of it, or the problem that kept it from the model.

    Attributes:
        progress: images so far; those with a problem count as failed.
        value: None for a problem, and in the first record, which comes before any image.
        problem: the image's name and one sentence.
    """

    progress: Progress
    value: T | None = None
    problem: str | None = None


def through_model(
    items: Sequence[Item], side: int, batch_size: int, model: Callable[[Sequence[Picture], int], Iterable[T]]
) -> Iterator[ImageRecord[T]]:
    """Read every image, centre-cropped to side × side, and hand those that can be read to the model in full batches.

    Args:
        items: the images.
        side: pixels of the fitted square.
        batch_size: images that the model gets at once; the last ones may be fewer.
        model: from the pictures of a batch, which have pixels, and how many it had before, one value each, in order.

    Yields: ImageRecord, first an empty one at zero. Values come in the order of the images; a problem comes as soon
        as it is met, so it may come before the values of images that wait for their batch to fill.
    """
    total, done, failed = len(items), 0, 0
    yield ImageRecord(Progress(0, total))
    waiting: list[Picture] = []
    for index, picture in enumerate(read_ahead(items, side, "crop", None, default_workers()), 1):
        if picture.pixels is None:
            failed += 1
            yield ImageRecord(
                Progress(done + failed, total, failed=failed), problem=f"{picture.image}: {picture.error}"
            )
        else:
            waiting.append(picture)
        # The index counts images with problems too, so the last image hands over what waits even if it cannot be read.
        if len(waiting) == batch_size or (index == total and waiting):
            for value in model(waiting, done):
                done += 1
                yield ImageRecord(Progress(done + failed, total, failed=failed), value)
            waiting = []


def pixels_of(pictures: Sequence[Picture]) -> list[Pixels]:
    """The fitted pixels of pictures that could be read."""
    return [picture.pixels for picture in pictures if picture.pixels is not None]
