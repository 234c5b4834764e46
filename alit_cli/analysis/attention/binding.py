"""Object binding: how well a token's region fits a segment of a label map, beside the label maps of other images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.attention.sparsity import upsample
from alit_cli.data.annotations.masks import IGNORED, VOID, Labels
from alit_cli.data.tables.token_maps import Maps

Floats = NDArray[np.float64]
Kept = NDArray[np.bool_]


@dataclass(frozen=True)
class Keep:
    """Which part of a map is a token's region.

    Attributes:
        rule: 'top', the `share` of the positions that have most attention; 'mass', the fewest positions that hold that
            share of the attention (the rule of DINO).
        shares: of 1, each in (0, 1).
    """

    rule: Literal["top", "mass"]
    shares: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The shares in percent, for names of columns."""
        return tuple(f"{100 * share:g}" for share in self.shares)


@dataclass(frozen=True)
class Segments:
    """What in a label map is to be found.

    Attributes:
        masks: s p, a segment each (p pixels); there may be none.
        counted: p, pixels that count at all.
    """

    masks: Kept
    counted: Kept


def segments(
    labels: Labels, background: Sequence[int] = (0,), ignore: Sequence[int] | None = None, min_area: float = 0.0
) -> Segments:
    """The segments of a label map (S S ids): every id but the background and the ignored.

    Args:
        labels: the ids.
        background: no segments, yet a region that covers them overlaps less.
        ignore: pixels that do not count at all, beside IGNORED; None is 255, unless that is all there is beside the
            background, as in masks that are black and white.
        min_area: segments of a smaller share of the picture are background.
    """
    flat = labels.reshape(-1)
    ids, sizes = np.unique(flat, return_counts=True)
    # In a mask of black and white 255 is the object itself, so it is only ignored beside other ids.
    if ignore is None:
        ignore = (VOID,) if set(ids.tolist()) - {*background, VOID} else ()
    ignore = (*ignore, IGNORED)
    # A segment that is too small stays in `counted`, so a region that covers it overlaps less, as over the background.
    wanted = ids[(sizes >= min_area * len(flat)) & ~np.isin(ids, [*background, *ignore])]
    return Segments(flat == wanted[:, None], ~np.isin(flat, ignore))


def regions(maps: Maps, side: int, keep: Keep) -> list[Kept]:
    """The region of each token for each share: k p each, of the maps (k g g) upsampled bilinearly to side × side.

    Positions that tie with the last one kept are kept too, so a map that prefers nothing keeps everything.
    """
    flat = upsample(maps, side).reshape(len(maps), -1)
    pixels = flat.shape[1]
    if keep.rule == "top":
        # At least one position is kept, however small the share is.
        ranks = [pixels - max(1, round(share * pixels)) for share in keep.shares]
        # Only the positions at these ranks must be in their place, which is much quicker than sorting the maps.
        ordered = np.partition(flat, ranks, axis=1)
        return [flat >= ordered[:, rank, None] for rank in ranks]
    ordered = np.sort(flat, axis=1)[:, ::-1]
    # The sum over tens of thousands of pixels is made in float64, because float32 would lose the small ones.
    held = np.cumsum(ordered, axis=1, dtype=np.float64)
    held /= held[:, -1:]
    # The small factor keeps rounding from asking for one position more than the share needs.
    counts = [(held < share * (1 - 1e-9)).sum(axis=1) for share in keep.shares]
    return [flat >= np.take_along_axis(ordered, count[:, None], axis=1) for count in counts]


def overlaps(region: Kept, wanted: Segments) -> Floats:
    """Intersection over union of every token's region (k p) with every segment: k s."""
    counted = region & wanted.counted
    # The product of 0s and 1s counts common pixels; float32 is exact up to 16 million of them and quicker than int.
    shared = counted.astype(np.float32) @ wanted.masks.T.astype(np.float32)
    sizes = counted.sum(axis=1)[:, None] + wanted.masks.sum(axis=1)[None] - shared
    # A region and a segment that are both empty have no union, and overlap by 0.
    shares: Floats = shared.astype(np.float64) / np.maximum(sizes, 1)
    return shares


@dataclass(frozen=True)
class Binding:
    """How well the best token fits each segment, a mean over the segments of one label map.

    Attributes:
        every, first: with the best of all tokens, and of the first budget's; a number per share.
    """

    every: Floats
    first: Floats


def bind(kept: Sequence[Kept], wanted: Segments, first: int) -> Binding:
    """The mean over segments of the best token's overlap, for each share; `kept` comes from `regions`."""
    shares = np.stack([overlaps(region, wanted) for region in kept])
    # The first budget's tokens are the first rows of every map, so a slice is enough.
    return Binding(shares.max(axis=1).mean(axis=1), shares[:, :first].max(axis=1).mean(axis=1))
