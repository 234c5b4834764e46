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
"""Bins of JPEG bytes for matching: finer ones would leave too few images of either set in each."""
MEASURES_BEFORE_NEEDS = 3
"""How many numbers `_numbers` gives before the needs: L1 at both budgets, and the gap."""


@dataclass(frozen=True)
class ImageSet:
    """What one token table says about its n images; T budgets.

    Attributes:
        l1: n T, float32; jpeg_bytes: n, None where the table has no measures.
        frechet: distance from the originals at the two budgets that are compared; None without features.
        photographs: the number of each image's photograph, n, where the table has several views of each.
    """

    name: str
    l1: NDArray[np.float32]
    jpeg_bytes: Floats | None
    frechet: tuple[float, float] | None
    dimension: int
    photographs: NDArray[np.int64] | None = None

    def per_photograph(self, values: NDArray[Any]) -> Floats:
        """Numbers of images (n) as numbers of photographs: the mean over the views of each, which are no independent
        images."""
        numbers = values.astype(np.float64)
        if self.photographs is None:
            return numbers
        known = np.isfinite(numbers)
        size = int(self.photographs.max(initial=-1)) + 1
        # NaN is left out of sums and counts alike, so a view without a number does not pull the mean down.
        counts = np.bincount(self.photographs[known], minlength=size)
        sums = np.bincount(self.photographs[known], numbers[known], size)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True)
class SetRow:
    """One set in numbers; intervals are 95 % bootstrap intervals.

    Attributes:
        l1_smallest, frechet_smallest: at the smaller of the two budgets that are compared; the others at the larger.
        gap: the mean of L1 at the smaller budget less L1 at the larger; low, high its interval.
        relative_gap: the same as a share of L1 at the smaller.
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
        between: the two budgets whose gap is measured.
    """

    sets: tuple[ImageSet, ...]
    rows: tuple[SetRow, ...]
    differences: tuple[Difference, ...]
    needs: pd.DataFrame
    budgets: tuple[int, ...]
    thresholds: tuple[float, ...]
    between: tuple[int, int]


def check_between(budgets: Sequence[int], between: Sequence[int] | None) -> tuple[int, int]:
    """The two budgets that are compared, ascending; the smallest and the largest for None. InputError for others."""
    if between is None:
        return budgets[0], budgets[-1]
    known = ", ".join(map(str, budgets))
    if len(set(between)) != 2 or not set(between) <= set(budgets):
        raise InputError(
            f"--between takes two budgets of the tables, such as {budgets[0]},{budgets[-1]}; known: {known}."
        )
    return min(between), max(between)


def read_set(
    tables: Tables, name: str, allow_biased: bool = False, seed: int = 0, between: tuple[int, int] | None = None
) -> ImageSet:
    """Read what is needed of a token table; features where its score tables have them.

    Raises InputError where it stopped early, has no good image, or features are too few (unless `allow_biased`).
    """
    check_answerable(tables, None)
    # Only the table's own column is read: it exists exactly where the table was made with measures.
    names = ["l1", *(["jpeg_bytes"] if "jpeg_bytes" in tables.schema.names else [])]
    chunks = list(tables.stream(names))
    ok = np.concatenate([chunk.ok for chunk in chunks]) if chunks else np.zeros(0, np.bool_)
    if not ok.any():
        raise InputError(f"'{tables.name}' has no image with tokens; its column `error` says why.")
    columns = {name: np.concatenate([chunk.columns[name][chunk.ok] for chunk in chunks]) for name in names}
    frechet, dimension = None, 0
    if tables.has("features"):
        # The same distance as in an analysis of capacity, at every budget, of which two are kept.
        outcome = Outcome("frechet", "Fréchet distance", "features", frechet=True)
        policies = BudgetPolicies((), tables.budgets)
        generator = np.random.default_rng(seed)
        distances = frechet_distances(tables, policies, outcome, generator, allow_biased, intervals=False)
        few, many = (tables.budgets.index(budget) for budget in between or (tables.budgets[0], tables.budgets[-1]))
        frechet, dimension = (distances.values[few], distances.values[many]), distances.dimension
    photographs = tables.photographs()
    if photographs is not None:  # renumbered, as those of failed images are gone
        photographs = np.unique(photographs[ok], return_inverse=True)[1].astype(np.int64)
    jpeg_bytes = columns["jpeg_bytes"].astype(np.float64) if "jpeg_bytes" in columns else None
    return ImageSet(name, columns["l1"], jpeg_bytes, frechet, dimension, photographs)


def compare_sets(
    sets: Sequence[ImageSet],
    budgets: Sequence[int],
    thresholds: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    between: tuple[int, int] | None = None,
) -> Familiarity:
    """Describe each set and compare it with the first, as they are and matched by JPEG bytes.

    `between` are the two budgets whose gap is measured; None takes the smallest and the largest.

    Without thresholds, the quartiles of all sets' L1 at the middle budget are taken. Matching: all images of both
    sets are cut into 20 bins of JPEG bytes with equally many in each, and each bin gives as many images of either
    set, drawn at random from the one that has more. Raises InputError for a threshold that is none.
    """
    check_thresholds(thresholds or ())
    generator = np.random.default_rng(seed)
    # Thresholds come from all sets together, so that no set is asked an easier question.
    at = tuple(sorted(set(thresholds))) if thresholds else quartiles(*(image_set.l1 for image_set in sets))
    both = between or (budgets[0], budgets[-1])
    rows = [row for image_set in sets for row in _describe(image_set, budgets, at, both, resamples, generator)]
    first, *others = sets
    differences = [row for image_set in others for row in _differences(image_set, first, budgets, at, both, generator)]
    # One threshold has to stand for all in the figure, and the middle one is far from both ends.
    middle = at[len(at) // 2]
    needs = []
    for image_set in sets:
        counts = np.bincount(select(image_set.l1, budgets, middle).index, minlength=len(budgets))
        # Sums over millions of single-precision losses would lose digits, hence float64.
        shares, means = (
            counts / len(image_set.l1),
            [float(np.nanmean(column, dtype=np.float64)) for column in image_set.l1.T],
        )
        needs += [(image_set.name, *row) for row in zip(budgets, shares, means, strict=True)]
    table = pd.DataFrame(needs, columns=["set", "tokens", "share", "l1"])
    return Familiarity(tuple(sets), tuple(rows), tuple(differences), table, tuple(budgets), at, both)


def _numbers(
    image_set: ImageSet, budgets: Sequence[int], thresholds: Sequence[float], between: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    """Every number per image that sets are compared by."""
    few, many = (list(budgets).index(budget) for budget in between)
    numbers: dict[str, NDArray[Any]] = {
        f"l1_{between[0]}": image_set.l1[:, few],
        f"l1_{between[1]}": image_set.l1[:, many],
        # `_describe` counts on this order of the first three numbers; the needs come behind them.
        "l1 gap": image_set.l1[:, few] - image_set.l1[:, many],
    }
    for threshold in thresholds:
        numbers[f"tokens(l1<{threshold:g})"] = select(image_set.l1, budgets, threshold).n_tokens
    return numbers


def _describe(
    image_set: ImageSet,
    budgets: Sequence[int],
    thresholds: Sequence[float],
    between: tuple[int, int],
    resamples: int,
    generator: np.random.Generator,
) -> list[SetRow]:
    """A row for each threshold."""
    numbers = [
        image_set.per_photograph(values) for values in _numbers(image_set, budgets, thresholds, between).values()
    ]
    n = len(numbers[0])
    # Views have become one number per photograph already, so the bins need no photographs.
    means = BinnedMeans(n, 1, len(numbers), generator)
    cells = means.deal(0, np.zeros(n, np.int64))
    for column, values in enumerate(numbers):
        means.add(column, cells, values)
    mean, (low, high) = means.means()[0], means.intervals(resamples)
    rows = []
    for place, threshold in enumerate(thresholds, start=MEASURES_BEFORE_NEEDS):
        rows.append(
            SetRow(
                set=image_set.name,
                n=len(image_set.l1),
                l1_smallest=mean[0],
                l1_largest=mean[1],
                gap=mean[2],
                gap_low=low[0, 2],
                gap_high=high[0, 2],
                relative_gap=mean[2] / mean[0],
                frechet_smallest=image_set.frechet[0] if image_set.frechet else math.nan,
                frechet_largest=image_set.frechet[1] if image_set.frechet else math.nan,
                jpeg_bytes=math.nan if image_set.jpeg_bytes is None else float(np.nanmean(image_set.jpeg_bytes)),
                threshold=threshold,
                mean_tokens=mean[place],
                tokens_low=low[0, place],
                tokens_high=high[0, place],
                never=float(1 - select(image_set.l1, budgets, threshold).satisfied.mean()),
            )
        )
    return rows


def _differences(
    image_set: ImageSet,
    first: ImageSet,
    budgets: Sequence[int],
    thresholds: Sequence[float],
    between: tuple[int, int],
    generator: np.random.Generator,
) -> list[Difference]:
    """Every number of the set against the first's, as they are and matched; photograph by photograph."""
    ours, theirs = (
        {name: own.per_photograph(values) for name, values in _numbers(own, budgets, thresholds, between).items()}
        for own in (image_set, first)
    )
    sizes = [len(next(iter(numbers.values()))) for numbers in (ours, theirs)]
    # The key says whether images are matched, and the unmatched comparison is always made.
    pairings = {False: (np.arange(sizes[0]), np.arange(sizes[1]))}
    if image_set.jpeg_bytes is not None and first.jpeg_bytes is not None:
        # The size is compared too: it shows how far the sets differ before they are matched, and that they agree
        # afterwards.
        ours["jpeg_bytes"] = image_set.per_photograph(image_set.jpeg_bytes)
        theirs["jpeg_bytes"] = first.per_photograph(first.jpeg_bytes)
        pairings[True] = match_by(ours["jpeg_bytes"], theirs["jpeg_bytes"], BINS, generator)
    differences = []
    for matched, (rows, others) in pairings.items():
        for measure in ours:
            a, b = _known(ours[measure][rows]), _known(theirs[measure][others])
            mean, mean_first = (float(values.mean()) if len(values) else math.nan for values in (a, b))
            delta = cliffs_delta(a, b)
            p = mann_whitney(a, b)
            differences.append(
                Difference(image_set.name, first.name, measure, matched, len(a), len(b), mean, mean_first, *delta, p)
            )
    return differences


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
