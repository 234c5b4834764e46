"""Tokens a data set needs as criteria grow severe, and what becomes of tasks there (paper, Sec. 3 and A.2)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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
from alit_cli.analysis.selection.sweep import Allocation, BudgetPolicies, Outcome, Sweep
from alit_cli.analysis.stats.bootstrap import BinnedMeans
from alit_cli.analysis.studies.capacity_points import NearBest, PairedDifference, Point, nearly
from alit_cli.analysis.studies.paired import EqualTokens, equal_token_pairs
from alit_cli.analysis.studies.saving import save_csv, save_parquet

Floats = NDArray[np.float64]

ORIGINAL, ALL = "originals", "all images"
"""The line of the images themselves, without tokens; and the name of the group that holds every image."""
OF_CODEC = "pictures of "
"""What the line of another codec's pictures begins with."""
ALL_GROUPS = -1
"""The row of every array by group that is all images together; behind those of the groups."""


@dataclass(frozen=True)
class Capacity:
    """Every point, where each line comes near the best, and how lines differ at equal tokens.

    Attributes:
        levels: the lines of pictures without tokens: the originals, then other codecs.
        dimension: of the features of a Fréchet distance, 0 without.
        full_tokens: tokens per image that a capacity of 1 stands for.
        photographs: how many independent photographs the intervals resample, 0 where every row is one.
    """

    points: tuple[Point, ...]
    nearly: tuple[NearBest, ...]
    differences: tuple[PairedDifference, ...]
    outcomes: tuple[Outcome, ...]
    levels: tuple[str, ...]
    dimension: int
    full_tokens: int
    photographs: int


def measure_capacity(
    tables: Tables,
    sweeps: Sequence[Sweep],
    outcomes: Sequence[Outcome],
    groups: Groups | None = None,
    resamples: int = 1000,
    seed: int = 0,
    allow_biased: bool = False,
    allocations: Sequence[Allocation] = (),
    full_tokens: int | None = None,
) -> Capacity:
    """Look at the outcomes of every criterion of the sweeps, of each uniform budget and of pictures without tokens.

    Those are the originals and what other codecs made of them. Columns stream by once (features once more). A Fréchet
    distance is of all images, never of a group. Capacities are shares of `full_tokens` per image; None takes the
    largest budget of the table. Raises InputError where a column is missing, the table stopped early, or features are
    too few (unless `allow_biased`).
    """
    # A table that stopped early lacks numbers at the larger budgets, which every line here needs.
    check_answerable(tables, None)
    full = full_tokens or tables.budgets[-1]
    policies = BudgetPolicies(tuple(sweeps), tables.budgets, tuple(allocations))
    generator = np.random.default_rng(seed)
    # By the name of the line, what stands behind the '_' of its columns.
    levels = {ORIGINAL: "original", **{f"{OF_CODEC}{codec}": codec for codec in tables.codecs()}}
    # A Fréchet distance is no mean over images, so it is streamed on its own below.
    means_of = [outcome for outcome in outcomes if not outcome.frechet]
    sums = _add_up(tables, policies, means_of, tuple(levels.values()), groups, generator)
    # Pairs are chosen once, from all images; each resample then moves the tokens of their points as well.
    pairs = equal_token_pairs(policies, sums.mean_tokens()[ALL_GROUPS], len(means_of))
    numbers = _numbers(sums, len(policies) + len(levels), outcomes, pairs, resamples)
    dimension = 0
    for place, outcome in enumerate(outcomes):
        if outcome.frechet:
            distances = frechet_distances(tables, policies, outcome, generator, allow_biased, resamples > 0)
            numbers.set_distances(place, distances, len(policies))
            dimension = max(dimension, distances.dimension)
    labels = [*policies.labels(), *((line, "", None) for line in levels)]
    points = tuple(_points(labels, outcomes, groups, sums, numbers, full))
    return Capacity(
        points=points,
        nearly=tuple(nearly(points, outcomes)),
        differences=tuple(_differences(policies, means_of, sums, numbers, pairs, full)),
        outcomes=tuple(outcomes),
        levels=tuple(levels),
        dimension=dimension,
        full_tokens=full,
        photographs=0 if sums.means.photographs is None else int(sums.means.photographs.max(initial=-1)) + 1,
    )


@dataclass(frozen=True)
class _Sums:
    """What has been added up: g groups (the last: images in none), s policies, o outcomes that are means.

    Attributes:
        images: g; tokens, unsatisfied: g s, of all images.
        means: s + l blocks of o columns, one block per policy and one for each of l kinds of pictures without tokens;
            behind them one column per policy with the tokens spent, so that these are resampled with the outcomes.
    """

    images: NDArray[np.int64]
    tokens: Floats
    unsatisfied: NDArray[np.int64]
    means: BinnedMeans

    def mean_tokens(self) -> Floats:
        """Tokens per image, g + 1 s; the last row is all images. NaN where a group has none."""
        images, tokens = _with_all(self.images), _with_all(self.tokens)
        return tokens / np.where(images > 0, images, np.nan)[:, None]


def _with_all(values: NDArray[Any]) -> NDArray[Any]:
    # The row is appended behind the others, which is why ALL_GROUPS is -1.
    """g … values with one more row: their sum."""
    return np.concatenate([values, values.sum(axis=0, keepdims=True)])


def _add_up(
    tables: Tables,
    policies: BudgetPolicies,
    outcomes: Sequence[Outcome],
    ends: Sequence[str],
    groups: Groups | None,
    generator: np.random.Generator,
) -> _Sums:
    """One pass over the columns; `ends` are those of the columns of pictures without tokens."""
    # Images in no group get a row of their own, so that all images together still count them.
    g, s, o = len(groups.names) + 1 if groups else 1, len(policies), len(outcomes)
    budgets = np.asarray(policies.budgets, np.float64)
    columns = (s + len(ends)) * o
    # The number of bins depends on these columns, which may not be zero. The columns of tokens are extra, so that they
    # change no number of bins.
    means = BinnedMeans(tables.rows(), g, columns or 1, generator, tables.photographs(), extra_columns=s)
    sums = _Sums(np.zeros(g, np.int64), np.zeros((g, s)), np.zeros((g, s), np.int64), means)
    # Only some score tables hold the originals too, or another codec's pictures; their lines are left out elsewhere.
    levels = {
        (s + step) * o + place: (outcome, outcome.of(end))
        for step, end in enumerate(ends)
        for place, outcome in enumerate(outcomes)
        if tables.has(outcome.of(end))
    }
    names = [*(outcome.column for outcome in outcomes), *(name for _, name in levels.values())]
    for chunk in tables.stream([*policies.columns, *names]):
        rows = np.flatnonzero(chunk.ok)
        codes = groups.codes[chunk.start + rows] if groups else np.zeros(len(rows), np.int32)
        codes = np.where(codes < 0, g - 1, codes)
        # Failed rows are dealt too, so that the draws depend on the rows of the table alone.
        cells = means.deal(chunk.start, codes if len(rows) == len(chunk.ok) else _spread(codes, rows, len(chunk.ok)))
        cells = cells[rows]
        sums.images[:] += np.bincount(codes, minlength=g)
        values = [outcome.values(chunk.columns[outcome.column][rows]) for outcome in outcomes]
        criteria = {name: chunk.columns[name][rows] for name in policies.columns}
        for policy, (index, satisfied) in enumerate(policies.take(criteria, chunk.start + rows)):
            sums.tokens[:, policy] += np.bincount(codes, budgets[index], g)
            sums.unsatisfied[:, policy] += np.bincount(codes[~satisfied], minlength=g)
            means.add((columns or 1) + policy, cells, budgets[index])
            for place, column in enumerate(values):
                # Columns lie policy by policy; `_numbers` and `EqualTokens` read them in the same order.
                means.add(policy * o + place, cells, column[np.arange(len(rows)), index])
        for number, (outcome, name) in levels.items():
            means.add(number, cells, outcome.values(chunk.columns[name][rows]))
    return sums


def _spread(codes: NDArray[Any], rows: NDArray[np.intp], n: int) -> NDArray[Any]:
    """Codes of some rows as codes of all n."""
    full = np.zeros(n, codes.dtype)
    full[rows] = codes
    return full


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Images with a number, values and the ends of intervals, each of shape (groups + 1, policies + l, outcomes).

    The last group is all images; behind the policies stand l kinds of pictures without tokens. `differences` and its
    ends are (groups + 1, pairs, outcomes that are means).
    """

    known: NDArray[np.int64]
    value: Floats
    low: Floats
    high: Floats
    differences: Floats
    difference_low: Floats
    difference_high: Floats

    def set_distances(self, outcome: int, distances: Distances, policies: int) -> None:
        """Fill in a Fréchet distance: of all images, for every policy."""
        # The distance of the originals to themselves is zero by definition; that of other codecs is in the quality.
        self.known[ALL_GROUPS, :policies, outcome] = distances.n
        self.value[ALL_GROUPS, :policies, outcome] = distances.values
        self.low[ALL_GROUPS, :policies, outcome] = distances.low
        self.high[ALL_GROUPS, :policies, outcome] = distances.high


def _numbers(sums: _Sums, blocks: int, outcomes: Sequence[Outcome], pairs: EqualTokens, resamples: int) -> _Numbers:
    """The means and their intervals; Fréchet distances are left open (0 images, NaN)."""
    mean_places = [place for place, outcome in enumerate(outcomes) if not outcome.frechet]
    groups, o = len(sums.images) + 1, len(mean_places)
    shape = (groups, blocks, len(outcomes))
    known = np.zeros(shape, np.int64)
    value, low, high = np.full((3, *shape), np.nan)
    differences, difference_low, difference_high = np.full((3, groups, len(pairs), o), np.nan)
    # Every outcome may be a Fréchet distance, and then there is no mean to read.
    if o:
        # The columns of tokens stand behind this width.
        width = blocks * o
        known[..., mean_places] = sums.means.known()[:, :width].reshape(groups, blocks, o)
        means = sums.means.means()
        value[..., mean_places] = means[:, :width].reshape(groups, blocks, o)
        ends = sums.means.intervals(resamples, derive=pairs.differences)
        low[..., mean_places], high[..., mean_places] = (end[:, :width].reshape(groups, blocks, o) for end in ends)
        differences[:] = pairs.differences(means).reshape(groups, len(pairs), o)
        first = means.shape[1]  # derived columns stand behind all others
        difference_low[:], difference_high[:] = (end[:, first:].reshape(groups, len(pairs), o) for end in ends)
    return _Numbers(known, value, low, high, differences, difference_low, difference_high)


def _rows_of_groups(groups: Groups | None) -> dict[int, str]:
    """Which rows of the arrays are told, and how they are called: all images first, then the groups."""
    return {ALL_GROUPS: ALL} | dict(enumerate(groups.names if groups else ()))


def _points(
    labels: Sequence[tuple[str, str, float | None]],
    outcomes: Sequence[Outcome],
    groups: Groups | None,
    sums: _Sums,
    numbers: _Numbers,
    full: int,
) -> Iterator[Point]:
    """All images, then group by group: the lines, the uniform budgets, pictures without tokens."""
    policies = sums.tokens.shape[1]
    images, tokens, unsatisfied = _with_all(sums.images), _with_all(sums.tokens), _with_all(sums.unsatisfied)
    for group, name in _rows_of_groups(groups).items():
        for policy, (line, text, threshold) in enumerate(labels):
            mean, never = math.nan, math.nan
            if policy < policies and images[group]:
                mean = float(tokens[group, policy] / images[group])
                never = float(unsatisfied[group, policy] / images[group])
            for place, outcome in enumerate(outcomes):
                cell = group, policy, place
                known = int(numbers.known[cell])
                # Pictures without a number have no point, but a policy always has one: it shows what it spends.
                if known or policy < policies:
                    yield Point(
                        group=name,
                        line=line,
                        criterion=text,
                        threshold=threshold,
                        n=int(images[group]),
                        capacity=mean / full,
                        mean_tokens=mean,
                        unsatisfied=never,
                        outcome=outcome.name,
                        known=known,
                        value=float(numbers.value[cell]),
                        low=float(numbers.low[cell]),
                        high=float(numbers.high[cell]),
                    )


def _differences(
    policies: BudgetPolicies, outcomes: Sequence[Outcome], sums: _Sums, numbers: _Numbers, pairs: EqualTokens, full: int
) -> Iterator[PairedDifference]:
    """Every pair, of all images; those that cannot be compared are left out."""
    labels, tokens, means = policies.labels(), sums.mean_tokens()[ALL_GROUPS], sums.means.means()[ALL_GROUPS]
    for number, pair in enumerate(pairs.pairs):
        line, text, threshold = labels[pair.policy]
        for place, outcome in enumerate(outcomes):
            value = float(means[pair.policy * len(outcomes) + place])
            difference = float(numbers.differences[ALL_GROUPS, number, place])
            # A column without numbers gives NaN, and a row of NaN would say nothing.
            if math.isfinite(difference):
                yield PairedDifference(
                    outcome=outcome.name,
                    line=line,
                    criterion=text,
                    threshold=threshold,
                    capacity=float(tokens[pair.policy] / full),
                    value=value,
                    against=pair.against,
                    # This is taken from the other two, so that the three numbers of a row always add up.
                    against_value=value - difference,
                    difference=difference,
                    low=float(numbers.difference_low[ALL_GROUPS, number, place]),
                    high=float(numbers.difference_high[ALL_GROUPS, number, place]),
                )


def save_tables(result: Capacity, folder: Path) -> list[Path]:
    """Write the points as capacity.csv and .parquet, the rest as capacity_nearly.csv and capacity_differences.csv.

    Raises what `open_output` raises.
    """
    # A threshold is None for joined criteria; as a float it is an empty cell in both kinds of file.
    table = pd.DataFrame(result.points).astype({"threshold": float})
    # Without rows pandas would write no header, so the columns are named.
    differences = pd.DataFrame(result.differences, columns=list(PairedDifference.__dataclass_fields__))
    return [
        save_csv(table, folder / "capacity.csv"),
        save_csv(pd.DataFrame(result.nearly), folder / "capacity_nearly.csv"),
        save_csv(differences.astype({"threshold": float}), folder / "capacity_differences.csv"),
        save_parquet(table, folder / "capacity.parquet"),
    ]
