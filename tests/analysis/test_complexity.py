"""Correlations with complexity: what is planted is found, in every group and pooled, and written whole."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from alit_cli.analysis.figures.complexity import draw_complexity
from alit_cli.analysis.figures.style import budget_colours
from alit_cli.analysis.studies.complexity import (
    Complexity,
    Row,
    code_length,
    correlate_complexity,
    quoted_measure,
    save_tables,
)
from alit_cli.analysis.studies.complexity_scores import read_scores
from alit_cli.analysis.studies.scored_images import Study, join_scores
from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.pictures.views import VIEWS
from tests.analysis.tables import BUDGETS, info, write_study, write_tokens

CATEGORIES = {"Art": 40, "Objects": 25}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    tokens, scores = write_study(tmp_path, CATEGORIES)
    return join_scores(tokens, read_scores(scores))


def rows_of(result: Complexity) -> dict[tuple[str, str], Row]:
    return {(row.group if row.scope == "group" else row.scope, row.measure): row for row in result.rows}


def test_every_measure_is_correlated_in_every_group(study: Study) -> None:
    result = correlate_complexity(study, thresholds=[0.06, 0.08], resamples=50)
    rows = rows_of(result)
    measures = [
        *(f"l1_{budget}" for budget in BUDGETS),
        *("tokens(l1<0.06)", "tokens(l1<0.08)"),
        *(f"relative_l1_{budget}" for budget in BUDGETS),
        *(f"tokens(relative_l1<{threshold:g})" for threshold in result.relative_thresholds),
        *(f"code_length_{budget}" for budget in BUDGETS),
        *PLAIN_MEASURES,
        *(f"thumbnail_{budget}" for budget in BUDGETS),
    ]
    assert [(row.scope, row.measure) for row in result.rows] == [
        (scope, measure) for scope in ("group", "group", "overall", "raw") for measure in measures
    ]
    art = np.array(study.groups) == "Art"
    row = rows["Art", "l1_4"]
    assert (row.n, row.kind, row.budget) == (40, "l1", 4)
    assert row.pearson == pytest.approx(stats.pearsonr(study.score[art], study.losses[art, 0]).statistic)
    assert row.pearson_low < row.pearson < row.pearson_high
    assert row.mean == pytest.approx(study.losses[art, 0].mean())
    relative = study.losses[art, 2] / study.measures["mad"][art]
    assert rows["Art", "relative_l1_12"].spearman == pytest.approx(
        stats.spearmanr(study.score[art], relative).statistic
    )
    assert np.isnan(rows["Art", "entropy"].pearson)


def test_the_code_length_is_that_of_laplacian_residuals() -> None:
    about = info(BUDGETS, codes=4096)
    levels = np.arange(-3000, 3001)
    for l1 in (0.02, 0.08, 0.2):
        share = np.diff(stats.laplace.cdf(np.append(levels, 3001) - 0.5, scale=255 * l1))  # rounded to 8-bit steps
        entropy = stats.entropy(share, base=2)
        tokens = np.array(BUDGETS) * 12 / about.image_size**2
        found = code_length(np.full((1, len(BUDGETS)), l1), about)
        assert found[0] == pytest.approx(tokens + 3 * entropy, rel=1e-3)
    assert code_length(np.zeros((1, len(BUDGETS))), about)[0] == pytest.approx(tokens)


def test_views_with_scores_of_their_own_do_not_narrow_an_interval(tmp_path: Path) -> None:
    """Ten equal views of each of 30 photographs, each with its score, say no more than the photographs."""
    l1 = np.random.default_rng(0).uniform(0.05, 0.15, (30, 1)) * np.array([1, 0.7, 0.5])
    numbers = [f"{row:02}.jpg" for row in range(30)]
    views = [f"{name}{'#' if view else ''}{view}" for name in numbers for view in VIEWS["ten-crop"]]
    plain = write_tokens(tmp_path / "plain.parquet", l1, numbers)
    crops = write_tokens(tmp_path / "crops.parquet", np.repeat(l1, 10, axis=0), views, views="ten-crop")
    results = []
    for path, names in ((plain, numbers), (crops, views)):
        lines = [f"{name},{name.partition('.')[0]}" for name in names]
        (tmp_path / "s.csv").write_text("\n".join(["image,score", *lines]))
        study = join_scores(path, read_scores(tmp_path / "s.csv"))
        results.append(correlate_complexity(study, thresholds=[0.079], resamples=50))
    for one, ten in zip(results[0].rows, results[1].rows, strict=True):
        assert 10 * one.n == ten.n
        assert (ten.pearson_low, ten.pearson_high) == pytest.approx((one.pearson_low, one.pearson_high))
    pd.testing.assert_frame_equal(results[0].bins, results[1].bins)


def test_the_quoted_measure_is_compared_with_each_plain_one_on_the_same_resamples(study: Study) -> None:
    result = correlate_complexity(study, resamples=400)
    rows = rows_of(result)
    rivals = {one.rival for one in result.differences}
    assert rivals == {"thumbnail_12", "jpeg_bytes", "edge_density", "distinct_colours", "sobel_gradient"}
    for one in result.differences:
        group = one.group if one.scope == "group" else one.scope
        assert one.measure == quoted_measure(study.info) == "code_length_12"
        assert one.difference == pytest.approx(rows[group, one.measure].pearson - rows[group, one.rival].pearson)
        assert one.low <= one.difference <= one.high
    assert {one.group for one in result.differences} == {*CATEGORIES, "overall, pooled within categories"}
    # A thumbnail that is the loss itself, but for a factor, follows as closely in every resample: no width at all.
    same = Study(
        **{**vars(study), "measures": {**study.measures, "thumbnail_12": code_length(study.losses, study.info)[:, 2]}}
    )
    twins = [one for one in correlate_complexity(same, resamples=50).differences if one.rival == "thumbnail_12"]
    assert all(abs(one.high - one.low) < 1e-9 for one in twins)


def test_tokens_needed_are_those_of_the_selection(study: Study) -> None:
    row = rows_of(correlate_complexity(study, thresholds=[0.06], resamples=0))["raw", "tokens(l1<0.06)"]
    below = study.losses < np.float32(0.06)
    need = np.where(below.any(axis=1), np.array(BUDGETS)[below.argmax(axis=1)], BUDGETS[-1])
    assert row.mean == pytest.approx(need.mean())
    assert row.share_largest == pytest.approx((need == 12).mean())
    assert row.spearman == pytest.approx(stats.spearmanr(study.score, need).statistic)


def test_thresholds_from_the_data_make_the_need_spread(study: Study) -> None:
    result = correlate_complexity(study, resamples=0)
    shares = [row.share_largest for row in result.rows if row.kind == "tokens" and row.scope == "raw"]
    assert len(result.thresholds) == 3
    assert all(share is not None and 0 < share < 1 for share in shares[:2])
    assert list(result.thresholds) == sorted(result.thresholds)


def test_scores_scaled_in_each_category_are_not_comparable_across(study: Study) -> None:
    result = correlate_complexity(study, resamples=0)
    assert result.scaled
    assert result.rows[-1].group == "raw, not comparable across categories"


def test_scores_on_one_scale_are_told_from_scaled_ones(study: Study) -> None:
    shifted = Study(**{**vars(study), "score": study.score + 500 * (np.array(study.groups) == "Art")})
    result = correlate_complexity(shifted, resamples=0)
    assert not result.scaled
    assert result.rows[-1].group == "raw, all images"


def test_without_groups_there_is_one(study: Study) -> None:
    result = correlate_complexity(Study(**{**vars(study), "groups": None}), resamples=0)
    assert {(row.group, row.scope) for row in result.rows} == {("all images", "group")}


def test_a_flat_image_has_no_relative_loss(study: Study) -> None:
    mad = np.where(np.arange(65) == 0, 0, study.measures["mad"])
    result = correlate_complexity(Study(**{**vars(study), "measures": {"mad": mad}}), resamples=0)
    assert rows_of(result)["Art", "relative_l1_4"].n == 39
    assert rows_of(result)["Art", "l1_4"].n == 40


def test_two_images_and_early_stops_say_nothing_and_warn_of_nothing(tmp_path: Path) -> None:
    losses = np.array([[0.1, np.nan, np.nan], [0.2, 0.1, np.nan]])
    tokens = write_tokens(tmp_path / "tokens.parquet", losses, ["a", "b"])
    (tmp_path / "s.csv").write_text("image,score\na,1\nb,2\n")
    result = correlate_complexity(join_scores(tokens, read_scores(tmp_path / "s.csv")), resamples=10)
    assert all(np.isnan(row.pearson) for row in result.rows)
    draw_complexity(result, "", tmp_path / "complexity.png")


def test_bins_hold_every_image_once_and_rise_with_the_score(study: Study) -> None:
    bins = correlate_complexity(study, resamples=0).bins
    for (scope, group), own in bins[bins.budget == 4].groupby(["scope", "group"]):
        assert own.images.sum() == (65 if scope == "overall" else CATEGORIES[str(group)])
        assert own.images.max() <= own.images.min() + 2
        assert own.position.is_monotonic_increasing
    pooled = bins[(bins.scope == "overall") & (bins.budget == 12)]
    assert pooled.l1.iloc[-1] > pooled.l1.iloc[0]
    weighted = (pooled.l1 * pooled.images).sum() / pooled.images.sum()
    assert weighted == pytest.approx(float(study.losses[:, 2].mean()))


def test_images_of_one_score_stay_in_one_bin(study: Study) -> None:
    tied = Study(**{**vars(study), "score": np.where(study.score < 50, 1.0, 2.0)})
    bins = correlate_complexity(tied, resamples=0).bins
    assert (bins[bins.scope == "group"].groupby(["group", "budget"]).size() == 2).all()


def test_tables_are_written_whole(study: Study, tmp_path: Path) -> None:
    result = correlate_complexity(study, resamples=20)
    csv, parquet, differences = save_tables(result, tmp_path / "new" / "folder")
    assert len(pd.read_csv(differences)) == len(result.differences)
    left, right = pd.read_csv(csv), pd.read_parquet(parquet)
    assert list(left.columns) == list(right.columns)
    assert list(left.columns) == list(Row.__dataclass_fields__)
    assert len(left) == len(right) == len(result.rows)
    np.testing.assert_allclose(left.pearson, right.pearson, rtol=1e-5)
    assert left.group.tolist() == right.group.tolist()
    names = {"complexity.csv", "complexity.parquet", "complexity_differences.csv"}
    assert names <= {path.name for path in csv.parent.iterdir()}


@pytest.mark.parametrize("categories", [{"all": 30}, {"a": 6, "b": 2}, {f"category {i}": 5 for i in range(15)}])
def test_the_figure_is_a_picture_of_any_number_of_groups(categories: dict[str, int], tmp_path: Path) -> None:
    tokens, scores = write_study(tmp_path, categories)
    result = correlate_complexity(join_scores(tokens, read_scores(scores)), resamples=0)
    draw_complexity(result, "30 images", tmp_path / "complexity.png")
    with Image.open(tmp_path / "complexity.png") as picture:
        assert picture.width > 900
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 50


def test_budgets_have_colours_of_falling_lightness() -> None:
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in budget_colours(range(32, 257, 32)).values()]
    assert all(light - dark > 0.02 for light, dark in itertools.pairwise(lightness))
