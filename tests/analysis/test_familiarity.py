"""Sets differ by what a plain count of pairs says, also once they are matched; stronger models are those that lose."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.stats.differences import cliffs_delta, mann_whitney, match_by
from alit_cli.analysis.studies.familiarity import ImageSet, compare_sets, read_set, save_tables
from alit_cli.analysis.studies.strength import measure_strength, task_outcomes
from alit_cli.errors import InputError
from tests.analysis.score_tables import write_scores, write_world
from tests.analysis.tables import BUDGETS

NUMBERS = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


@given(NUMBERS, NUMBERS)
def test_cliffs_delta_counts_pairs(a: list[float], b: list[float]) -> None:
    pairs = [np.sign(x - y) for x in a for y in b]
    delta, low, high = cliffs_delta(np.array(a), np.array(b))
    assert delta == pytest.approx(np.mean(pairs))
    if len(a) > 1 and len(b) > 1:
        assert -1 <= low <= delta <= high <= 1
    else:
        assert math.isnan(low)


def test_the_interval_of_delta_is_as_wide_as_its_spread_over_samples() -> None:
    generator = np.random.default_rng(0)
    draws = [cliffs_delta(generator.normal(0.5, 1, 60), generator.normal(0, 2, 90)) for _ in range(300)]
    deltas, lows, highs = np.array(draws).T
    assert np.mean(highs - lows) == pytest.approx(2 * 1.96 * deltas.std(), rel=0.15)
    a, b = generator.normal(size=30), generator.normal(1, 1, 30)
    assert mann_whitney(a, b) == scipy.stats.mannwhitneyu(a, b).pvalue
    assert math.isnan(mann_whitney(a, b[:0]))


def test_matching_leaves_as_many_of_either_in_every_bin() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(0, 1, 500), generator.normal(1, 1, 300)
    a[::50] = np.nan
    rows_a, rows_b = match_by(a, b, 20, generator)
    assert len(rows_a) == len(rows_b) > 100
    assert len(set(rows_a)) == len(rows_a)
    edges = np.quantile(np.concatenate([a, b])[np.isfinite(np.concatenate([a, b]))], np.linspace(0, 1, 21)[1:-1])
    np.testing.assert_array_equal(
        np.bincount(np.searchsorted(edges, a[rows_a], "right"), minlength=20),
        np.bincount(np.searchsorted(edges, b[rows_b], "right"), minlength=20),
    )
    assert abs(cliffs_delta(a[np.isfinite(a)], b)[0]) > 0.4 > 10 * abs(cliffs_delta(a[rows_a], b[rows_b])[0])


def test_a_difference_that_is_only_busyness_vanishes_at_matched_bytes() -> None:
    generator = np.random.default_rng(1)

    def drawn(name: str, busy: float, strange: float) -> ImageSet:
        bytes_ = generator.normal(busy, 1000, 800)
        base = (0.02 * bytes_ / 1000 + generator.normal(0, 0.01, 800))[:, None]
        l1 = base * np.array([1, 0.7, 0.5]) + strange * np.array([0.0, 0.02, 0.04])
        return ImageSet(name, l1.astype(np.float32), bytes_, None, 0)

    sets = [drawn("known", 5000, 0), drawn("busy", 6000, 0), drawn("strange", 5000, 1)]
    result = compare_sets(sets, BUDGETS, resamples=50)
    delta = {(row.set, row.matched): row for row in result.differences if row.measure == "l1 gap"}
    assert delta["busy", False].low > 0.3
    assert abs(delta["busy", True].delta) < 0.12
    assert delta["strange", True].high < -0.5
    need = {row.set: row for row in result.rows if row.threshold == result.thresholds[1]}
    assert need["strange"].mean_tokens > need["known"].mean_tokens
    assert need["known"].gap_low < need["known"].gap < need["known"].gap_high
    assert result.needs.groupby("set").share.sum().to_dict() == pytest.approx(dict.fromkeys(need, 1.0))


def test_a_set_is_read_with_its_features(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    one = read_set(Tables(tmp_path / "tokens.parquet", tmp_path / "scores"), "a")
    np.testing.assert_array_equal(one.l1, world["l1"][:59].astype(np.float32))
    assert one.frechet is not None and one.frechet[0] > 10 * one.frechet[1] > 0
    assert one.dimension == 4
    result = compare_sets([one], BUDGETS, [0.08], resamples=0)
    assert result.differences == ()
    assert len(save_tables(result, tmp_path)) == 3


def test_a_models_drop_is_paired_with_its_strength(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    names = [f"{'art' if row % 3 else 'photo'}/{row}.jpg" for row in range(60)]
    weak = np.where(np.arange(60)[:, None] % 2, world["class_rank"], 9.0)
    weak[-1] = np.nan
    weak[0, 1] = np.nan
    write_scores(tmp_path / "scores" / "classify@alexnet.parquet", names, {"class_rank": weak})
    tables = Tables(tmp_path / "tokens.parquet", tmp_path / "scores")
    result = measure_strength(tables, task_outcomes(tables, "classify", [], top=2), resamples=100)
    rows = {(row.model, row.budget): row for row in result.rows}
    right = weak[1:59] <= 2
    row = rows["alexnet", 8]
    assert row.n == 58
    assert row.strength == pytest.approx(right[:, 3].mean())
    assert row.drop == pytest.approx((right[:, 3].astype(float) - right[:, 1]).mean())
    assert row.drop == pytest.approx(row.strength - row.value)
    assert row.drop_low < row.drop < row.drop_high
    assert rows["resnet-18", 4].strength > row.strength
    assert all(math.isnan(value) for value in result.spearman.values())  # of two models
    assert [outcome.column for outcome in task_outcomes(tables, "classify", ["microsoft/alexnet"], 1)] == [
        "class_rank@alexnet"
    ]


def test_a_strength_that_cannot_be_known_is_refused(tmp_path: Path) -> None:
    write_world(tmp_path)
    names, ranks = [f"{row}.jpg" for row in range(60)], np.ones((60, 4))
    write_scores(
        tmp_path / "scores/classify@own.parquet", names, {"class_rank": ranks}, {"label_source": ["predicted"] * 60}
    )
    tables = Tables(tmp_path / "tokens.parquet", tmp_path / "scores")
    for task, models, sentence in (
        ("classify", ["own"], "its own predictions"),
        ("depth", [], "no depth_error_original"),
        ("recon", [], "no task 'recon'"),
        ("language", [], "alit score .* --task language"),
        ("classify", ["vit"], "there is: class_rank@own, class_rank@resnet-18"),
    ):
        with pytest.raises(InputError, match=sentence):
            task_outcomes(tables, task, models, 1)
