"""Label maps: every way ids are kept in a file, fitted exactly like the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alit_cli.data.annotations.masks import IGNORED, read_labels
from alit_cli.data.pictures.fitting import fit
from alit_cli.data.sources.listing import list_items
from alit_cli.errors import InputError


def read(path: Path, side: int, width: int = 0, height: int = 0) -> np.ndarray:
    return read_labels(list_items([path])[0], side, width, height)


@pytest.mark.parametrize("size", [(64, 48), (40, 90), (32, 32)])
def test_a_mask_is_cut_like_its_image(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    ids = (np.arange(height)[:, None] // 8 + np.arange(width) // 8) % 2
    image = Image.fromarray(np.repeat(ids[..., None] * 255, 3, axis=2).astype(np.uint8))
    Image.fromarray(ids.astype(np.uint8)).save(tmp_path / "m.png")
    pixels, labels = fit(image, 32), read(tmp_path / "m.png", 32, width, height)
    sure = (pixels[..., 0] < 60) | (pixels[..., 0] > 195)  # between two squares bicubic pixels are grey
    assert sure.mean() > 0.6
    assert ((pixels[..., 0] > 128) == labels)[sure].all()


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB", "1"])
def test_ids_come_as_they_are_stored(tmp_path: Path, mode: str) -> None:
    top = {"I;16": 3000, "1": 1}.get(mode, 200)
    ids = np.array([[0, 1], [1, top]])
    if mode == "P":
        image = Image.fromarray(ids.astype(np.uint8))
        image.putpalette([7, 8, 9] * 256)
    elif mode == "RGB":
        image = Image.fromarray(np.repeat(ids[..., None], 3, axis=2).astype(np.uint8))
    elif mode == "1":
        image = Image.fromarray(ids.astype(bool))
    else:
        image = Image.fromarray(ids.astype({"L": np.uint8, "I;16": np.uint16}[mode]))
    image.save(tmp_path / "m.png")
    assert (read(tmp_path / "m.png", 2) == ids).all()


def test_imagenet_s_keeps_ids_in_two_channels(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255], [256, 919, 1000]])
    colours = np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=2).astype(np.uint8)
    Image.fromarray(colours).resize((48, 32), Image.Resampling.NEAREST).save(tmp_path / "m.png")
    labels = read(tmp_path / "m.png", 32)
    found = set(labels.flatten().tolist())
    assert found == {0, 1, 1001, 256, 919, IGNORED}
    assert (labels[-1, -1], labels[0, 16]) == (IGNORED, 1)  # 1000 is the corner that counts for nothing


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: Image.fromarray(np.arange(12).reshape(2, 2, 3).astype(np.uint8)).save(path), "holds colours"),
        (lambda path: Image.new("L", (20, 10)).save(path), "not of one shape"),
        (lambda path: path.write_bytes(b"no picture"), "cannot be read"),
    ],
)
def test_what_is_no_mask_is_named(tmp_path: Path, make: object, sentence: str) -> None:
    make(tmp_path / "m.png")  # type: ignore[operator]
    with pytest.raises(InputError, match=sentence):
        read(tmp_path / "m.png", 8, 10, 10)
