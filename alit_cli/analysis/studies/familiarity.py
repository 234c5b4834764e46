"""Whether sets of images are familiar to a model: what more tokens buy each of them, and how many they need."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.decide import check_answerable, check_thresholds, quartiles, select
from alit_cli.analysis.selection.frechet_sweep import frechet_distances
from alit_cli.analysis.selection.sweep import BudgetPolicies, Outcome
from alit_cli.analysis.stats.bootstrap import BinnedMeans
from alit_cli.analysis.stats.differences import cliffs_delta, mann_whitney, match_by
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.errors import InputError

Floats = NDArray[np.float64]

BINS = 20


@dataclass(frozen=True)
class ImageSet:
    """What one token table says about its n images; T budgets.

    Attributes:
        l1: n T, float32; jpeg_bytes: n, None where the table has no measures.
        frechet: distance from the originals at the smallest and the largest budget; None without features.
    """

    name: str
    l1: NDArray[np.float32]
    jpeg_bytes: Floats | None
    frechet: tuple[float, float] | None
    dimension: int


@dataclass(frozen=True)
class SetRow:
    """One set in numbers; intervals are 95 % bootstrap intervals.

    Attributes:
        gap: the mean of L1 at the smallest budget less L1 at the largest; low, high its interval.
        relative_gap: the same as a share of L1 at the smallest.
        mean_tokens, never: at the threshold; share of images that no budget satisfies.
    """

    set: str
    n: int
    l1_smallest: float
    l1_largest: float
    gap: float
    gap_low: float
    gap_high: float
    relative_gap: float
    frechet_smallest: float
    frechet_largest: float
    jpeg_bytes: float
    threshold: float
    mean_tokens: float
    tokens_low: float
    tokens_high: float
    never: float


@dataclass(frozen=True)
class Difference:
    """How a number differs between a set and the first one.

    Attributes:
        measure: `l1_<budget>`, `l1 gap`, `tokens(l1<…)` or `jpeg_bytes`.
        matched: only images matched by JPEG bytes are compared.
        n, n_first: images on either side; mean, mean_first: their means.
        delta: Cliff's δ, -1 to 1: how much more often the set's number is the larger one; low, high its interval.
        p: of the two-sided Mann–Whitney test.
    """

    set: str
    first: str
    measure: str
    matched: bool
    n: int
    n_first: int
    mean: float
    mean_first: float
    delta: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Familiarity:
    """The sets, how each differs from the first, and the share of images at each budget.

    Attributes:
        needs: a row per set and budget: `set tokens share l1`: the share of images that need so many tokens at the
            middle threshold, and the mean L1 of all images there.
    """

    sets: tuple[ImageSet, ...]
    rows: tuple[SetRow, ...]
    differences: tuple[Difference, ...]
    needs: pd.DataFrame
    budgets: tuple[int, ...]
    thresholds: tuple[float, ...]


def read_set(tables: Tables, name: str, few: bool = False, seed: int = 0) -> ImageSet:
    """Read what is needed of a token table; features where its score tables have them.

    Raises InputError where it stopped early, has no good image, or features are too few (unless `few`).
    """
    check_answerable(tables, None)
    wanted = ["l1", *(["jpeg_bytes"] if "jpeg_bytes" in tables.schema.names else [])]
    chunks = [{key: column[chunk.ok] for key, column in chunk.columns.items()} for chunk in tables.stream(wanted)]
    columns = {key: np.concatenate([chunk[key] for chunk in chunks]) for key in wanted} if chunks else {}
    if not chunks or not len(columns["l1"]):
        raise InputError(f"'{tables.name}' has no image with tokens; its column `error` says why.")
    frechet, dimension = None, 0
    if tables.has("features"):
        outcome = Outcome("frechet", "Fréchet distance", "features", frechet=True)
        choices = BudgetPolicies((), tables.budgets)
        found = frechet_distances(tables, choices, outcome, np.random.default_rng(seed), few, intervals=False)
        frechet, dimension = (found.values[0], found.values[-1]), found.dimension
    bytes_ = columns["jpeg_bytes"].astype(np.float64) if "jpeg_bytes" in columns else None
    return ImageSet(name, columns["l1"], bytes_, frechet, dimension)


def compare_sets(
    sets: Sequence[ImageSet],
    budgets: Sequence[int],
    thresholds: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Familiarity:
    """Describe each set and compare it with the first, as they are and matched by JPEG bytes.

    Without thresholds, the quartiles of all sets' L1 at the middle budget are taken. Matching: all images of both
    sets are cut into 20 bins of JPEG bytes with equally many in each, and each bin gives as many images of either
    set, drawn at random from the one that has more. Raises InputError for a threshold that is none.
    """
    check_thresholds(thresholds or ())
    generator = np.random.default_rng(seed)
    at = tuple(sorted(set(thresholds))) if thresholds else quartiles(*(one.l1 for one in sets))
    rows = [row for one in sets for row in _describe(one, budgets, at, resamples, generator)]
    first, *others = sets
    differences = [difference for one in others for difference in _differences(one, first, budgets, at, generator)]
    middle = at[len(at) // 2]
    needs = []
    for one in sets:
        counts = np.bincount(select(one.l1, budgets, middle).index, minlength=len(budgets))
        shares, means = counts / len(one.l1), [float(np.nanmean(column, dtype=np.float64)) for column in one.l1.T]
        needs += [(one.name, *row) for row in zip(budgets, shares, means, strict=True)]
    table = pd.DataFrame(needs, columns=["set", "tokens", "share", "l1"])
    return Familiarity(tuple(sets), tuple(rows), tuple(differences), table, tuple(budgets), at)


def _numbers(one: ImageSet, budgets: Sequence[int], thresholds: Sequence[float]) -> dict[str, NDArray[Any]]:
    """Every number per image that sets are compared by."""
    found: dict[str, NDArray[Any]] = {
        f"l1_{budgets[0]}": one.l1[:, 0],
        f"l1_{budgets[-1]}": one.l1[:, -1],
        "l1 gap": one.l1[:, 0] - one.l1[:, -1],
    }
    for threshold in thresholds:
        found[f"tokens(l1<{threshold:g})"] = select(one.l1, budgets, threshold).n_tokens
    return found


def _describe(
    one: ImageSet, budgets: Sequence[int], thresholds: Sequence[float], resamples: int, generator: np.random.Generator
) -> list[SetRow]:
    """A row for each threshold."""
    numbers = [values.astype(np.float64) for values in _numbers(one, budgets, thresholds).values()]
    means = BinnedMeans(len(one.l1), 1, len(numbers), generator)
    cells = means.deal(0, np.zeros(len(one.l1), np.int64))
    for column, values in enumerate(numbers):
        means.add(column, cells, values)
    mean, (low, high) = means.means()[0], means.intervals(resamples)
    rows = []
    for place, threshold in enumerate(thresholds, start=3):
        rows.append(
            SetRow(
                set=one.name,
                n=len(one.l1),
                l1_smallest=mean[0],
                l1_largest=mean[1],
                gap=mean[2],
                gap_low=low[0, 2],
                gap_high=high[0, 2],
                relative_gap=mean[2] / mean[0],
                frechet_smallest=one.frechet[0] if one.frechet else math.nan,
                frechet_largest=one.frechet[1] if one.frechet else math.nan,
                jpeg_bytes=math.nan if one.jpeg_bytes is None else float(np.nanmean(one.jpeg_bytes)),
                threshold=threshold,
                mean_tokens=mean[place],
                tokens_low=low[0, place],
                tokens_high=high[0, place],
                never=float(1 - select(one.l1, budgets, threshold).satisfied.mean()),
            )
        )
    return rows


def _differences(
    one: ImageSet,
    first: ImageSet,
    budgets: Sequence[int],
    thresholds: Sequence[float],
    generator: np.random.Generator,
) -> list[Difference]:
    """Every number of the set against the first's, as they are and matched."""
    mine, theirs = _numbers(one, budgets, thresholds), _numbers(first, budgets, thresholds)
    everything = np.arange(len(one.l1)), np.arange(len(first.l1))
    ways = {False: everything}
    if one.jpeg_bytes is not None and first.jpeg_bytes is not None:
        ways[True] = match_by(one.jpeg_bytes, first.jpeg_bytes, BINS, generator)
        mine["jpeg_bytes"], theirs["jpeg_bytes"] = one.jpeg_bytes, first.jpeg_bytes
    found = []
    for matched, (rows, others) in ways.items():
        for measure in mine:
            a, b = _known(mine[measure][rows]), _known(theirs[measure][others])
            mean, mean_first = (float(values.mean()) if len(values) else math.nan for values in (a, b))
            delta = cliffs_delta(a, b)
            p = mann_whitney(a, b)
            found.append(
                Difference(one.name, first.name, measure, matched, len(a), len(b), mean, mean_first, *delta, p)
            )
    return found


def _known(values: NDArray[Any]) -> Floats:
    numbers = values.astype(np.float64)
    return numbers[np.isfinite(numbers)]


def save_tables(result: Familiarity, folder: Path) -> list[Path]:
    """Write familiarity.csv and .parquet (the sets), familiarity_differences.csv; what `open_output` raises."""
    table = pd.DataFrame(result.rows)
    names = [field.name for field in dataclasses.fields(Difference)]  # of one set alone there are no rows
    return [
        save_csv(table, folder / "familiarity.csv"),
        save_csv(pd.DataFrame(result.differences, columns=names), folder / "familiarity_differences.csv"),
        save_parquet(table, folder / "familiarity.parquet"),
    ]
