"""More views of every image, for those who tokenize a training set once and want it augmented."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alit_cli.data.sources.items import ListedItem

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")
VIEWS = {
    "flip": ("", "flip"),
    # lstrip turns the mirrored plain view, '-flip', into 'flip'.
    "ten-crop": tuple(f"{corner}-flip".lstrip("-") if flip else corner for corner in ("", *CORNERS) for flip in (0, 1)),
}
"""The views of an image by what is asked for; the first is the plain one, `flip` its mirror image."""


def with_views(listed: Iterable[ListedItem], views: str | None) -> Iterator[ListedItem]:
    """Every item, then its other views as items whose key ends in `#` and the view's name; None: no others."""
    for entry in listed:
        for view in VIEWS[views] if views else ("",):
            key = f"{entry.item.image}#{view}" if view else entry.item.image
            yield replace(entry, item=replace(entry.item, image=key, view=view))


def split_view(key: str) -> tuple[str, str]:
    """The key of an image, and the view that a key of its table stands for; empty for the plain one."""
    # From the right, because a file's name may hold '#' too.
    image, _, view = key.rpartition("#")
    # The ten crops contain the views of every other set.
    return (image, view) if view and view in VIEWS["ten-crop"] else (key, "")


def number_photographs(keys: Sequence[str]) -> NDArray[np.int64]:
    """The number of the photograph that each key of a table with views shows, 0 … P - 1, n."""
    _, numbers = np.unique([split_view(key)[0] for key in keys], return_inverse=True)
    return numbers.astype(np.int64)
