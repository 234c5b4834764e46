"""Means with bootstrap intervals from sums, so that no image has to be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 2000
"""Above this number of photographs the bootstrap draws lots of them: intervals change by less than their own error."""
CELLS = 20_000_000
"""Sums that are held at once, 160 MB; where columns and groups would need more, there are fewer bins."""
FEWEST_BINS = 50
"""Fewer lots would make the intervals themselves uncertain by more than a tenth."""


class BinnedMeans:
    """Means of m columns in g groups of images, and their intervals.

    Photographs are dealt into bins at random, and the bootstrap draws bins. Up to 2,000 photographs each has a bin of
    its own (the ordinary bootstrap); beyond, a bin is a random lot of them, which gives the same intervals in
    expectation. Every column is resampled by the same draws, so that they can be compared. Views of one photograph
    are no independent images: they share its bin, so that they are drawn together.

    Args:
        images: how many rows there will be in all.
        groups: how many groups there are, g, at least 1.
        columns: how many columns there are, m.
        generator: deals the photographs, then draws.
        photographs: the number of the photograph of each row (0 … P - 1), n; None where each row is one.
        extra_columns: further columns behind the m, which do not count towards the number of bins.
    """

    def __init__(
        self,
        images: int,
        groups: int,
        columns: int,
        generator: np.random.Generator,
        photographs: NDArray[np.int64] | None = None,
        extra_columns: int = 0,
    ) -> None:
        independent = images if photographs is None else int(photographs.max(initial=-1)) + 1
        # There are never more bins than photographs. FEWEST_BINS comes before the limit of memory, BINS before both.
        self.bins = max(1, min(independent, BINS, max(FEWEST_BINS, CELLS // (groups * columns))))
        self.one_bin_each = independent <= self.bins
        self.generator, self.photographs = generator, photographs
        self.bin_of_photograph: NDArray[np.int64] | None = None
        if photographs is not None and not self.one_bin_each:
            # All photographs are dealt now, because the views of one may arrive in different chunks.
            self.bin_of_photograph = generator.integers(0, self.bins, independent)
        self.sums = np.zeros((columns + extra_columns, groups, self.bins))
        # Counts are kept for each column, because the columns may lack numbers at different images.
        self.counts = np.zeros((columns + extra_columns, groups, self.bins))

    def deal(self, start: int, group: NDArray[Any]) -> NDArray[np.int64]:
        """The cells of the next images, from the number of their first row and their groups."""
        rows = np.arange(start, start + len(group))
        if self.photographs is not None:
            photographs = self.photographs[rows]
            bins = photographs if self.bin_of_photograph is None else self.bin_of_photograph[photographs]
        else:
            bins = rows if self.one_bin_each else self.generator.integers(0, self.bins, len(group))
        # Group and bin become one number, so that a single bincount adds all of them.
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
        known: NDArray[np.int64] = self._with_all(self.counts).sum(axis=2).T.astype(np.int64)
        return known

    def means(self) -> Floats:
        """Means, g + 1 m; NaN where nothing is known."""
        return _ratio(self._with_all(self.sums).sum(axis=2), self._with_all(self.counts).sum(axis=2)).T

    def intervals(
        self, resamples: int, level: float = 0.95, derive: Callable[[Floats], Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Percentile intervals: low and high ends, g + 1 m each; NaN without resamples or where nothing is known.

        `derive` makes further numbers (r d) of the means of r resamples (r m), such as differences between columns;
        their intervals stand behind the m, and are paired: both columns come from the same draws.
        """
        sums, counts = self._with_all(self.sums), self._with_all(self.counts)
        # `derive` is called once with zeros, only to learn how many numbers it makes.
        columns = sums.shape[0] if derive is None else sums.shape[0] + derive(np.zeros((1, sums.shape[0]))).shape[1]
        low, high = np.full((2, sums.shape[1], columns), np.nan)
        if not resamples:
            return low, high
        # Counts become floats, because NumPy multiplies only matrices of floats with BLAS.
        drawn = self.generator.multinomial(self.bins, np.full(self.bins, 1 / self.bins), resamples).astype(np.float64)
        for group in range(sums.shape[1]):
            means = _ratio(drawn @ sums[:, group].T, drawn @ counts[:, group].T)
            if derive is not None:
                means = np.concatenate([means, derive(means)], axis=1)
            ordered = np.sort(means, axis=0)  # NaN come last
            # Only resamples with a known mean count, and after sorting they stand first.
            size = np.isfinite(ordered).sum(axis=0)
            for end, share in ((low, (1 - level) / 2), (high, (1 + level) / 2)):
                place = np.clip(np.round(share * (size - 1)).astype(np.int64), 0, None)
                end[group] = ordered[place, np.arange(columns)]
        return low, high

    def _with_all(self, cells: Floats) -> Floats:
        # The row of all groups together is never stored: it is the sum of the others.
        return np.concatenate([cells, cells.sum(axis=1, keepdims=True)], axis=1)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    # Dividing by NaN instead of zero leaves NaN where nothing is known, without a warning.
    return sums / np.where(counts > 0, counts, np.nan)
