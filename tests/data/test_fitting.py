"""Fitting keeps what it says it keeps, at any size; a picture is read or says why not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alit_cli.data.pictures.fitting import Fit, _box_of_torchvision, fit, random_view, read_picture
from alit_cli.data.sources.items import Item
from alit_cli.data.sources.listing import list_items

Encode = Callable[..., bytes]
SIZES = st.tuples(st.integers(1, 200), st.integers(1, 200)) | st.sampled_from([(1, 5000), (5000, 1), (3, 5000)])
SOME = settings(max_examples=40, deadline=None)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@SOME
@given(SIZES, st.sampled_from(["crop", "squash", "pad", "centre"]), st.sampled_from([1, 8, 32]))
def test_any_size_fits(size: tuple[int, int], how: Fit, side: int) -> None:
    pixels = fit(Image.new("RGB", size, "#336699"), side, how)
    assert pixels.shape == (side, side, 3)
    assert pixels.dtype == np.uint8
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    assert (0x33, 0x66, 0x99) in colours
    around = {"pad": {(255, 255, 255)}, "centre": {(0, 0, 0)}}
    assert colours <= {(0x33, 0x66, 0x99)} | around.get(how, set())


def test_crop_at_its_own_size_copies_the_centre() -> None:
    image = noise(41, 32)
    assert (fit(image, 32) == np.asarray(image)[:, 4:36]).all()
    assert (fit(image.rotate(90, expand=True), 32) == np.asarray(image.rotate(90, expand=True))[4:36]).all()


def test_crop_is_resizing_the_whole_and_cutting() -> None:
    image = noise(300, 200)
    whole = image.resize((150, 100), Image.Resampling.BICUBIC)
    assert np.abs(fit(image, 100).astype(int) - np.asarray(whole)[:, 25:125].astype(int)).max() <= 1


def test_squash_takes_the_whole_image() -> None:
    image = noise(90, 30)
    assert (fit(image, 32, "squash") == np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))).all()


def test_pad_keeps_the_aspect_on_white() -> None:
    pixels = fit(Image.new("RGB", (80, 20), "black"), 32, "pad")
    assert (pixels[:12] == 255).all()
    assert (pixels[12:20] == 0).all()
    assert (pixels[20:] == 255).all()
    assert (fit(Image.new("RGB", (1, 5000)), 32, "pad") == 0).all(axis=(0, 2)).sum() == 1


def test_centre_resizes_nothing() -> None:
    image = noise(301, 200)
    assert (fit(image, 100, "centre") == np.asarray(image)[50:150, 100:200]).all()  # 100.5 is rounded to the even 100
    assert (fit(noise(303, 200), 100, "centre") == np.asarray(noise(303, 200))[50:150, 102:202]).all()  # and 101.5
    small = noise(41, 200)
    found = fit(small, 100, "centre")
    assert (found[:, 29:70] == np.asarray(small)[50:150]).all()
    assert not found[:, :29].any()
    assert not found[:, 70:].any()


def test_an_unknown_fit_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="'stretch'"):
        fit(noise(4, 4), 4, "stretch")  # type: ignore[arg-type]


@SOME
@given(SIZES, st.integers(0, 2**32))
def test_a_random_view_lies_inside_and_depends_on_its_seed_alone(size: tuple[int, int], seed: int) -> None:
    image = Image.new("RGB", size, "#336699")
    view = random_view(image, 16, np.random.default_rng(seed))
    assert view.shape == (16, 16, 3)
    assert view.flags.c_contiguous
    assert {tuple(colour) for colour in view.reshape(-1, 3).tolist()} == {(0x33, 0x66, 0x99)}
    assert (view == random_view(image, 16, np.random.default_rng(seed))).all()


def test_random_views_show_most_of_the_image_and_both_sides() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).convert("RGB")
    views = [random_view(ramp, 64, np.random.default_rng(seed)).astype(int) for seed in range(200)]
    spans = [abs(view[:, -1].mean() - view[:, 0].mean()) / 255 for view in views]
    mirrored = [view[0, 0, 0] > view[0, -1, 0] for view in views]
    assert min(spans) > 0.6
    assert 0.35 < np.mean(mirrored) < 0.65
    assert len({view.tobytes() for view in views}) > 150


def test_read_picture_gives_pixels_size_and_measures(tmp_path: Path, photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    photo.save(tmp_path / "a b 😀.jpg", exif=exif)
    (item,) = list_items([tmp_path])
    picture = read_picture(item, 32, measures=(384, 768))
    assert (picture.image, picture.source, picture.status) == ("a b 😀.jpg", str(tmp_path), "ok")
    assert (picture.error, picture.width, picture.height) == (None, 64, 96)
    assert picture.pixels is not None
    assert picture.pixels.shape == (32, 32, 3)
    assert picture.measures is not None
    assert len(picture.measures.thumbnail) == 2
    assert read_picture(item, 32).measures is None


def test_a_bad_image_is_a_picture_with_a_status(tmp_path: Path, photo: Image.Image, encode: Encode) -> None:
    jpeg = encode(photo, "JPEG")
    for name, data, status in (
        ("zero.jpg", b"", "empty"),
        ("text.jpg", b"Dear reader", "unreadable"),
        ("cut.jpg", jpeg[: len(jpeg) // 2], "truncated"),
        ("photo.heic", b"\0\0\0\x18ftypheic", "unsupported"),
    ):
        (tmp_path / name).write_bytes(data)
        picture = read_picture(Item(name, "here", str(tmp_path / name)), 32, measures=(384,))
        assert (picture.image, picture.status) == (name, status)
        assert picture.error
        assert (picture.width, picture.height, picture.pixels, picture.measures) == (None,) * 4


def test_a_file_that_went_away_is_unreadable(tmp_path: Path) -> None:
    picture = read_picture(Item("x.jpg", "here", str(tmp_path / "x.jpg")), 32)
    assert picture.status == "unreadable"
    assert picture.error == "The file cannot be read: No such file or directory."
    assert read_picture(Item("x", "here", str(tmp_path)), 32).status == "unreadable"


def test_the_file_name_does_not_decide_the_format(tmp_path: Path, photo: Image.Image) -> None:
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    (tmp_path / "x.jpg").write_bytes(buffer.getvalue())
    assert read_picture(list_items([tmp_path])[0], 32).status == "ok"


@SOME
@given(SIZES, st.integers(0, 2**32))
def test_a_view_of_torchvision_keeps_its_shares_of_the_whole_image(size: tuple[int, int], seed: int) -> None:
    """Each pixel holds its own place, and the part is found again by drawing it a second time."""
    width, height = size
    left, top, right, bottom = _box_of_torchvision(width, height, np.random.default_rng(seed), (0.8, 1.0))
    w, h = right - left, bottom - top
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    if min(size) >= 20 and max(size) / min(size) < 1.2:  # larger than the rounding of whole pixels, and no panorama
        assert 0.75 <= w * h / (width * height) <= 1
        assert 0.7 <= w / h <= 1.4
    rng = np.random.default_rng(seed)
    image = noise(min(width, 60), min(height, 60))
    part = image.crop(_box_of_torchvision(*image.size, rng, (0.8, 1.0)))
    expected = np.asarray(part.resize((16, 16), Image.Resampling.BILINEAR))
    expected = expected[:, ::-1] if rng.random() < 0.5 else expected
    view = random_view(image, 16, np.random.default_rng(seed), box="torchvision", resample="bilinear")
    assert np.array_equal(view, expected)


def test_a_panorama_of_torchvision_is_cut_to_the_middle() -> None:
    assert _box_of_torchvision(400, 30, np.random.default_rng(0), (0.8, 1.0)) == (180, 0, 220, 30)
    assert _box_of_torchvision(30, 400, np.random.default_rng(0), (0.8, 1.0)) == (0, 180, 30, 220)
