"""The Fréchet distance from the originals of every policy, features streaming by once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.sweep import BudgetPolicies, Outcome
from alit_cli.analysis.stats.frechet import Moments, Reference, check_enough

PARTS = 8
"""Parts of the jackknife: each costs one more covariance of every policy."""
MEMORY = 2 * 2**30
"""Bytes of covariances that the jackknife may hold; where it would need more there are no intervals."""
ROWS = 2048
"""Rows held at a time, where a row has one long feature per budget."""


@dataclass(frozen=True)
class Distances:
    """Distances from the n originals, one for each policy, with the ends of their 95 % intervals.

    The intervals come from a jackknife that leaves out one of eight random parts of the images at a time; they are
    NaN without it.
    """

    dimension: int
    n: int
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def frechet_distances(
    tables: Tables,
    policies: BudgetPolicies,
    outcome: Outcome,
    generator: np.random.Generator,
    allow_biased: bool,
    intervals: bool,
) -> Distances:
    """Stream the features of the outcome's column and of the originals; InputError where they are too few."""
    columns = [*policies.columns, outcome.column, outcome.original]
    deal = _Dealer(tables, generator)
    parts: list[list[Moments]] = []  # for each part of the images: the originals, then each policy
    for chunk in tables.stream(columns, rows=ROWS, lists=True):
        features, originals = chunk.columns[outcome.column], chunk.columns[outcome.original]
        known = chunk.ok & np.isfinite(originals).all(axis=1)
        if not parts and known.any():
            # Any point near the features will do as the centre, so the mean of the first chunk is taken.
            centre = originals[known].astype(np.float64).mean(axis=0)
            # One covariance of float64 takes eight bytes a cell; there is one for every policy and one for the
            # originals.
            held = (len(policies) + 1) * len(centre) ** 2 * 8
            number = PARTS if intervals and held * PARTS <= MEMORY else 1
            parts = [[Moments(centre) for _ in range(len(policies) + 1)] for _ in range(number)]
        if not known.any():
            continue
        # The originals and every policy use the same parts, so that leaving one out changes all by the same images.
        lots = deal.lots(chunk.start, known, len(parts))
        _add(parts, 0, originals, lots)
        criteria = {name: chunk.columns[name] for name in policies.columns}
        rows = np.arange(chunk.start, chunk.start + len(known))
        for place, (index, _) in enumerate(policies.take(criteria, rows), start=1):
            _add(parts, place, features[np.arange(len(known)), index], lots)
    whole = [Moments.sum(column) for column in zip(*parts, strict=True)]
    dimension = len(whole[0].centre) if whole else 0
    check_enough(whole[0].n if whole else 0, dimension, f"'{tables.name}'", allow_biased)
    values = _distances(whole)
    spread = _half_width(parts) if len(parts) > 1 else np.full(len(values), math.nan)
    # A squared distance cannot be negative, but the interval around a small one would be.
    low, high = np.maximum(values - spread, 0), values + spread
    return Distances(dimension, whole[0].n, tuple(values.tolist()), tuple(low.tolist()), tuple(high.tolist()))


class _Dealer:
    """Deals rows to the parts of the jackknife at random, all views of one photograph to the same part."""

    def __init__(self, tables: Tables, generator: np.random.Generator) -> None:
        self.photographs, self.generator = tables.photographs(), generator
        self.part_of_photograph: NDArray[np.int64] | None = None

    def lots(self, start: int, known: NDArray[np.bool_], parts: int) -> list[NDArray[np.intp]]:
        """The known rows of each part, counted from `start`."""
        if self.photographs is None:
            lot = self.generator.integers(0, parts, len(known))
        else:
            # The number of parts is known only with the first chunk, so photographs are dealt then, and only once.
            if self.part_of_photograph is None:
                self.part_of_photograph = self.generator.integers(0, parts, int(self.photographs.max(initial=0)) + 1)
            lot = self.part_of_photograph[self.photographs[start : start + len(known)]]
        return [np.flatnonzero(known & (lot == part)) for part in range(parts)]


def _add(
    parts: Sequence[Sequence[Moments]], place: int, features: NDArray[Any], lots: Sequence[NDArray[np.intp]]
) -> None:
    for part, rows in zip(parts, lots, strict=True):
        part[place].add(features[rows])


def _distances(moments: Sequence[Moments]) -> NDArray[np.float64]:
    reference = Reference(moments[0])
    return np.array([reference.distance(other) for other in moments[1:]])


def _half_width(parts: Sequence[Sequence[Moments]]) -> NDArray[np.float64]:
    """Half the width of the 95 % interval from leaving out one part at a time."""
    without = []
    for left_out in range(len(parts)):
        rest = [part for number, part in enumerate(parts) if number != left_out]
        moments = [Moments.sum(column) for column in zip(*rest, strict=True)]
        # A covariance is not defined for fewer than two images.
        if min(moment.n for moment in moments) < 2:
            return np.full(len(parts[0]) - 1, math.nan)
        without.append(_distances(moments))
    k = len(parts)
    # This is the standard error of a jackknife with k parts, and k - 1 degrees of freedom belong to it.
    error = np.sqrt((k - 1) / k * ((np.array(without) - np.mean(without, axis=0)) ** 2).sum(axis=0))
    width: NDArray[np.float64] = scipy.stats.t.ppf(0.975, k - 1) * error
    return width
