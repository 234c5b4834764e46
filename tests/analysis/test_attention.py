"""What is said of attention maps: sparsity, stability, sameness, and the tables and pictures of a whole study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from alit_cli.analysis.answers.questions import AttentionQuestion
from alit_cli.analysis.attention.binding import Keep, segments
from alit_cli.analysis.attention.sheets import narrowest, segment_marks
from alit_cli.analysis.attention.sparsity import Sameness, correlations, entropy, spreads, top_share
from alit_cli.analysis.attention.study import AttentionStudy, match_masks
from alit_cli.data.annotations.masks import Masks
from alit_cli.data.sources.listing import list_items
from alit_cli.data.tables.token_maps import TokenMaps
from alit_cli.errors import InputError


def token_maps(image: str, *maps: object, side: int = 8) -> TokenMaps:
    """An image with these maps, one iteration each."""
    arrays = tuple(np.array(values, np.float32) for values in maps)
    pixels = np.zeros((side, side, 3), np.uint8)
    return TokenMaps(image, side, side, pixels, tuple(range(len(arrays))), arrays, (), len(arrays[0]))


def test_even_and_pointed_maps_are_the_ends_of_the_scale() -> None:
    even, point = np.full(25, 1 / 25), np.eye(25)[3]
    shares = np.stack([even, point])
    assert entropy(shares) == pytest.approx([1, 0])
    assert top_share(shares) == pytest.approx([0.1, 1])  # 2.5 of 25 positions


def test_a_token_that_stays_and_one_that_moves() -> None:
    corner = np.outer([8, 4, 2, 1], [8, 4, 2, 1]) / 640
    other = corner[::-1, ::-1]
    apart = np.corrcoef(corner.flat, other.flat)[0, 1]
    stays = spreads(token_maps("a", [corner], [corner, other]))[0]
    moves = spreads(token_maps("a", [corner], [other]))[0]
    assert (stays.stability, stays.overlap) == pytest.approx((1, 1))
    assert (moves.stability, moves.overlap) == pytest.approx((apart, 0))
    assert stays.stability_others == pytest.approx(apart)
    assert stays.latent_share == pytest.approx(225 / 640 / 16)


def test_sameness_is_the_mean_correlation_of_all_pairs_of_images() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((4, 3, 4, 4), np.float32)
    sameness = Sameness()
    for maps in images:
        sameness.add(token_maps("x", maps))
    flat = images.reshape(4, 3, 16).astype(np.float64)
    pairs = [np.diag(correlations(flat[i], flat[j])).mean() for i in range(4) for j in range(i)]
    assert sameness.of(0) == pytest.approx(np.mean(pairs))


def test_narrow_tokens_that_differ_come_first() -> None:
    corner, blob = np.zeros((4, 4)), np.zeros((4, 4))
    corner[0, 0], blob[2:, 2:] = 1, 0.3
    unseen = np.eye(16)[9].reshape(4, 4) * 1e-4
    maps = np.array([np.full((4, 4), 0.1), corner, corner * 0.9 + 0.01, blob, unseen], np.float32)
    assert narrowest(maps, 5) == [1, 3, 0, 4, 2]  # the one nobody looks at and the twin of the first are last
    assert narrowest(maps, 2, without=[1]) == [3, 0]


def test_marks_outline_the_region_that_has_the_overlap_they_write() -> None:
    rng = np.random.default_rng(0)
    labels = np.kron(np.array([[1, 1, 2, 0], [3, 3, 2, 4]]), np.ones((4, 2))).astype(np.int32)
    wanted = segments(labels)
    for rule in ("top", "mass"):
        (row,) = segment_marks(token_maps("a", rng.random((5, 4, 4))), wanted, Keep(rule, (0.2, 0.4, 0.6)))
        assert len(row) == 4
        for mark in row:
            assert mark.segment is not None and mark.region is not None
            share = (mark.segment & mark.region).sum() / (mark.segment | mark.region).sum()
            assert mark.text == f"{mark.token}: {share:.2f}"


def planted(folder: Path, **options: object) -> tuple[AttentionStudy, pd.DataFrame]:
    """Three images of 8×8 on a 2×2 grid; each has one token a quarter, and a mask of its own quarter."""
    quarters = np.kron(np.eye(4).reshape(4, 2, 2), np.ones((4, 4))).astype(np.uint8)
    (folder / "masks").mkdir()
    for index in range(3):
        Image.fromarray(quarters[index] * 255).save(folder / "masks" / f"{index}.png")
    masks = list_items([folder / "masks"])
    study = AttentionStudy(
        AttentionQuestion(paths=(), out=folder / "out", region=("top", (0.25, 0.5)), **options),  # type: ignore[arg-type]
        "a source",
        Masks({f"{index}.jpg": mask for index, mask in enumerate(masks)}, 8),
    )
    for index in range(3):
        own = np.eye(4)[index].reshape(1, 2, 2) + 0.01
        study.take(token_maps(f"{index}.jpg", own, np.concatenate([own, np.eye(4)[[3]].reshape(1, 2, 2)])), f"{index}")
    return study, study.finish()


def test_a_planted_study_binds_each_image_and_not_by_chance(tmp_path: Path) -> None:
    study, summary = planted(tmp_path, sheets=0)
    rows = study.rows()
    assert len(rows) == 6
    # a quarter of the pixels is the segment itself; half of them holds it and as much again
    for name, value in (("iou_all_25", 1), ("iou_all_50", 0.49), ("iou_all_best", 1), ("iou_first_25", 1)):
        assert rows[name].to_numpy() == pytest.approx(value, abs=0.011)  # ties keep a pixel more
    assert (rows.chance_all_25 == 0).all()  # the quarters do not overlap
    assert set(rows.columns) >= {"chance_first_50", "segments", "entropy"}
    gain = summary[summary.measure == "gain_all_25"]
    assert gain["mean"].to_numpy() == pytest.approx(1)
    assert study.bound == (3, 3)


def test_without_other_images_there_is_no_chance(tmp_path: Path) -> None:
    study, summary = planted(tmp_path, sheets=0, shuffles=0)
    assert not any(str(name).startswith("chance") for name in study.rows())
    assert set(summary.measure) >= {"iou_all_best", "sameness"}
    assert not any(summary.measure.str.startswith("gain"))


def test_chance_meets_every_mask_equally_often(tmp_path: Path) -> None:
    images = [f"{index}.png" for index in range(7)]
    for name in images:
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    masks = Masks({item.image: item for item in list_items([tmp_path])}, 4)
    met = [other for image in images for other, _ in masks.others(image, 3, seed=1)]
    assert {name: met.count(name) for name in images} == dict.fromkeys(images, 3)
    assert all(other != image for image in images for other, _ in masks.others(image, 6, seed=1))
    assert sorted(other for other, _ in masks.others(images[0], 99, seed=0)) == images[1:]


def test_files_of_a_study(tmp_path: Path) -> None:
    study, summary = planted(tmp_path, sheets=2, npz=True)
    files = study.save(summary)
    names = [str(file.relative_to(tmp_path / "out")) for file in files]
    assert names[:3] == ["attention.csv", "attention.parquet", "attention.png"]
    assert {*names[3:]} == {"maps", "overview.png", "first_tokens.png", "sheets/0.png", "sheets/1.png"}
    assert all(file.stat().st_size > 500 for file in files if file.suffix)
    assert len([*(tmp_path / "out" / "maps").iterdir()]) == 3
    with np.load(tmp_path / "out" / "maps" / "1.npz") as stored:
        assert stored["attention_1"].shape == (2, 2, 2)
        assert stored["image"] == "1.jpg"
    table = pd.read_csv(files[0])
    assert set(table.columns) == {"iteration", "tokens", "measure", "images", "mean", "low", "high"}
    assert len(pd.read_parquet(files[1])) == 6
    picture = np.asarray(Image.open(tmp_path / "out" / "sheets" / "0.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50  # not an empty page


def test_masks_are_found_by_name(tmp_path: Path) -> None:
    for name in ("images/a/1.jpg", "images/b/1.jpg", "masks/a/1.png", "masks/c/9.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    images, masks = list_items([tmp_path / "images"]), list_items([tmp_path / "masks"])
    assert {key: mask.image for key, mask in match_masks(masks, images).items()} == {"a/1.jpg": "a/1.png"}
    with pytest.raises(InputError, match="None of the 1 masks"):
        match_masks(masks[1:], images)
