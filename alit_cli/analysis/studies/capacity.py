"""Tokens a data set needs as criteria grow severe, and what becomes of tasks there (paper, Sec. 3 and A.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.analysis.query.groups import Groups
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import check_answerable
from alit_cli.analysis.selection.frechet_sweep import Distances, frechet_distances
from alit_cli.analysis.selection.sweep import BudgetPolicies, Line, Outcome
from alit_cli.analysis.stats.bootstrap import BinnedMeans
from alit_cli.analysis.studies.saving import save_csv, save_parquet

Floats = NDArray[np.float64]

ORIGINAL, ALL = "originals", "all images"
NEAR = 0.01


@dataclass(frozen=True)
class Point:
    """One outcome at one choice of budgets, in one group of images.

    Attributes:
        line: the criterion's name, `uniform` (one budget for all) or `originals` (no tokens: the images themselves).
        criterion: with its number; the budget of a uniform one.
        n: images of the group with tokens; known: those with a number for the outcome.
        capacity: tokens spent as a share of the largest budget for every image, 0–1; NaN for the originals.
        unsatisfied: share of images that no budget satisfies.
        value: with the ends of its 95 % bootstrap interval, NaN where it is not known.
    """

    group: str
    line: str
    criterion: str
    threshold: float | None
    n: int
    capacity: float
    mean_tokens: float
    unsatisfied: float
    outcome: str
    known: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class NearBest:
    """The fewest tokens with which an outcome is within 1 % of its best in the group, along one line.

    The best is that of all lines. A line that never comes so near has the criterion `never`, no capacity, and the
    value it comes nearest with.
    """

    group: str
    outcome: str
    line: str
    best: float
    criterion: str
    capacity: float
    value: float


@dataclass(frozen=True)
class Capacity:
    """Every point, and where each line comes near the best; `dimension` of the features, 0 without."""

    points: tuple[Point, ...]
    nearly: tuple[NearBest, ...]
    outcomes: tuple[Outcome, ...]
    dimension: int


def measure_capacity(
    tables: Tables,
    lines: Sequence[Line],
    outcomes: Sequence[Outcome],
    groups: Groups | None = None,
    resamples: int = 1000,
    seed: int = 0,
    few: bool = False,
) -> Capacity:
    """Look at the outcomes of every criterion of the lines, of each uniform budget and of the originals.

    Columns stream by once (features once more). A Fréchet distance is of all images, never of a group. Raises
    InputError where a column is missing, the table stopped early, or features are too few (unless `few`).
    """
    check_answerable(tables, None)
    choices, generator = BudgetPolicies(tuple(lines), tables.budgets), np.random.default_rng(seed)
    scalar = [outcome for outcome in outcomes if not outcome.frechet]
    sums = _add_up(tables, choices, scalar, groups, generator)
    numbers, dimension = _numbers(sums, choices, scalar, resamples), 0
    for outcome in outcomes:
        if outcome.frechet:
            far = frechet_distances(tables, choices, outcome, generator, few, resamples > 0)
            numbers |= _far(choices, outcome, far)
            dimension = max(dimension, far.dimension)
    points = tuple(_points(choices, outcomes, groups, sums, numbers))
    return Capacity(points, tuple(_nearly(points, outcomes)), tuple(outcomes), dimension)


@dataclass(frozen=True)
class _Sums:
    """What has been added up: groups g (the last: images in none), choices s.

    Attributes:
        images: g; tokens, unsatisfied: g s, of all images.
        means: a column for each outcome of each choice, then one for each outcome of the originals.
    """

    images: NDArray[np.int64]
    tokens: Floats
    unsatisfied: NDArray[np.int64]
    means: BinnedMeans


def _add_up(
    tables: Tables,
    choices: BudgetPolicies,
    outcomes: Sequence[Outcome],
    groups: Groups | None,
    generator: np.random.Generator,
) -> _Sums:
    """One pass over the columns."""
    g, s, budgets = len(groups.names) + 1 if groups else 1, len(choices), np.asarray(choices.budgets, np.float64)
    means = BinnedMeans(tables.rows(), g, (s + 1) * len(outcomes) or 1, generator)
    found = _Sums(np.zeros(g, np.int64), np.zeros((g, s)), np.zeros((g, s), np.int64), means)
    originals = [outcome.original for outcome in outcomes if tables.has(outcome.original)]
    for chunk in tables.stream([*choices.columns, *(outcome.column for outcome in outcomes), *originals]):
        rows = np.flatnonzero(chunk.ok)
        codes = groups.codes[chunk.start + rows] if groups else np.zeros(len(rows), np.int32)
        codes = np.where(codes < 0, g - 1, codes)
        cells = means.deal(chunk.start, codes if len(rows) == len(chunk.ok) else _spread(codes, rows, len(chunk.ok)))
        cells = cells[rows]
        found.images[:] += np.bincount(codes, minlength=g)
        values = [outcome.values(chunk.columns[outcome.column][rows]) for outcome in outcomes]
        wide = {name: chunk.columns[name][rows] for name in choices.columns}
        for number, (index, satisfied) in enumerate(choices.take(wide, len(rows))):
            found.tokens[:, number] += np.bincount(codes, budgets[index], g)
            found.unsatisfied[:, number] += np.bincount(codes[~satisfied], minlength=g)
            for place, column in enumerate(values):
                means.add(number * len(outcomes) + place, cells, column[np.arange(len(rows)), index])
        for place, outcome in enumerate(outcomes):
            if outcome.original in chunk.columns:
                column = outcome.values(chunk.columns[outcome.original][rows])
                means.add(s * len(outcomes) + place, cells, column)
    return found


def _spread(codes: NDArray[Any], rows: NDArray[np.intp], n: int) -> NDArray[Any]:
    """Codes of some rows as codes of all n."""
    full = np.zeros(n, codes.dtype)
    full[rows] = codes
    return full


Number = tuple[int, float, float, float]
"""Images with a number, the value and the ends of its interval."""


def _numbers(
    sums: _Sums, choices: BudgetPolicies, outcomes: Sequence[Outcome], resamples: int
) -> dict[tuple[int, int, str], Number]:
    """The numbers of every group (-1: all), choice (that behind the last: the originals) and outcome."""
    if not outcomes:
        return {}
    known, values = sums.means.known(), sums.means.means()
    low, high = sums.means.intervals(resamples)
    found = {}
    for group in range(-1, len(known) - 1):
        for number in range(len(choices) + 1):
            for place, outcome in enumerate(outcomes):
                cell = group, number * len(outcomes) + place
                found[group, number, outcome.name] = (
                    int(known[cell]),
                    float(values[cell]),
                    float(low[cell]),
                    float(high[cell]),
                )
    return found


def _far(choices: BudgetPolicies, outcome: Outcome, far: Distances) -> dict[tuple[int, int, str], Number]:
    """The distances of all images, in the shape of `_numbers`."""
    return {
        (-1, number, outcome.name): (far.n, far.values[number], far.low[number], far.high[number])
        for number in range(len(choices))
    }


def _points(
    choices: BudgetPolicies,
    outcomes: Sequence[Outcome],
    groups: Groups | None,
    sums: _Sums,
    numbers: Mapping[tuple[int, int, str], Number],
) -> Iterator[Point]:
    """All images, then group by group: the lines, the uniform budgets, the originals."""
    names = {-1: ALL} | dict(enumerate(groups.names if groups else ()))
    labels = [*choices.labels(), (ORIGINAL, "", None)]
    for group, name in names.items():
        images = int(sums.images.sum() if group < 0 else sums.images[group])
        tokens = sums.tokens.sum(axis=0) if group < 0 else sums.tokens[group]
        unsatisfied = sums.unsatisfied.sum(axis=0) if group < 0 else sums.unsatisfied[group]
        for number, (line, text, threshold) in enumerate(labels):
            mean, never = math.nan, math.nan
            if line != ORIGINAL and images:
                mean, never = float(tokens[number] / images), float(unsatisfied[number] / images)
            for outcome in outcomes:
                known, *value = numbers.get((group, number, outcome.name), (0, math.nan, math.nan, math.nan))
                if known or line != ORIGINAL:
                    share = mean / choices.budgets[-1]
                    yield Point(name, line, text, threshold, images, share, mean, never, outcome.name, known, *value)


def _nearly(points: Sequence[Point], outcomes: Sequence[Outcome]) -> Iterator[NearBest]:
    """Where each line comes within 1 % of the best that any choice of budgets reaches in the group."""
    lower = {outcome.name: outcome.lower_is_better for outcome in outcomes}
    spent: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.line != ORIGINAL and math.isfinite(point.value):
            spent.setdefault((point.group, point.outcome), []).append(point)
    for (group, outcome), some in spent.items():
        best = min(point.value for point in some) if lower[outcome] else max(point.value for point in some)
        for line in dict.fromkeys(point.line for point in some):
            own = [point for point in some if point.line == line]
            near = [point for point in own if abs(point.value - best) <= NEAR * abs(best)]
            if near:
                first = min(near, key=lambda point: point.capacity)
                yield NearBest(group, outcome, line, best, first.criterion, first.capacity, first.value)
            else:
                nearest = min(own, key=lambda point: abs(point.value - best))
                yield NearBest(group, outcome, line, best, "never", math.nan, nearest.value)


def save_tables(result: Capacity, folder: Path) -> list[Path]:
    """Write the points as capacity.csv and .parquet, the rest as capacity_nearly.csv; what `open_output` raises."""
    table = pd.DataFrame(result.points).astype({"threshold": float})
    return [
        save_csv(table, folder / "capacity.csv"),
        save_csv(pd.DataFrame(result.nearly), folder / "capacity_nearly.csv"),
        save_parquet(table, folder / "capacity.parquet"),
    ]
