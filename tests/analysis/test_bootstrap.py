"""Means are means, and intervals are those of the ordinary bootstrap, also where images are dealt into bins."""

import numpy as np
import pytest
from numpy.typing import NDArray

from alit_cli.analysis.stats import bootstrap
from alit_cli.analysis.stats.bootstrap import BinnedMeans


def add_all(values: NDArray[np.float64], groups: NDArray[np.int64], seed: int = 0) -> BinnedMeans:
    """Counts values (n m) in, a few rows at a time."""
    means = BinnedMeans(len(values), int(groups.max()) + 1, values.shape[1], np.random.default_rng(seed))
    for start in range(0, len(values), 1000):
        rows = slice(start, start + 1000)
        cells = means.deal(start, groups[rows])
        for column in range(values.shape[1]):
            means.add(column, cells, values[rows, column])
    return means


def test_means_leave_out_what_is_unknown_and_are_those_of_each_group_and_of_all() -> None:
    generator = np.random.default_rng(0)
    values = np.where(generator.uniform(size=(500, 2)) < 0.2, np.nan, generator.normal(size=(500, 2)))
    groups = generator.integers(0, 3, 500)
    means = add_all(values, groups)
    for group in range(3):
        np.testing.assert_allclose(means.means()[group], np.nanmean(values[groups == group], axis=0))
        np.testing.assert_array_equal(means.known()[group], np.isfinite(values[groups == group]).sum(axis=0))
    np.testing.assert_allclose(means.means()[3], np.nanmean(values, axis=0))


@pytest.mark.parametrize("bins", [2000, 200])
def test_intervals_are_as_wide_as_the_normal_theory_says(bins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "BINS", bins)
    values = np.random.default_rng(1).normal(3, 2, (2000, 3))
    values[:, 1] = np.sort(values[:, 1])  # a table in the order of its classes
    values[:, 2] = np.nan
    low, high = add_all(values, np.zeros(2000, np.int64)).intervals(2000)
    theory = 2 * 1.96 * values[:, :2].std(axis=0) / 2000**0.5
    np.testing.assert_allclose((high - low)[0, :2], theory, rtol=0.2)
    assert (low[0, :2] < values[:, :2].mean(axis=0)).all()
    assert (high[0, :2] > values[:, :2].mean(axis=0)).all()
    assert np.isnan(low[:, 2]).all()
    none = add_all(values, np.zeros(2000, np.int64)).intervals(0)
    assert np.isnan(none).all()
