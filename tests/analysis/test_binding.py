"""Object binding by hand: planted maps and label maps whose overlap can be counted on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alit_cli.analysis.attention.binding import Keep, bind, overlaps, regions, segments
from alit_cli.analysis.attention.sparsity import upsample
from alit_cli.data.annotations.masks import IGNORED

# Two tokens on a 4×4 grid: one looks at the top left quarter, one at the top row (and a little at the rest).
QUARTER = [[9, 8, 1, 1], [8, 8, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
ROW = [[9, 9, 9, 8], [4, 4, 4, 4], [1, 1, 1, 1], [1, 1, 1, 1]]
MAPS = np.array([QUARTER, ROW], np.float32)
# Segment 3 is the top left quarter, segment 7 the right column; 0 is background.
LABELS = np.array([[3, 3, 0, 7], [3, 3, 0, 7], [0, 0, 0, 7], [0, 0, 0, 7]], np.int32)
WANTED = segments(LABELS)


def test_overlaps_are_those_counted_by_hand() -> None:
    (kept,) = regions(MAPS, 4, Keep("top", (0.25,)))
    # quarter with quarter 4/4; quarter with column 0; row with quarter 2 of 6; row with column 1 of 7
    np.testing.assert_allclose(overlaps(kept, WANTED), [[1.0, 0.0], [2 / 6, 1 / 7]])


def test_miou_takes_the_best_token_of_each_segment() -> None:
    quarter, half = regions(MAPS, 4, Keep("top", (0.25, 0.5)))
    both = bind([quarter], WANTED, first=2)
    assert both.every == pytest.approx([(1 + 1 / 7) / 2])
    assert bind([quarter], WANTED, first=1).first == pytest.approx([(1 + 0) / 2])
    # half: the row's token keeps two rows, 4 of 8 with the quarter, 2 of 10 with the column; the quarter's token
    # ties beyond its four positions and keeps all sixteen: 4/16 with each
    np.testing.assert_allclose(overlaps(half, WANTED), [[4 / 16, 4 / 16], [4 / 8, 2 / 10]])
    assert bind([half], WANTED, first=1).every == pytest.approx([(4 / 8 + 4 / 16) / 2])


def test_mass_keeps_the_fewest_positions_that_hold_the_share() -> None:
    shares = np.array([[[0.4, 0.3], [0.2, 0.1]]], np.float32)
    sizes = [kept.sum() for kept in regions(shares, 2, Keep("mass", (0.39, 0.41, 0.7, 0.71, 0.95)))]
    assert sizes == [1, 2, 2, 3, 4]


def test_ignored_pixels_do_not_count_and_small_segments_are_background() -> None:
    labels = LABELS.copy()
    labels[0, 2:] = 255  # the column loses its top, the row's token two of its four
    (kept,) = regions(MAPS, 4, Keep("top", (0.25,)))
    np.testing.assert_allclose(overlaps(kept, segments(labels)), [[1.0, 0.0], [1 / 2, 0.0]])
    counted = segments(labels, background=(), ignore=())
    assert len(counted.masks) == 4
    assert counted.counted.all()
    assert len(segments(labels, min_area=0.2).masks) == 1


def test_black_and_white_masks_have_one_segment() -> None:
    mask = np.where(LABELS == 3, 255, 0).astype(np.int32)
    assert segments(mask).masks.sum() == 4
    assert segments(mask).counted.all()
    assert len(segments(mask, ignore=(255,)).masks) == 0


def test_what_is_ignored_without_doubt_is_never_a_segment() -> None:
    """The centre of a mask of ImageNet-S may have lost every class, so that only what is to be ignored is left."""
    mask = np.where(LABELS == 3, IGNORED, 0).astype(np.int32)
    for found in (segments(mask), segments(mask, ignore=(9,))):
        assert len(found.masks) == 0
        assert (~found.counted).sum() == (LABELS == 3).sum()


def test_a_map_that_prefers_nothing_keeps_everything() -> None:
    (kept,) = regions(np.full((1, 2, 2), 0.1, np.float32), 8, Keep("top", (0.4,)))
    assert kept.all()


@pytest.mark.parametrize(("grid", "side"), [(4, 4), (8, 128), (3, 20)])
def test_upsampling_is_the_usual_bilinear_one(grid: int, side: int) -> None:
    maps = np.random.default_rng(0).random((2, grid, grid), np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], (side, side), mode="bilinear")[0]
    np.testing.assert_allclose(upsample(maps, side), expected, atol=1e-6)
