"""How one set of numbers differs from another: Mann–Whitney, Cliff's δ, and sets matched by a third number."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mann_whitney(a: NDArray[Any], b: NDArray[Any]) -> float:
    """p of the two-sided test that a number drawn from a is as likely above as below one from b; NaN without both."""
    if not len(a) or not len(b):
        return float("nan")
    return float(scipy.stats.mannwhitneyu(a, b, alternative="two-sided").pvalue)


def cliffs_delta(a: NDArray[Any], b: NDArray[Any], level: float = 0.95) -> tuple[float, float, float]:
    """P(a > b) − P(a < b), -1 to 1, and the ends of its interval (Cliff, 1996, from the consistent variance).

    a (n) and b (m) are known numbers; NaN where one is empty, an interval of NaN with fewer than two on a side.
    """
    n, m = len(a), len(b)
    if not n or not m:
        return float("nan"), float("nan"), float("nan")
    # Positions in the sorted other set count all n × m pairs without ever making their table.
    below, upto = (np.searchsorted(np.sort(b), a, side) for side in ("left", "right"))
    of_a: Floats = (below + upto - m) / m
    under, until = (np.searchsorted(np.sort(a), b, side) for side in ("left", "right"))
    of_b: Floats = (n - until - under + 0.0) / n
    delta = float(of_a.mean())
    if n < 2 or m < 2:
        return delta, float("nan"), float("nan")
    apart = float((below + (m - upto)).sum())  # pairs that are no ties
    spread = m * m * ((of_a - delta) ** 2).sum() + n * n * ((of_b - delta) ** 2).sum() - (apart - n * m * delta**2)
    # The consistent estimate of the variance can fall below zero by a little in small sets.
    error = np.sqrt(max(spread / (n * m * (n - 1.0) * (m - 1.0)), 0))
    half = float(scipy.stats.norm.ppf((1 + level) / 2) * error)
    # The normal interval can reach beyond the ends that δ itself has.
    return delta, max(delta - half, -1.0), min(delta + half, 1.0)


def match_by(
    a: Floats, b: Floats, bins: int, generator: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of a and of b, one number each, so that both have equally many in each of `bins` bins of it.

    The bins hold equally many of both sets together; from the set that has more in a bin, rows are drawn at random.
    NaN is matched with nothing.
    """
    both = np.concatenate([a, b])
    known = both[np.isfinite(both)]
    # Many equal numbers give equal edges, between which no bin could hold anything.
    edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if len(known) else known
    bin_a, bin_b = np.searchsorted(edges, a, "right"), np.searchsorted(edges, b, "right")
    rows_a, rows_b = [], []
    for number in range(len(edges) + 1):
        here_a = np.flatnonzero((bin_a == number) & np.isfinite(a))
        here_b = np.flatnonzero((bin_b == number) & np.isfinite(b))
        size = min(len(here_a), len(here_b))
        rows_a.append(generator.permutation(here_a)[:size])
        rows_b.append(generator.permutation(here_b)[:size])
    return np.sort(np.concatenate(rows_a)), np.sort(np.concatenate(rows_b))
