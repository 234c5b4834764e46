"""Means with bootstrap intervals from sums, so that no image has to be kept."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 2000
CELLS = 20_000_000


class BinnedMeans:
    """Means of m columns in g groups of images, and their intervals.

    Images are dealt into bins at random, and the bootstrap draws bins. Up to 2,000 images each has a bin of its own
    (the ordinary bootstrap); beyond, a bin is a random lot of images, which gives the same intervals in expectation.
    Every column is resampled by the same draws, so that they can be compared.

    Args:
        images: how many there will be in all.
        groups: g, at least 1.
        columns: m.
        generator: deals the images, then draws.
    """

    def __init__(self, images: int, groups: int, columns: int, generator: np.random.Generator) -> None:
        self.bins = max(1, min(images, BINS, max(50, CELLS // (groups * columns))))
        self.alone = images <= self.bins
        self.generator = generator
        self.sums = np.zeros((columns, groups, self.bins))
        self.counts = np.zeros((columns, groups, self.bins))

    def deal(self, start: int, group: NDArray[Any]) -> NDArray[np.int64]:
        """The cells of the next images, from their row number and group."""
        rows = np.arange(start, start + len(group))
        bins = rows if self.alone else self.generator.integers(0, self.bins, len(group))
        return group.astype(np.int64) * self.bins + bins

    def add(self, column: int, cells: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Count values (n) into the cells of their images; NaN counts for nothing."""
        known = ~np.isnan(values)
        if not known.all():
            cells, values = cells[known], values[known]
        size = self.counts[0].size
        self.counts[column] += np.bincount(cells, minlength=size).reshape(-1, self.bins)
        self.sums[column] += np.bincount(cells, values, size).reshape(-1, self.bins)

    def known(self) -> NDArray[np.int64]:
        """Images with a number, g + 1 m; the last row is all groups together."""
        found: NDArray[np.int64] = self._with_all(self.counts).sum(axis=2).T.astype(np.int64)
        return found

    def means(self) -> Floats:
        """Means, g + 1 m; NaN where nothing is known."""
        return _ratio(self._with_all(self.sums).sum(axis=2), self._with_all(self.counts).sum(axis=2)).T

    def intervals(self, resamples: int, level: float = 0.95) -> tuple[Floats, Floats]:
        """Percentile intervals: low and high ends, g + 1 m each; NaN without resamples or where nothing is known."""
        sums, counts = self._with_all(self.sums), self._with_all(self.counts)
        low, high = np.full((2, sums.shape[1], sums.shape[0]), np.nan)
        if not resamples:
            return low, high
        drawn = self.generator.multinomial(self.bins, np.full(self.bins, 1 / self.bins), resamples).astype(np.float64)
        for group in range(sums.shape[1]):
            found = np.sort(_ratio(drawn @ sums[:, group].T, drawn @ counts[:, group].T), axis=0)  # NaN come last
            size = np.isfinite(found).sum(axis=0)
            columns = np.arange(found.shape[1])
            for end, share in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
                place = np.clip(np.round(share * (size - 1)).astype(np.int64), 0, None)
                end[group] = found[place, columns]
        return low, high

    def _with_all(self, cells: Floats) -> Floats:
        return np.concatenate([cells, cells.sum(axis=1, keepdims=True)], axis=1)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return sums / np.where(counts > 0, counts, np.nan)
