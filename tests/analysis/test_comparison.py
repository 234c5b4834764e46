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
from numpy.typing import NDArray
from PIL import Image

from alit_cli.analysis.figures.comparison import draw_comparison
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.stats.loss_histogram import EDGES
from alit_cli.analysis.studies.comparison import ALL, Point, compare, images_below, save_comparison, thresholds_for
from alit_cli.data.tables.parquet import KEY
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError
from tests.analysis.tables import write_tokens
from tests.conftest import Alit


def table(folder: Path, name: str, losses: NDArray[Any], images: list[str], **changes: Any) -> Tables:
    """A token table of a model of this name."""
    path = folder / f"{name}.parquet"
    write_tokens(path, losses, images)
    described = dataclasses.replace(read_info(path), model=name, model_sha256=name[0] * 64, **changes)
    rows = pq.read_table(path)
    pq.write_table(rows.replace_schema_metadata({KEY: described.to_json().encode()}), path)
    return Tables(path, with_scores=False)


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
