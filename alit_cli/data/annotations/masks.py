"""Label maps of images: one picture of ids per image, fitted to the model's square exactly like the image."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alit_cli.data.pictures.fitting import fit_box
from alit_cli.data.sources.items import Item
from alit_cli.errors import InputError

Labels = NDArray[np.int32]

VOID = 255
"""What masks hold where nobody is to look, as in PASCAL VOC; in a mask of black and white it is the object."""
IGNORED = -1
"""Where nobody is to look, without any doubt: an id that no file can hold."""
IMAGENET_S_IGNORE, UNUSED = 1000, 1001
"""What ImageNet-S has for IGNORED, and an id that none of its classes has."""
SKEW = 0.03
"""A mask may differ from its image in aspect by this share, as a pixel more or less does after resizing."""


def stem(image: str) -> str:
    """What an image and its mask have in common: the path without its suffix."""
    return str(PurePosixPath(image).with_suffix(""))


@dataclass(frozen=True)
class Masks:
    """The masks of images, read when they are asked for.

    Attributes:
        items: image key → its mask.
        side: pixels of the fitted square.
        unreadable: image key → why its mask cannot be used, of those that have been asked for.
    """

    items: Mapping[str, Item]
    side: int
    unreadable: dict[str, str] = field(default_factory=dict)

    def own(self, image: str, width: int, height: int) -> Labels | None:
        """The image's label map, or None where it has none, or one that cannot be used."""
        return self._read(image, width, height) if image in self.items else None

    def others(self, image: str, count: int, seed: int) -> Iterator[tuple[str, Labels]]:
        """Label maps of `count` other images and whose they are, without those that cannot be used.

        Over all images, each mask is met equally often: the masks stand in a ring, and every image takes those at the
        same random distances from its own.
        """
        ring = list(self.items)
        place = ring.index(image)
        # One distance fewer than there are masks: a step around the whole ring would lead back to the image's own.
        for step in np.random.default_rng(seed).permutation(len(ring) - 1)[:count]:
            other = ring[(place + 1 + step) % len(ring)]
            if (labels := self._read(other)) is not None:
                yield other, labels

    def _read(self, image: str, width: int = 0, height: int = 0) -> Labels | None:
        """A mask; one that cannot be used is noted, since it must not end the study of all other images."""
        try:
            return read_labels(self.items[image], self.side, width, height)
        except InputError as problem:
            self.unreadable[image] = str(problem)
            return None


def read_labels(item: Item, side: int, width: int = 0, height: int = 0) -> Labels:
    """The ids of a mask, side × side, resized by nearest neighbour from the centre square.

    Greyscale (8, 16 or 32 bits), palette and black-and-white files hold ids as they are, a colour file where its
    channels agree. One without blue holds R + 256·G, as ImageNet-S has it; its 1000 becomes IGNORED.

    Args:
        item: the mask.
        side: pixels of the fitted square.
        width, height: of the mask's image, upright; 0 where that is not known.

    Raises:
        InputError: the file cannot be read, holds colours, or has another aspect than its image.
    """
    try:
        with Image.open(io.BytesIO(item.read())) as image:
            ids = _ids(image, item)
    except InputError:
        raise
    except Exception as problem:  # a damaged file can raise nearly anything in Pillow
        raise InputError(f"The mask '{item.image}' cannot be read: {problem}.") from problem
    if width and height and abs(ids.width * height / (ids.height * width) - 1) > SKEW:
        raise InputError(
            f"The mask '{item.image}' is {ids.width}×{ids.height}, its image {width}×{height}: "
            "they are not of one shape."
        )
    box, _ = fit_box(*ids.size, side, "crop")
    # Any other filter would mix ids into those of other classes.
    square = ids.resize((side, side), Image.Resampling.NEAREST, box=box)
    return np.array(square, dtype=np.int32)


def _ids(image: Image.Image, item: Item) -> Image.Image:
    """The mask as an image of whole numbers."""
    # Of a palette file this gives the indices, which are the ids, and not the colours.
    values = np.asarray(image)
    if image.mode in ("RGB", "RGBA", "LA"):
        channels = values[..., : 1 if image.mode == "LA" else 3]
        if (channels == channels[..., :1]).all():
            values = channels[..., 0]
        elif image.mode == "RGB" and not channels[..., 2].any():
            values = channels[..., 0] + 256 * channels[..., 1].astype(np.int32)
            # The class 255 of ImageNet-S must not be taken for VOID; which id a segment has makes no difference.
            values = np.select([values == IMAGENET_S_IGNORE, values == VOID], [IGNORED, UNUSED], values)
        else:
            raise InputError(f"The mask '{item.image}' holds colours; save label ids in one channel.")
    elif image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
        raise InputError(f"The mask '{item.image}' is of mode {image.mode}; save label ids in one channel.")
    return Image.fromarray(values.astype(np.int32))
