"""Capacity of several tokenizers: each over the shared images alone, and the mixture against a plain loop over rows."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from alit_cli.analysis.query.matched import ALL, match_tables
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.studies.capacity_compared import ComparedCapacity, TokenizerPoint, compare_capacity
from alit_cli.analysis.studies.capacity_options import CapacityOptions
from alit_cli.errors import InputError
from tests.analysis.score_tables import frechet_distance
from tests.analysis.tokenizers import scored_tables, table
from tests.conftest import Alit

World = tuple[list[Tables], dict[str, NDArray[Any]]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return scored_tables(tmp_path)


def compared(tables: list[Tables], **options: Any) -> ComparedCapacity:
    asked: dict[str, Any] = {
        "tsc": ("recon",),
        "toi": ("recon", "top1", "features"),
        "points": 6,
        "bootstrap": 50,
    } | options
    return compare_capacity(match_tables(tables), CapacityOptions(**asked))


def test_points_of_each_tokenizer_are_those_of_its_own_choices(world: World) -> None:
    tables, numbers = world
    result = compared(tables)
    assert {point.line for point in result.points if point.tokenizer == "fixed"} == {"uniform", "originals"}
    assert len({point.criterion for point in result.points if point.tokenizer == "adaptive"}) >= 8
    for point in result.points:
        if point.tokenizer == ALL:
            continue
        l1, rank, features = (numbers[f"{point.tokenizer} {name}"] for name in ("l1", "rank", "features"))
        if point.line == "originals":
            if point.outcome == "top1":
                assert point.value == (rank[:, -1] == 1).mean()
            continue
        if point.line == "uniform":
            step = np.full(30, (4, 8, 12).index(int(point.criterion)))
        else:
            met = l1 < np.float32(point.threshold or 0)
            step = np.where(met.any(axis=1), met.argmax(axis=1), 2)
        rows = np.arange(30)
        assert point.mean_tokens == pytest.approx(4 * (step + 1).mean())
        assert point.bits == pytest.approx(point.mean_tokens * (10 if point.tokenizer == "fixed" else 12))
        assert point.capacity == pytest.approx(point.mean_tokens / 12)
        expected = {
            "l1": l1[rows, step].mean(dtype=np.float64),
            "top1": (rank[rows, step] == 1).mean(),
            "frechet": frechet_distance(features[:, -1], features[rows, step]),
        }
        assert point.value == pytest.approx(expected[point.outcome], rel=1e-5)


def test_the_mixture_takes_the_fewest_bits_that_meet_the_criterion(world: World) -> None:
    tables, numbers = world
    for criterion in ("recon", "l1<0.1 and class_rank<=2"):
        result = compared(tables, tsc=(criterion,), toi=("recon", "top1"))
        points = [point for point in result.points if point.tokenizer == ALL]
        assert {point.outcome for point in points} == {"l1", "top1"}
        for point in points:
            check_mixture(point, numbers)


def check_mixture(point: TokenizerPoint, numbers: dict[str, NDArray[Any]]) -> None:
    bits, tokens, values, satisfied = [], [], [], 0
    for row in range(30):
        choices = []
        for name, cost in (("fixed", 10), ("adaptive", 12)):
            for step, l1 in enumerate(numbers[f"{name} l1"][row]):
                choices.append((4 * (step + 1) * cost, 4 * (step + 1), l1, numbers[f"{name} rank"][row, step]))
        choices.sort(key=lambda one: one[0])
        single = point.threshold is not None
        limit = np.float32(point.threshold) if single else np.float32(0.1)
        good = [one for one in choices if one[2] < limit and (single or one[3] <= 2)]
        # The best by L1 where one L1 was asked for, else the one of the most bits.
        chosen = good[0] if good else min(choices, key=lambda one: one[2]) if single else choices[-1]
        satisfied += bool(good)
        bits.append(chosen[0])
        tokens.append(chosen[1])
        values.append(chosen[2] if point.outcome == "l1" else chosen[3] == 1)
    assert point.bits == pytest.approx(np.mean(bits))
    assert point.mean_tokens == pytest.approx(np.mean(tokens))
    assert point.value == pytest.approx(np.mean(values), rel=1e-5)
    assert point.unsatisfied == pytest.approx(1 - satisfied / 30)
    assert math.isnan(point.low)


def test_images_of_one_table_only_do_not_count(tmp_path: Path) -> None:
    names = [f"{row}.jpg" for row in range(20)]
    losses = np.random.default_rng(2).uniform(0.02, 0.2, (20, 3))
    losses[3, 1] = np.nan  # an image without an L1 is in no comparison
    many = table(tmp_path, "many", losses, names)
    few = table(tmp_path, "few", losses[:12], names[:12])
    result = compared([many, few], toi=("recon",))
    kept = [row for row in range(12) if row != 3]
    assert result.images == 11
    assert any("8 of the 19 images of" in remark for remark in result.remarks)
    for name in ("many", "few"):
        uniform = [one for one in result.points if one.tokenizer == name and one.line == "uniform"]
        assert [one.value for one in uniform] == pytest.approx(losses[kept].mean(axis=0), rel=1e-6)
        assert {one.n for one in uniform} == {11}


def test_scores_of_different_networks_are_refused(world: World) -> None:
    tables, _ = world
    folder = tables[1].path.parent / "scores" / "fixed"
    (folder / "classify@judge.parquet").rename(folder / "classify@second.parquet")
    with pytest.raises(InputError, match=r"is of judge in .* and of second in"):
        compared([tables[0], Tables(tables[1].path, folder)])


def test_the_command_prints_one_table_and_draws_one_figure(alit: Alit, tmp_path: Path, world: World) -> None:
    paths = [table.path for table in world[0]]
    line = ("analyze", "capacity", *paths, "--toi", "recon,top1", "--bootstrap", "20", "--out", tmp_path / "study")
    result = alit(*line, "--names", "ours,theirs")
    assert result.exit_code == 0, result.output
    assert "30 images: outcomes" in result.stdout
    written = pd.read_csv(tmp_path / "study" / "capacity_compared.csv")
    assert set(written.tokenizer) == {"ours", "theirs", ALL}
    assert len(written) == len(pd.read_parquet(tmp_path / "study" / "capacity_compared.parquet"))
    with Image.open(tmp_path / "study" / "capacity_compared.png") as figure:
        assert min(figure.size) > 500
    said = json.loads(alit(*line, "--json").stdout)
    assert said["images"] == 30
    assert len(said["points"]) == len(written)
    for sentence, *more in (
        ("1 names for 2 tables", "--names", "one"),
        ("belongs to one token table", "--table", paths[0]),
    ):
        refused = alit(*line, *more)
        assert refused.exit_code == 2
        assert sentence in " ".join(refused.stderr.split())
