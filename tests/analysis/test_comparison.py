"""Several tokenizers on the same images, against a plain loop over rows."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.linalg
from numpy.typing import NDArray
from PIL import Image

from alit_cli.analysis.figures.comparison import draw_comparison
from alit_cli.analysis.query.matched import ALL
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.stats.loss_histogram import EDGES
from alit_cli.analysis.studies.comparison import Point, compare, images_below, save_comparison, thresholds_for
from alit_cli.errors import InputError
from tests.analysis.score_tables import write_scores
from tests.analysis.tokenizers import scored_tables, table
from tests.conftest import Alit


@pytest.fixture
def losses() -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(3)
    hard = generator.uniform(0.02, 0.2, (40, 1)).astype(np.float32)
    adaptive = hard * np.array([[1.5, 1.1, 0.8]], np.float32)
    return {"adaptive": adaptive, "fixed": hard * np.float32(0.9)}


@pytest.fixture
def tables(tmp_path: Path, losses: dict[str, NDArray[np.float32]]) -> list[Tables]:
    names = [f"{row}.jpg" for row in range(40)]
    order = np.random.default_rng(1).permutation(40)
    shuffled = [names[row] for row in order]
    return [
        table(tmp_path, "adaptive", losses["adaptive"], names),
        table(tmp_path, "fixed", losses["fixed"][order], shuffled, codes=1024),
    ]


def test_rows_are_matched_by_image(tables: list[Tables], losses: dict[str, NDArray[np.float32]]) -> None:
    result = compare(tables)
    assert result.names == ("adaptive", "fixed")
    assert result.images == 40
    assert [point.budget for point in result.of("adaptive")] == [4, 8, 12]
    for step, point in enumerate(result.of("adaptive")):
        assert point.l1 == pytest.approx(losses["adaptive"][:, step].mean(), rel=1e-6)
        assert point.bits == 12 * point.tokens
    (fixed,) = result.of("fixed")
    assert fixed.l1 == pytest.approx(losses["fixed"].mean(), rel=1e-6)
    assert fixed.bits == 40  # 4 tokens of 10 bits
    edge = int(np.searchsorted(EDGES, 0.1))
    below = (losses["fixed"][:, 0] < EDGES[edge]).sum()
    assert result.below["fixed"][0, edge] == images_below(result, "fixed", 0, 0.1) == below
    assert result.of("fixed", "need") == []


def test_needs_are_the_cheapest_choice_below(tables: list[Tables], losses: dict[str, NDArray[np.float32]]) -> None:
    choices = [(40.0, 4, losses["fixed"][:, 0])]
    choices += [(12.0 * budget, budget, losses["adaptive"][:, step]) for step, budget in enumerate((4, 8, 12))]
    result = compare(tables)
    for name, own in ((ALL, sorted(choices, key=lambda one: one[0])), ("adaptive", choices[1:])):
        points = result.of(name, "need")
        assert len(points) > 10
        for point in points:
            check_need(point, own)


def check_need(point: Point, choices: list[tuple[float, int, NDArray[np.float32]]]) -> None:
    bits, tokens, l1, satisfied = [], [], [], 0
    for row in range(40):
        good = [choice for choice in choices if choice[2][row] < np.float32(point.threshold)]
        satisfied += bool(good)
        lowest = min(choices, key=lambda choice: float(choice[2][row]))
        chosen = good[0] if good else lowest if point.tokenizer == ALL else choices[-1]
        bits.append(chosen[0])
        tokens.append(chosen[1])
        l1.append(float(chosen[2][row]))
    assert point.bits == pytest.approx(np.mean(bits))
    assert point.tokens == pytest.approx(np.mean(tokens))
    assert point.l1 == pytest.approx(np.mean(l1), rel=1e-6)
    assert point.satisfied == pytest.approx(satisfied / 40)


def test_the_mixture_is_what_one_computes_by_hand(tmp_path: Path) -> None:
    # Bits: fixed 4·10 = 40; adaptive 48, 96, 144. Four images whose choices at each threshold are written out here.
    adaptive = np.array([[0.50, 0.30, 0.10], [0.20, 0.18, 0.16], [0.60, 0.55, 0.52], [0.40, 0.15, 0.12]])
    fixed = np.array([[0.25], [0.22], [0.51], [0.11]])
    psnr = np.array([[10, 20, 30], [11, 21, 31], [12, 22, 32], [13, 23, 33]])
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    for name, own in (("adaptive", psnr), ("fixed", np.full((4, 1), 5.0))):
        budgets, scores = (4, 8, 12)[: own.shape[1]], tmp_path / f"scores-{name}" / "recon.parquet"
        write_scores(scores, names, {"psnr": own}, budgets=budgets, model_id=16 * name[0])
    table(tmp_path, "adaptive", adaptive, names)
    table(tmp_path, "fixed", fixed, names, codes=1024)
    tables = [Tables(tmp_path / f"{name}.parquet", tmp_path / f"scores-{name}") for name in ("adaptive", "fixed")]
    points = {point.threshold: point for point in compare(tables).of(ALL, "need")}
    chosen = {  # bits, l1 and psnr of a, b, c, d
        "below 0.2": ([144, 96, 40, 40], [0.10, 0.18, 0.51, 0.11], [30, 21, 5, 5]),
        "below 0.3": ([40, 40, 40, 40], [0.25, 0.22, 0.51, 0.11], [5, 5, 5, 5]),
    }
    for label, low, high in (("below 0.2", 0.181, 0.2), ("below 0.3", 0.251, 0.5)):
        bits, l1, quality = chosen[label]
        found = [point for threshold, point in points.items() if low < threshold < high]
        assert found, (label, sorted(points))
        for point in found:
            assert point.bits == np.mean(bits)
            assert point.l1 == pytest.approx(np.mean(l1))
            assert point.psnr == pytest.approx(np.mean(quality))
            assert point.satisfied == 0.75  # no choice is good enough for c, which gets the one of its lowest L1


@pytest.fixture
def scored(tmp_path: Path) -> tuple[list[Tables], dict[str, NDArray[Any]]]:
    return scored_tables(tmp_path)


def test_accuracy_and_frechet_distance_are_those_of_their_definitions(
    scored: tuple[list[Tables], dict[str, NDArray[Any]]],
) -> None:
    tables, world = scored
    result = compare(tables)
    assert result.features == "judge"
    for name in ("adaptive", "fixed"):
        features = world[f"{name} features"].astype(np.float64)
        for step, point in enumerate(result.of(name)):
            assert point.accuracy == (world[f"{name} rank"][:, step] == 1).mean()
            assert point.frechet == pytest.approx(by_scipy(features[:, -1], features[:, step]), rel=1e-6)
    assert not any("wants more images" in remark for remark in result.remarks)
    for point in result.of(ALL, "need"):
        right = 0
        for row in range(30):
            choices = [(world["fixed l1"][row, 0], world["fixed rank"][row, 0])]
            choices += list(zip(world["adaptive l1"][row], world["adaptive rank"][row], strict=False))
            good = [rank for l1, rank in choices if l1 < np.float32(point.threshold)]
            right += (good[0] if good else min(choices)[1]) == 1
        assert point.accuracy == pytest.approx(right / 30)


def by_scipy(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Heusel et al.'s formula, with the matrix root itself."""
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + other - 2 * root))


def test_numbers_of_different_networks_are_not_compared(scored: tuple[list[Tables], dict[str, NDArray[Any]]]) -> None:
    tables, _ = scored
    folder = tables[1].path.parent / "scores" / "fixed"
    for task in ("classify", "features"):
        (folder / f"{task}@judge.parquet").rename(folder / f"{task}@second.parquet")
    result = compare([tables[0], Tables(tables[1].path, folder)])
    assert all(math.isnan(point.accuracy) and math.isnan(point.frechet) for point in result.points)
    assert any("there is no accuracy" in remark for remark in result.remarks)
    assert any("there is no Fréchet distance" in remark for remark in result.remarks)


def test_partial_scores_count_the_same_images_in_every_table(
    scored: tuple[list[Tables], dict[str, NDArray[Any]]],
) -> None:
    tables, world = scored
    folder = tables[1].path.parent / "scores" / "fixed"
    for task in ("classify", "features"):
        path = folder / f"{task}@judge.parquet"
        pq.write_table(pq.read_table(path).slice(0, 12), path)
    images = pq.read_table(folder / "classify@judge.parquet")["image"].to_pylist()
    rows = [int(name.removesuffix(".jpg")) for name in images]
    result = compare([tables[0], Tables(tables[1].path, folder)])
    for name in ("adaptive", "fixed"):
        for step, point in enumerate(result.of(name)):
            assert point.accuracy == (world[f"{name} rank"][rows, step] == 1).mean()
    assert any("are of 12 images in one table and of 30 in another" in remark for remark in result.remarks)
    assert result.features == ""


def test_images_of_one_table_only_are_left_out_and_that_is_said(
    tmp_path: Path, losses: dict[str, NDArray[np.float32]]
) -> None:
    names = [f"{row}.jpg" for row in range(40)]
    few = table(tmp_path, "few", losses["fixed"][:30], names[:30])
    result = compare([table(tmp_path, "many", losses["adaptive"], names), few])
    assert result.images == 30
    assert result.of("many")[0].l1 == pytest.approx(losses["adaptive"][:30, 0].mean(), rel=1e-6)
    assert any("10 of the 40 images" in remark for remark in result.remarks)


def test_what_cannot_be_compared_is_refused(tmp_path: Path, losses: dict[str, NDArray[np.float32]]) -> None:
    names = [f"{row}.jpg" for row in range(40)]
    one = table(tmp_path, "one", losses["adaptive"], names)
    padded = table(tmp_path, "padded", losses["fixed"], names, fit="pad")
    others = table(tmp_path, "others", losses["fixed"], [f"other/{name}.png" for name in names])
    stopped = table(tmp_path, "stopped", losses["fixed"], names)
    stopped.info = dataclasses.replace(
        stopped.info, options=dataclasses.replace(stopped.info.options, stop=0.1)
    )  # fmt: skip
    for tables, sentence in (
        ([one], "two token tables"),
        ([one, padded], "--fit pad"),
        ([one, others], "no image in common"),
        ([one, stopped], "without --stop"),
        ([one, one], "--names"),
    ):
        with pytest.raises(InputError, match=sentence):
            compare(tables)
    with pytest.raises(InputError, match="2 names for 3 tables"):
        compare([one, one, one], ["a", "b"])
    assert compare([one, one], ["a", "b"]).names == ("a", "b")


def test_sizes_that_differ_are_said(tmp_path: Path, losses: dict[str, NDArray[np.float32]]) -> None:
    names = [f"{row}.jpg" for row in range(40)]
    large = table(tmp_path, "large", losses["fixed"], names, image_size=256)
    result = compare([table(tmp_path, "small", losses["adaptive"], names), large])
    assert any("different sizes" in remark for remark in result.remarks)
    assert result.of("large")[0].bits_per_pixel == pytest.approx(48 / 256**2)


def test_tables_and_figure_are_written(tmp_path: Path, tables: list[Tables]) -> None:
    result = compare(tables)
    paths = save_comparison(result, tmp_path)
    assert [path.name for path in paths] == ["comparison.csv", "comparison.parquet", "comparison_below.csv"]
    assert pq.read_table(paths[1]).num_rows == len(result.points)
    assert all(0 < threshold < 1 for threshold in thresholds_for(result))
    draw_comparison(result, "40 images", tmp_path / "comparison.png")
    with Image.open(tmp_path / "comparison.png") as figure:
        assert min(figure.size) > 500
    assert math.isnan(result.points[0].frechet)


def test_the_command_compares_several_tables(
    alit: Alit, tmp_path: Path, losses: dict[str, NDArray[np.float32]], tables: list[Tables]
) -> None:
    paths = [table.path for table in tables]
    result = alit("analyze", "quality", *paths, "--names", "ours,theirs", "--out", tmp_path / "study", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["images"] == 40
    assert {point["tokenizer"] for point in said["points"]} == {"ours", "theirs", ALL}
    for name in ("comparison.csv", "comparison.parquet", "comparison_below.csv", "comparison.png"):
        assert (tmp_path / "study" / name).exists()
    printed = alit("analyze", "quality", *paths, "--out", tmp_path / "study").stdout
    assert "each image by its own need" in printed
    refused = alit("analyze", "quality", *paths, "--names", "one", "--out", tmp_path / "study")
    assert refused.exit_code == 2
    assert "1 names for 2 tables" in " ".join(refused.stderr.split())
