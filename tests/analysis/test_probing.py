"""Linear probes on planted vectors, and labels from files and folders."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from alit_cli.analysis.probe.figure import draw_probe
from alit_cli.analysis.probe.probing import (
    PIXELS,
    POOLS,
    Accuracy,
    Feature,
    check_probe,
    features_of,
    probe,
    save_probe,
)
from alit_cli.data.tables.pooled import Pooled, raw_pixels
from alit_cli.errors import InputError

LABELS = ["cat", "dog", "owl"] * 12


@pytest.fixture(scope="module")
def found() -> list[Accuracy]:
    """Probes on noise (in the place of raw pixels), on vectors that also hold the class, twice, and on noise again."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((36, 6)).astype(np.float32)
    telling = noise.copy()
    telling[:, :3] += 1000 * np.eye(3)[[LABELS.index(label) for label in LABELS]]
    features = [Feature(PIXELS, None, None, noise), *(Feature(pool, 0, 8, telling) for pool in ("latents", "both"))]
    features.append(Feature("latents", 1, 16, noise))
    return [record.accuracy for record in probe(features, LABELS, folds=4) if record.accuracy]


def test_a_probe_finds_planted_classes_and_nothing_in_noise(found: list[Accuracy]) -> None:
    noise, telling, same, again = found
    assert telling.accuracy == 1
    assert same.accuracy == telling.accuracy
    assert telling.chance == pytest.approx(1 / 3)
    assert noise.low < 1 / 3 < noise.high
    assert telling.above_pixels == pytest.approx(1 - noise.accuracy)
    assert telling.above_low > 0
    assert (again.above_pixels, again.above_low, again.above_high) == (0, 0, 0)  # the same folds for all
    assert all(row.converged and len(row.penalties) == 4 and row.images == 36 for row in found)
    assert (telling.high, telling.low) == pytest.approx((1, 36 / (36 + 1.96**2)), abs=1e-3)  # Wilson's


def test_table_and_figure_of_a_probe(found: list[Accuracy], tmp_path: Path) -> None:
    csv, parquet = save_probe(found, tmp_path)
    lines = csv.read_text().splitlines()
    assert lines[0].startswith("pool,iteration,tokens,dimensions,images,accuracy,low,high,chance,above_pixels")
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["pixels", "", ""],
        ["latents", "0", "8"],
        ["both", "0", "8"],
        ["latents", "1", "16"],
    ]
    assert parquet.stat().st_size > 0
    draw_probe(found, 8, "a source", tmp_path / "probe.svg")
    drawn = (tmp_path / "probe.svg").read_text()
    assert "raw pixels (6 numbers)" in drawn
    assert "a source" in drawn


def test_features_are_every_pool_at_every_iteration() -> None:
    rng = np.random.default_rng(0)
    images = []
    for name in "ab":
        latents, first, grid = rng.random((3, 2, 5), np.float32)
        images.append(Pooled(name, (0, 3), (8, 32), latents, first, grid, np.zeros(768, np.float32), 16))
    features = features_of(images, POOLS)
    assert [(feature.pool, feature.tokens) for feature in features] == [
        (PIXELS, None),
        *((pool, tokens) for pool in POOLS for tokens in (8, 32)),
    ]
    both, together = features[-3].values, features[-1].values
    np.testing.assert_allclose(together[1], (32 * images[1].latents[1] + 16 * images[1].grid[1]) / 48, rtol=1e-6)
    assert (both[1] == np.concatenate([images[1].latents[1], images[1].grid[1]])).all()


def test_raw_pixels_are_means_of_boxes() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:2, :2, 1] = 255
    found = raw_pixels(pixels).reshape(16, 16, 3)
    assert found[0, 0].tolist() == [0, 1, 0]
    assert found.sum() == 1


@pytest.mark.parametrize(
    ("labels", "folds", "sentence"),
    [
        (["a"] * 9, 3, "only 1"),
        (["a"] * 9 + ["b"] * 4, 5, "'b' has 4 images, fewer than the 5 folds"),
        (["a"] * 9 + ["b"] * 3, 2, "'b' has 3 images: too few"),
    ],
)
def test_too_few_images_are_said(labels: list[str], folds: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_probe(labels, folds)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(InputError, match=r"pip install 'alit\[tasks\]'"):
        check_probe(LABELS, 4)
