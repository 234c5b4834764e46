"""Crops to train on: kept or fresh, a row is always the same crop, and no broken photograph gets in."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from alit_cli.data.sources.listing import list_items
from alit_cli.errors import AlitError, InputError
from alit_cli.training.crops import FRESH, KeptViews, Views, make_views, open_views, to_images
from tests.training.photos import write_photos

SIDE, HELD_OUT, SEED = 16, 2, 3


def _views(folder: Path, views: int, work: str) -> Views:
    items = list_items([str(folder / "photos")])
    (folder / work).mkdir()
    for _ in make_views(items, SIDE, views, HELD_OUT, SEED, folder / work):
        pass
    return open_views(folder / work, items, SIDE, HELD_OUT, SEED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paths = write_photos(tmp_path / "photos", 12)
    paths[5].write_bytes(paths[5].read_bytes()[:200])
    return tmp_path


def test_a_fresh_row_is_one_crop_expected_or_not(folder: Path) -> None:
    views, again = _views(folder, 0, "one"), _views(folder, 0, "two")
    assert not (folder / "one" / "views.npy").exists()
    rows = views.order(epoch=7, seed=0)
    assert (rows % FRESH == 7).all()
    views.expect(rows[:3])
    views.expect(rows[2:6])
    assert np.array_equal(views.read(rows[:6]), again.read(rows[:6]))
    assert not np.array_equal(views.read(rows[:6]), views.read(rows[:6] + 1))  # another epoch, other crops
    assert views.read(rows).shape == (len(rows), SIDE, SIDE, 3)


@pytest.mark.parametrize("kept", [0, 2])
def test_a_batch_says_which_row_each_picture_is(folder: Path, kept: int) -> None:
    views = _views(folder, kept, "work")
    batch = views.batch(views.order(epoch=0, seed=0), torch.device("cpu"))
    assert batch.images.shape == (views.photos, 3, SIDE, SIDE)
    for row, image in zip(batch.rows, batch.images, strict=True):
        assert torch.equal(image, to_images(views.read(np.array([row])))[0])


def test_both_kinds_hold_out_the_same_photographs_and_skip_broken_ones(folder: Path) -> None:
    kept, fresh = _views(folder, 2, "kept"), _views(folder, 0, "fresh")
    assert isinstance(kept, KeptViews)
    assert np.array_equal(kept.validation, fresh.validation)
    broken = 12 - len(kept.validation) - kept.photos  # among the trained, or held out and left out there
    assert broken == 1
    fresh.read(np.arange(fresh.photos) * fresh.views)  # a broken one is replaced


def test_crops_that_do_not_fit_on_the_disk_are_refused_before_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match="--views 0"):
        _views(folder, 2, "kept")


def test_a_disk_that_fills_up_meanwhile_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _start: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(AlitError, match=r"The disk is full: '.*views\.npy'"):
        _views(folder, 2, "kept")
    assert not (folder / "kept" / "views.json").exists()


def test_an_attempt_that_was_interrupted_takes_no_room_from_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, work = list_items([str(folder / "photos")]), folder / "kept"
    work.mkdir()
    next(iter(make_views(items, SIDE, 2, HELD_OUT, SEED, work)))
    usage, size = shutil.disk_usage(folder), (work / "views.npy").stat().st_size
    there = (work / "views.npy").exists
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100 if there() else size))
    for _ in make_views(items, SIDE, 2, HELD_OUT, SEED, work):
        pass
    assert open_views(work, items, SIDE, HELD_OUT, SEED).photos == 9
