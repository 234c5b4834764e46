"""Capacity tables say what plain arithmetic says about each choice of budgets."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alit_cli.analysis.query.criteria import Comparison, holds
from alit_cli.analysis.query.groups import group_images
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.sweep import read_allocations, read_outcomes, read_sweeps, shortest_threshold
from alit_cli.analysis.studies.capacity import Capacity, measure_capacity, save_tables
from alit_cli.errors import InputError
from tests.analysis.score_tables import frechet_distance, write_scores, write_world
from tests.analysis.tables import BUDGETS, write_equal_views, write_tokens


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("world")
    return folder / "tokens.parquet", write_world(folder)


def measure(path: Path, tsc: str, toi: str, by: str | None = None, **options: Any) -> tuple[Capacity, pd.DataFrame]:
    tables = Tables(path, path.parent / "scores")
    outcomes = read_outcomes(tables, toi.split(","))
    lines = read_sweeps(tables, tsc.split(","), options.pop("thresholds", None), options.pop("points", 6))
    result = measure_capacity(
        tables, lines, outcomes, group_images(tables, by) if by else None, options.pop("resamples", 100), **options
    )
    return result, pd.DataFrame(result.points)


def test_every_point_is_what_one_would_compute_by_hand(world: tuple[Path, dict[str, Any]]) -> None:
    path, numbers = world
    result, table = measure(path, "recon,l1<0.1 and class_rank<=2", "classify,recon,depth,features", by="folder")
    l1, rank = numbers["l1"][:59].astype(np.float32), numbers["class_rank"][:59]
    folders = np.array(["art" if row % 3 else "photo" for row in range(59)])
    for point in result.points:
        if point.line == "originals":
            continue
        met: Any
        rows = np.flatnonzero(folders == point.group) if point.group != "all images" else np.arange(59)
        if point.line == "uniform":
            met = np.tile(np.asarray(BUDGETS) == int(point.criterion), (59, 1))
        elif point.line == "recon":
            met = l1 < np.float32(point.threshold or 0)
        else:
            met = (l1 < np.float32(0.1)) & (rank[:, :3] <= 2)
        step = np.where(met.any(axis=1), met.argmax(axis=1), 2)[rows]
        assert point.n == len(rows)
        assert point.capacity == pytest.approx(np.asarray(BUDGETS)[step].mean() / 12)
        assert point.unsatisfied == pytest.approx(1 - met.any(axis=1)[rows].mean())
        expected = {
            "top1": (rank[rows, step] <= 1).mean(),
            "top5": (rank[rows, step] <= 5).mean(),
            "l1": l1[rows, step].mean(dtype=np.float64),
            "depth_error": numbers["depth_error"][rows, step].mean(),
        }
        if point.outcome != "frechet":
            assert point.value == pytest.approx(expected[point.outcome], rel=1e-6)
            assert point.low <= point.value <= point.high
        elif point.group == "all images":
            features = numbers["features"][:59]
            assert point.value == pytest.approx(frechet_distance(features[:, 3], features[rows, step]), rel=1e-9)
            assert point.low < point.value < point.high
        else:
            assert math.isnan(point.value)
    originals = table[(table.line == "originals") & (table.group == "all images")].set_index("outcome")
    assert originals.value.to_dict() == pytest.approx(
        {"top1": (rank[:, 3] <= 1).mean(), "top5": (rank[:, 3] <= 5).mean()}
    )


def test_pictures_of_another_codec_are_a_line_without_tokens(tmp_path: Path) -> None:
    known = np.isfinite(write_world(tmp_path)["l1"][:, :1])
    names = pd.read_parquet(tmp_path / "tokens.parquet")["image"].tolist()
    losses = np.where(known, np.arange(len(names), dtype=float)[:, None], np.nan)
    write_scores(tmp_path / "scores" / "recon-of-bpg.parquet", names, {"l1": losses}, codec="bpg")
    result, _ = measure(tmp_path / "tokens.parquet", "recon", "recon,classify")
    (point,) = [point for point in result.points if point.line == "pictures of bpg"]
    assert (point.outcome, point.known) == ("l1", known.sum())
    assert point.value == pytest.approx(losses[known].mean())
    assert math.isnan(point.capacity)
    assert point.low < point.value < point.high
    assert "pictures of bpg" not in {near.line for near in result.nearly}


def test_chosen_thresholds_spread_over_the_capacity(world: tuple[Path, dict[str, Any]]) -> None:
    _, table = measure(world[0], "recon,depth", "recon", points=8, resamples=0)
    for line in ("recon", "depth"):
        spent = table[table.line == line].capacity.to_numpy()
        assert len(spent) == 8
        assert (np.diff(spent) > 0).all()
        assert spent[0] < 0.36 and spent[-1] > 0.99
        assert np.diff(spent).max() < 0.2
    assert table.low.isna().all()


def test_the_nearest_to_the_best_is_the_cheapest_within_one_percent(world: tuple[Path, dict[str, Any]]) -> None:
    result, table = measure(world[0], "recon,classify", "classify,recon", resamples=0)
    assert {(near.outcome, near.line) for near in result.nearly} == {
        (outcome, line) for outcome in ("top1", "top5", "l1") for line in ("recon", "classify", "uniform")
    }
    for near in result.nearly:
        some = table[(table.outcome == near.outcome) & (table.line != "originals")]
        best = some.value.min() if near.outcome == "l1" else some.value.max()
        assert near.best == best
        close = some[(some.line == near.line) & ((some.value - best).abs() <= 0.01 * best)]
        if near.criterion == "never":
            assert close.empty and math.isnan(near.capacity)
        else:
            assert near.capacity == close.capacity.min()
    by_line = {near.line: near.capacity for near in result.nearly if near.outcome == "top1"}
    assert by_line["classify"] < by_line["uniform"]


def test_thresholds_as_given_and_points_of_one_column_are_lines(world: tuple[Path, dict[str, Any]]) -> None:
    _, table = measure(world[0], "recon", "class_rank", thresholds=(0.05, 0.1), resamples=0)
    assert table[table.line == "recon"].criterion.tolist() == ["l1<0.1", "l1<0.05"]
    _, table = measure(world[0], "l1<0.05,l1<0.1,class_rank<=2", "l1<0.08", resamples=0)
    assert table.groupby("line").criterion.count().to_dict() == {"l1<": 2, "class_rank<=": 1, "uniform": 3}


def test_tables_are_saved_in_full(world: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    result, table = measure(world[0], "recon", "classify", resamples=10)
    paths = save_tables(result, tmp_path / "study")
    assert [path.name for path in paths] == [
        *("capacity.csv", "capacity_nearly.csv", "capacity_differences.csv", "capacity.parquet")
    ]
    pd.testing.assert_frame_equal(pd.read_parquet(paths[3]), table, check_dtype=False)
    assert len(pd.read_csv(paths[0])) == len(table)


@pytest.mark.parametrize(
    ("tsc", "toi", "options", "sentence"),
    [
        ("recon,depth", "recon", {"thresholds": (0.1,)}, "--thr goes with one --tsc"),
        ("recon", "ssim", {}, "alit score .* --task recon"),
        ("recon", "label", {}, "the same at every budget"),
        ("recon", "l1<0.1 and class_rank<=2", {}, "no outcome"),
        ("recon", "l1 << 3", {}, "cannot be read"),
    ],
)
def test_what_cannot_be_answered_is_said(
    tsc: str, toi: str, options: dict[str, Any], sentence: str, world: tuple[Path, dict[str, Any]]
) -> None:
    with pytest.raises(InputError, match=sentence):
        measure(world[0], tsc, toi, **options)


def test_a_table_that_stopped_early_has_no_capacity_curve(tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "tokens.parquet", np.full((4, 3), 0.09), stop=0.1)
    (tmp_path / "scores").mkdir()
    with pytest.raises(InputError, match="stopped each image"):
        measure(path, "l1<0.2", "recon")


def test_any_top_of_any_network_is_an_outcome(world: tuple[Path, dict[str, Any]]) -> None:
    path, numbers = world
    result, table = measure(path, "recon", "top3@resnet-18", resamples=0)
    assert [(one.name, one.label) for one in result.outcomes] == [("top3@resnet-18", "top-3 accuracy of resnet-18")]
    uniform = table[table.line == "uniform"].value.to_list()
    assert uniform == pytest.approx([(numbers["class_rank"][:59, step] <= 3).mean() for step in range(3)])


def test_lines_are_compared_with_one_budget_for_all_at_equal_tokens_image_by_image(
    world: tuple[Path, dict[str, Any]],
) -> None:
    path, numbers = world
    result, _ = measure(path, "recon", "recon,classify", resamples=400, points=8)
    l1 = numbers["l1"][:59].astype(np.float32).astype(np.float64)
    compared = [one for one in result.differences if one.outcome == "l1" and one.against == "uniform"]
    assert len(compared) >= 6
    for one in compared:
        met = numbers["l1"][:59].astype(np.float32) < np.float32(one.threshold or 0)
        step = np.where(met.any(axis=1), met.argmax(axis=1), 2)
        tokens = np.asarray(BUDGETS)[step].mean()
        mixture = [np.interp(tokens, BUDGETS, row) for row in l1]
        assert one.value == pytest.approx(l1[np.arange(59), step].mean())
        assert one.against_value == pytest.approx(np.mean(mixture))
        assert one.low <= one.difference <= one.high
        # Paired: far narrower than the two intervals side by side.
        point = next(p for p in result.points if (p.outcome, p.criterion) == ("l1", one.criterion))
        assert one.high - one.low < 0.7 * (point.high - point.low)


def test_views_of_one_photograph_are_resampled_together(tmp_path: Path) -> None:
    """Ten equal views of each of 30 photographs say no more than one: the intervals are as wide as for 30 images."""
    (tmp_path / "scores").mkdir()
    widths = []
    for path in write_equal_views(tmp_path):
        result, table = measure(path, "recon", "recon", resamples=1000, points=3, thresholds=(0.08,))
        widths.append((table.high - table.low)[table.line == "uniform"].to_numpy())
    assert result.photographs == 30
    np.testing.assert_allclose(widths[1], widths[0], rtol=0.15)


def test_a_threshold_has_as_few_digits_as_separate_the_images() -> None:
    known = np.array([0.0123456, 0.35835204, 0.3583599], np.float32).astype(np.float64)
    assert shortest_threshold(float(known[1]), known, "<") == 0.3583
    assert shortest_threshold(float(known[2]), known, "<") == 0.358359
    assert shortest_threshold(float(known[1]), known, "<=") == 0.358353
    for operator in ("<", "<=", ">", ">="):
        for value in known:
            short = shortest_threshold(float(value), known, operator)
            criterion = Comparison("l1", operator, short)
            exact = Comparison("l1", operator, float(value))
            met, expected = (holds(one, lambda _name: known.astype(np.float32)) for one in (criterion, exact))
            assert met.tolist() == expected.tolist()
            assert len(str(short)) <= 11


def test_the_best_allocation_is_a_line_that_none_lies_below(world: tuple[Path, dict[str, Any]]) -> None:
    tables = Tables(world[0], world[0].parent / "scores")
    outcomes, sweeps = read_outcomes(tables, ["recon"]), read_sweeps(tables, ["recon"], None, 8)
    result = measure_capacity(
        tables, sweeps, outcomes, resamples=0, allocations=read_allocations(tables, ["recon"]), full_tokens=24
    )
    optimal = [point for point in result.points if point.line == "optimal recon"]
    assert [point.criterion for point in optimal] == ["8 on average"]
    assert optimal[0].capacity <= 8 / 24 < optimal[0].capacity + 0.01
    others = [one for one in result.differences if one.against == "optimal recon"]
    assert all(one.difference > -1e-9 for one in others)
    against = {one.against: one.difference for one in result.differences if one.line == "optimal recon"}
    assert against["uniform"] < 0 and against["recon"] < 0
