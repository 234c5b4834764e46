"""Correlations and their intervals agree with scipy's, and say nothing where there is nothing to say."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from alit_cli.analysis.stats.correlation import correlate, interval, pool

Floats = NDArray[np.float64]


def planted(n: int, rho: float, seed: int = 0) -> tuple[Floats, Floats]:
    """A score and a measure that correlate by about `rho`."""
    score, noise = np.random.default_rng(seed).normal(size=(2, n))
    return score, rho * score + np.sqrt(1 - rho**2) * noise


def test_estimates_equal_scipys_with_ties_gaps_and_odd_scales() -> None:
    score, measure = planted(60, 0.6)
    gaps = np.where(np.arange(60) % 7 == 0, np.nan, measure)
    measures = np.stack([measure, np.round(measure), gaps, 1e6 + 1e-3 * measure, -measure], axis=1)
    found = correlate(np.round(score, 1), measures, 0, np.random.default_rng(0))
    for column, values in enumerate(measures.T):
        known = np.isfinite(values)
        pearson = stats.pearsonr(np.round(score, 1)[known], values[known]).statistic
        spearman = stats.spearmanr(np.round(score, 1)[known], values[known]).statistic
        assert found.pearson[column] == pytest.approx(pearson, abs=1e-9)
        assert found.spearman[column] == pytest.approx(spearman, abs=1e-9)
        assert found.n[column] == known.sum()


@pytest.mark.parametrize("rho", [0.5, -0.8])
def test_intervals_equal_scipys_bootstrap(rho: float) -> None:
    score, measure = planted(80, rho)
    found = correlate(score, measure[:, None], 4000, np.random.default_rng(1))
    for resampled, statistic in (
        (found.pearson_resampled, stats.pearsonr),
        (found.spearman_resampled, stats.spearmanr),
    ):
        expected = stats.bootstrap(
            (score, measure),
            lambda x, y, statistic=statistic: statistic(x, y).statistic,
            paired=True,
            vectorized=False,
            n_resamples=400,
            method="percentile",
            rng=2,
        ).confidence_interval
        low, high = interval(resampled)
        assert low[0] == pytest.approx(expected.low, abs=0.05)
        assert high[0] == pytest.approx(expected.high, abs=0.05)


def test_intervals_cover_the_planted_correlation() -> None:
    covered = 0
    for seed in range(40):
        score, measure = planted(100, 0.5, seed)
        low, high = interval(correlate(score, measure[:, None], 200, np.random.default_rng(seed)).pearson_resampled)
        covered += bool(low[0] <= 0.5 <= high[0])
    assert covered >= 33


def test_the_seed_decides_the_resamples() -> None:
    score, measure = planted(30, 0.5)
    one, same, other = (correlate(score, measure[:, None], 50, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.spearman_resampled, same.spearman_resampled)
    assert (one.spearman_resampled != other.spearman_resampled).any()


def test_nothing_is_said_of_constants_and_of_two_images() -> None:
    score, measure = planted(9, 0.5)
    few = np.where(np.arange(9) < 2, measure, np.nan)
    found = correlate(
        score, np.stack([np.full(9, 0.1), few, np.full(9, np.nan)], axis=1), 100, np.random.default_rng(0)
    )
    assert np.isnan([found.pearson, found.spearman]).all()
    assert np.isnan(interval(found.pearson_resampled)).all()
    assert found.n.tolist() == [9, 2, 0]
    assert np.isnan(correlate(np.full(9, 3.0), measure[:, None], 10, np.random.default_rng(0)).pearson).all()


def test_resamples_in_chunks_are_the_same_kind_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    score, measure = planted(50, 0.5)
    monkeypatch.setattr("alit_cli.analysis.stats.correlation.CELLS", 120)
    found = correlate(score, measure[:, None], 301, np.random.default_rng(0))
    assert np.isfinite(found.pearson_resampled).all()
    assert found.pearson_resampled.std() == pytest.approx((1 - 0.5**2) / np.sqrt(50), rel=0.3)


def test_pooling_is_correlating_what_is_standardised_in_each_group() -> None:
    groups = [planted(40, 0.7, seed=1), planted(90, 0.2, seed=2)]
    shifted = [(score, 100 * place + 7 * measure) for place, (score, measure) in enumerate(groups)]
    found = pool([correlate(score, measure[:, None], 0, np.random.default_rng(0)) for score, measure in shifted])
    score, measure = (np.concatenate([stats.zscore(pair[side]) for pair in shifted]) for side in (0, 1))
    assert found.pearson[0] == pytest.approx(stats.pearsonr(score, measure).statistic)
    ranks = (np.concatenate([stats.zscore(stats.rankdata(pair[side])) for pair in shifted]) for side in (0, 1))
    assert found.spearman[0] == pytest.approx(stats.pearsonr(*ranks).statistic)
    assert found.n[0] == 130


def test_groups_that_say_nothing_are_not_pooled() -> None:
    score, measure = planted(40, 0.7)
    good = correlate(score, measure[:, None], 20, np.random.default_rng(0))
    silent = correlate(score, np.ones((40, 1)), 20, np.random.default_rng(0))
    found = pool([good, silent])
    assert found.pearson[0] == pytest.approx(good.pearson[0])
    assert found.n[0] == 40
    np.testing.assert_allclose(found.pearson_resampled, good.pearson_resampled)
