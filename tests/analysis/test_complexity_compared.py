"""Complexity by several tokenizers: the correlations of each over the shared images, and the needs of all in bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from alit_cli.analysis.query.matched import ALL, match_tables
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.studies.complexity_compared import ComparedComplexity, compare_complexity
from alit_cli.analysis.studies.complexity_scores import read_scores
from tests.analysis.tokenizers import table
from tests.conftest import Alit, Refused

World = tuple[list[Tables], Path, dict[str, NDArray[Any]]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Tables of 40 and of 36 images, and the scores of 38; what was written, in the order of the names."""
    generator = np.random.default_rng(8)
    score = np.arange(40.0)
    hard = 0.04 + 0.1 * (score / 40 + generator.uniform(size=40)) / 2
    numbers = {
        "score": score,
        "adaptive": (hard[:, None] * [1.4, 1.1, 0.8]).astype(np.float32),
        "fixed": (hard * generator.uniform(0.6, 1.4, 40))[:, None].astype(np.float32),
    }
    names = [f"pictures/{row}.jpg" for row in range(40)]
    order = generator.permutation(36)
    tables = [
        table(tmp_path, "adaptive", numbers["adaptive"], names),
        table(tmp_path, "fixed", numbers["fixed"][order], [names[row] for row in order], codes=1024),
    ]
    scores = tmp_path / "scores.csv"
    # Names are found by their endings, as they are for one table.
    scores.write_text("\n".join(["image,score", *(f"{row}.jpg,{score[row]}" for row in range(2, 40))]))
    return tables, scores, numbers


def compared(world: World, **options: Any) -> ComparedComplexity:
    return compare_complexity(match_tables(world[0]), read_scores(world[1]), resamples=20, **options)


def test_every_tokenizer_is_correlated_over_the_same_images(world: World) -> None:
    result, numbers, rows = compared(world), world[2], np.arange(2, 36)
    assert len(result.study.score) == 34
    for name, bits_per_token in (("adaptive", 12), ("fixed", 10)):
        losses = result.of(name, "l1")
        for step, row in enumerate(losses):
            l1 = numbers[name][rows, step].astype(np.float64)
            assert (row.n, row.tokens, row.bits) == (34, 4 * step + 4, (4 * step + 4) * bits_per_token)
            assert row.mean == pytest.approx(l1.mean())
            assert row.pearson == pytest.approx(stats.pearsonr(numbers["score"][rows], l1).statistic)
            assert row.pearson_low < row.pearson < row.pearson_high
        assert [row.budget for row in result.of(name, "code length")] == [row.budget for row in losses]
    assert result.of("fixed", "tokens") == []


def test_needs_of_all_are_the_fewest_bits_of_any_tokenizer(world: World) -> None:
    numbers, rows = world[2], range(2, 36)
    result = compared(world, thresholds=(0.07, 0.09))
    assert [row.threshold for row in result.of(ALL, "tokens")] == [0.07, 0.09]
    for row in result.of(ALL, "tokens"):
        needs = []
        for image in rows:
            choices = [(40, numbers["fixed"][image, 0])]
            choices += zip((48, 96, 144), numbers["adaptive"][image], strict=True)
            good = [bits for bits, l1 in choices if l1 < np.float32(row.threshold or 0)]
            needs.append(min(good, default=144))
        assert len(set(needs)) > 1
        assert row.tokens is None
        assert row.bits == pytest.approx(np.mean(needs))
        assert row.pearson == pytest.approx(stats.pearsonr(numbers["score"][2:36], needs).statistic)
    for row in result.of("adaptive", "tokens"):
        below = numbers["adaptive"][2:36] < np.float32(row.threshold or 0)
        need = np.where(below.any(axis=1), 4 * below.argmax(axis=1) + 4, 12)
        assert row.tokens == pytest.approx(need.mean())
        assert row.bits == pytest.approx(12 * need.mean())


def test_tokenizers_of_equal_bits_are_one_need(world: World, tmp_path: Path) -> None:
    adaptive, *_ = world[0]
    numbers = world[2]["adaptive"][:, ::-1]
    twin = table(tmp_path, "twin", numbers, [f"pictures/{row}.jpg" for row in range(40)])
    result = compared(([adaptive, twin], *world[1:]), thresholds=(0.08,))
    (row,) = result.of(ALL, "tokens")
    best = np.minimum(world[2]["adaptive"], numbers)[2:] < np.float32(0.08)
    need = np.where(best.any(axis=1), 48 * best.argmax(axis=1) + 48, 144)
    assert row.bits == pytest.approx(need.mean())


def test_the_command_prints_one_table_and_draws_one_figure(alit: Alit, tmp_path: Path, world: World) -> None:
    tables, scores, _ = world
    paths = [table.path for table in tables]
    line = ("analyze", "complexity", scores, *paths, "--bootstrap", "20", "--out", tmp_path / "study")
    result = alit(*line, "--names", "ours,theirs")
    assert result.exit_code == 0, result.output
    assert "34 images: correlation with the score" in result.stdout
    said = " ".join(result.stderr.split())
    assert "4 of the 40 images of" in said
    assert "34 of 38 scores belong to one of the table's 36 images" in said
    written = pd.read_csv(tmp_path / "study" / "complexity_compared.csv")
    assert set(written.tokenizer) == {"ours", "theirs", ALL}
    assert len(written) == len(pd.read_parquet(tmp_path / "study" / "complexity_compared.parquet"))
    with Image.open(tmp_path / "study" / "complexity_compared.png") as figure:
        assert min(figure.size) > 500
    found = json.loads(alit(*line, "--json").stdout)
    assert found["matched"] == 34
    assert len(found["rows"]) == len(written)


def test_tables_that_cannot_be_compared_are_refused(refused: Refused, tmp_path: Path, world: World) -> None:
    tables, scores, numbers = world
    names = [f"pictures/{row}.jpg" for row in range(40)]
    padded = table(tmp_path, "padded", numbers["fixed"], names, fit="pad").path
    others = table(tmp_path, "others", numbers["fixed"], [f"else/{name}.png" for name in names]).path
    first = tables[0].path
    refused("--fit pad", "analyze", "complexity", scores, first, padded)
    refused("no image in common", "analyze", "complexity", scores, first, others)
    refused("two token tables", "analyze", "complexity", scores, first, "--names", "one")
