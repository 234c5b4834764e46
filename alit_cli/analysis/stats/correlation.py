"""Pearson and Spearman correlation of one score with many measures at once, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST = 3  # images; below this a correlation says nothing
CELLS = 4_000_000  # resamples × images that are held at once


@dataclass(frozen=True)
class Correlations:
    """What one group of images says about m measures; r resamples. NaN where it says nothing.

    Attributes:
        n: images for which the measure is known, int64 m.
        pearson, spearman: estimates, m.
        pearson_resampled, spearman_resampled: the same of every bootstrap resample, r m.
    """

    n: NDArray[np.int64]
    pearson: Floats
    spearman: Floats
    pearson_resampled: Floats
    spearman_resampled: Floats


def correlate(
    score: Floats,
    measures: Floats,
    resamples: int,
    generator: np.random.Generator,
    photographs: NDArray[np.int64] | None = None,
) -> Correlations:
    """Correlate a score (n) with each column of `measures` (n m), resampling images `resamples` times.

    An image counts for a measure where both numbers are finite. Constant columns and fewer than three images
    give NaN, silently. Images of one number in `photographs` (n) are views of one photograph and are drawn together.
    """
    m = measures.shape[1]
    n = np.zeros(m, np.int64)
    estimates = np.full((2, m), np.nan)
    resampled = np.full((2, resamples, m), np.nan)
    known = np.isfinite(measures) & np.isfinite(score)[:, None]
    # Columns with the same gaps have the same images, so one matrix product serves all of them.
    for rows, columns in _by_pattern(known):
        n[columns] = len(rows)
        if len(rows) < FEWEST:
            continue
        # Correlation does not change with the centre and the scale, and no digit is lost far from zero.
        x, y = _centred(score[rows, None])[:, 0], _centred(measures[np.ix_(rows, columns)])
        estimates[:, columns] = _both(np.ones((1, len(rows))), x, y)[:, 0]
        # Without views, every image is a photograph of its own.
        drawn = np.arange(len(rows)) if photographs is None else np.unique(photographs[rows], return_inverse=True)[1]
        for start, weights in _resample(drawn, resamples, generator):
            resampled[:, start : start + len(weights), columns] = _both(weights, x, y)
    return Correlations(n, estimates[0], estimates[1], resampled[0], resampled[1])


def pool(groups: Sequence[Correlations]) -> Correlations:
    """The correlation within groups: the mean of the groups' correlations, weighted by their images.

    It is what correlating all images gives once scores (or ranks) and measures are standardised in each group.
    """
    known = [np.where(np.isfinite(group.pearson), group.n, 0) for group in groups]
    return Correlations(
        n=np.sum(known, axis=0, dtype=np.int64),
        pearson=_weighted_mean([group.pearson for group in groups], known),
        spearman=_weighted_mean([group.spearman for group in groups], known),
        pearson_resampled=_weighted_mean([group.pearson_resampled for group in groups], known),
        spearman_resampled=_weighted_mean([group.spearman_resampled for group in groups], known),
    )


def interval(resampled: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """The percentile interval of each column of resampled estimates (r m): low and high ends, m each."""
    low, high = np.full((2, resampled.shape[1]), np.nan)
    for column, values in enumerate(resampled.T):
        values = values[np.isfinite(values)]
        if len(values):
            low[column], high[column] = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return low, high


def _by_pattern(known: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows and columns of the table (n m) that are known together: one pair for each pattern of gaps."""
    patterns, which = np.unique(known, axis=1, return_inverse=True)
    for index, pattern in enumerate(patterns.T):
        # NumPy 2.0 gives the inverse another shape than the versions before and after it.
        yield np.flatnonzero(pattern), np.flatnonzero(which.reshape(-1) == index)


def _centred(values: Floats) -> Floats:
    """Columns (n m) less their median, in units of the largest distance from it; a constant gives exact zeros."""
    values = values - np.median(values, axis=0)
    size = np.abs(values).max(axis=0)
    return values / np.where(size > 0, size, 1)


def _resample(
    photographs: NDArray[np.integer[Any]], resamples: int, generator: np.random.Generator
) -> Iterator[tuple[int, Floats]]:
    """How often each image is drawn in each resample, a chunk at a time: (first resample, counts r n).

    Photographs are drawn, each with all of its images; `photographs` holds the number of each image's, 0 … P - 1.
    """
    n = int(photographs.max()) + 1
    chunk = max(1, CELLS // len(photographs))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        # Each resample gets a range of numbers of its own, so that a single bincount counts all resamples.
        drawn = generator.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        yield start, counts[:, photographs]


def _both(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Pearson and Spearman (2 r m) of x (n) with the columns of y (n m), under each row of weights (r n)."""
    total = weights.sum(axis=1, keepdims=True)
    covariance = weights @ (x[:, None] * y) / total - (weights @ x[:, None]) * (weights @ y) / total**2
    pearson = covariance / np.sqrt(_variance(weights, x[:, None]) * _variance(weights, y))
    of_x = _ranks(weights, x)
    spearman = [_pearson_of_rows(weights, of_x, _ranks(weights, column)) for column in y.T]
    return np.stack([np.clip(pearson, -1, 1), np.stack(spearman, axis=1)])


def _variance(weights: Floats, y: Floats) -> Floats:
    """Variance (r m) of the columns of y; NaN where nothing but rounding is left of it."""
    total = weights.sum(axis=1, keepdims=True)
    square = weights @ y**2 / total
    variance = square - (weights @ y / total) ** 2
    # Rounding leaves about 1e-16 of the square where a resample draws equal values only. The limit lies far above that,
    # and far below any real spread.
    return np.where(variance > 1e-10 * square, variance, np.nan)


def _ranks(weights: Floats, values: Floats) -> Floats:
    """Rank of each of n values within each resample (r n), ties sharing the mean of their ranks."""
    order = np.argsort(values, kind="stable")
    _, first, tie = np.unique(values[order], return_index=True, return_inverse=True)
    counts = np.add.reduceat(weights[:, order], first, axis=1)
    # The last rank of a tie is the cumulative count; the mean of its ranks is half of the other members less.
    ranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
    place = np.empty_like(tie)
    place[order] = tie
    return ranks[:, place]


def _pearson_of_rows(weights: Floats, a: Floats, b: Floats) -> Floats:
    """Pearson (r) of the ranks a and b (r n), row by row."""
    total = weights.sum(axis=1)
    middle = (total[:, None] + 1) / 2  # the mean of any ranks
    a, b = a - middle, b - middle
    ab = np.einsum("rn,rn,rn->r", weights, a, b)
    spread = np.einsum("rn,rn,rn->r", weights, a, a) * np.einsum("rn,rn,rn->r", weights, b, b)
    correlation: Floats = np.clip(ab / np.sqrt(np.where(spread > 0, spread, np.nan)), -1, 1)
    return correlation


def _weighted_mean(values: Sequence[Floats], weights: Sequence[NDArray[np.int64]]) -> Floats:
    """Mean over groups of arrays shaped m or r m, with weights m each; NaN counts for nothing."""
    total = np.zeros_like(values[0])
    weight = np.zeros_like(values[0])
    for value, images in zip(values, weights, strict=True):
        total += np.where(np.isfinite(value), value, 0) * images
        weight += np.isfinite(value) * images
    return total / np.where(weight > 0, weight, np.nan)
