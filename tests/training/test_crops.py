"""Crops to train on: kept or fresh, a row is always the same crop, and no broken photograph gets in."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from alit_cli.data.sources.listing import list_items
from alit_cli.errors import AlitError, InputError
from alit_cli.training.crops import MANY, CachedCrops, CropDataset, CropSettings, make_crops, open_crops, to_images
from tests.training.photos import write_photos

SIDE, HELD_OUT, SEED = 16, 2, 3


def _settings(per_photo: int) -> CropSettings:
    return CropSettings(SIDE, per_photo, HELD_OUT, SEED)


def _crops(folder: Path, per_photo: int, work: str) -> CropDataset:
    items = list_items([str(folder / "photos")])
    (folder / work).mkdir()
    for _ in make_crops(items, _settings(per_photo), folder / work):
        pass
    return open_crops(folder / work, items, _settings(per_photo))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    paths = write_photos(tmp_path / "photos", 12)
    paths[5].write_bytes(paths[5].read_bytes()[:200])
    return tmp_path


def test_a_row_is_one_crop_prefetched_or_not(folder: Path) -> None:
    crops, again = _crops(folder, 0, "one"), _crops(folder, 0, "two")
    assert not (folder / "one" / "views.npy").exists()
    rows = crops.order(epoch=7, seed=0)
    assert (rows % MANY == 7).all()
    cpu = torch.device("cpu")
    crops.prefetch([rows[:3], rows[5:6]], cpu)
    crops.prefetch([rows[:3], rows[3:6]], cpu)
    for part in (rows[:3], rows[3:6], rows[1:4]):  # the last one was never announced
        batch = crops.batch(part, cpu)
        assert torch.equal(batch.images, to_images(again.read(np.sort(part))))
    assert not np.array_equal(crops.read(rows[:6]), crops.read(rows[:6] + 1))  # another epoch, other crops
    assert crops.read(rows).shape == (len(rows), SIDE, SIDE, 3)
    crops.close()


@pytest.mark.parametrize("kept", [0, 2])
def test_a_batch_says_which_row_each_picture_is(folder: Path, kept: int) -> None:
    crops = _crops(folder, kept, "work")
    batch = crops.batch(crops.order(epoch=0, seed=0), torch.device("cpu"))
    assert batch.images.shape == (crops.photos, 3, SIDE, SIDE)
    for row, image in zip(batch.rows, batch.images, strict=True):
        assert torch.equal(image, to_images(crops.read(np.array([row])))[0])


def test_both_kinds_hold_out_the_same_photographs_and_skip_broken_ones(folder: Path) -> None:
    kept, fresh = _crops(folder, 2, "kept"), _crops(folder, 0, "fresh")
    assert isinstance(kept, CachedCrops)
    assert np.array_equal(kept.validation, fresh.validation)
    broken = 12 - len(kept.validation) - kept.photos  # among the trained, or held out and left out there
    assert broken == 1
    fresh.read(np.arange(fresh.photos) * fresh.per_photo)  # a broken one is replaced


def test_crops_that_do_not_fit_on_the_disk_are_refused_before_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match="--crops 0"):
        _crops(folder, 2, "kept")


def test_a_disk_that_fills_up_meanwhile_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _start: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(AlitError, match=r"The disk is full: '.*views\.npy'"):
        _crops(folder, 2, "kept")
    assert not (folder / "kept" / "views.json").exists()


def test_an_attempt_that_was_interrupted_takes_no_room_from_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, work = list_items([str(folder / "photos")]), folder / "kept"
    work.mkdir()
    next(iter(make_crops(items, _settings(2), work)))
    usage, size = shutil.disk_usage(folder), (work / "views.npy").stat().st_size
    there = (work / "views.npy").exists
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100 if there() else size))
    for _ in make_crops(items, _settings(2), work):
        pass
    assert open_crops(work, items, _settings(2)).photos == 9


def test_validation_shows_the_scale_of_the_crops(folder: Path) -> None:
    """Where crops take a quarter of a photograph, held-out ones are shown twice as large, and cut to the centre."""
    items = list_items([str(folder / "photos")])
    settings = dataclasses.replace(_settings(1), area=(0.2, 0.3))
    assert (settings.zoom, _settings(1).zoom) == (2, 1)
    folders = [folder / "whole", folder / "quarter"]
    pictures = []
    for work, chosen in zip(folders, (dataclasses.replace(_settings(1), side=2 * SIDE), settings), strict=True):
        work.mkdir()
        for _ in make_crops(items, chosen, work):
            pass
        pictures.append(open_crops(work, items, chosen).validation)
    whole, quarter = pictures
    margin = SIDE // 2
    assert np.array_equal(quarter, whole[:, margin : margin + SIDE, margin : margin + SIDE])
