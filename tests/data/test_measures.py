"""The classical measures against what is known of simple pictures, and of three real ones."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from alit_cli.data.pictures.decoding import decode
from alit_cli.data.pictures.fitting import fit
from alit_cli.data.pictures.measures import SOBEL_SCALES, measure

BITS = tuple(12 * tokens for tokens in range(32, 257, 32))
FLOOR = [0.1325, 0.1122, 0.1046, 0.0971, 0.0919, 0.0874, 0.0836, 0.0811]
"""Mean L1 of thumbnails of so many bits of the three photographs; Pillow's filters change it in the fourth digit."""


def noise(side: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_a_flat_picture_has_nothing_to_tell() -> None:
    found = measure(np.full((64, 64, 3), (51, 102, 204), dtype=np.uint8), (384,))
    assert (found.edge_density, found.entropy, found.mad) == (0, 0, 0)
    assert found.thumbnail == (0,)  # these levels are multiples of 17
    assert found.jpeg_bytes < 1000 > found.png_bytes


def test_grey_levels_have_the_entropy_of_their_shares() -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32] = 255
    assert measure(pixels, ()).entropy == pytest.approx(1)
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))[..., None].repeat(3, axis=2)
    assert measure(ramp, ()).entropy == pytest.approx(6)


def test_edges_are_where_the_step_is() -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:, 32:] = 255
    # Canny marks both columns beside the step, but never the outermost rows.
    assert measure(pixels, ()).edge_density == pytest.approx(2 * 62 / 64**2)


def test_colours_are_counted_at_32_levels_per_channel() -> None:
    assert measure(np.full((64, 64, 3), (1, 5, 7), np.uint8), ()).distinct_colours == 1
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))[..., None].repeat(3, axis=2)
    assert measure(ramp, ()).distinct_colours == 64 / 8
    levels = {tuple(colour) for colour in noise()[..., :].reshape(-1, 3) // 8}
    assert measure(noise(), ()).distinct_colours == len(levels)


def test_the_gradient_of_a_ramp_is_its_slope_at_every_scale() -> None:
    ramp = np.tile(np.arange(0, 128, 2, dtype=np.uint8), (64, 1))[..., None].repeat(3, axis=2)
    # Inside, a pixel rises by 2 · scale (Sobel's two-pixel distance counts twice); at the two borders by half of it.
    expected = sum(w * 2 * (2 * s / 255) * (1 - 1 / (64 / s)) for s, w in SOBEL_SCALES.items())
    assert measure(ramp, ()).sobel_gradient == pytest.approx(expected, rel=0.02)
    assert measure(np.full((64, 64, 3), 9, np.uint8), ()).sobel_gradient == 0
    assert measure(noise(), ()).sobel_gradient > 5 * measure(ramp, ()).sobel_gradient


def test_jpeg_is_measured_at_fixed_sides_that_the_picture_has() -> None:
    small, exact, large = (measure(noise(side), ()) for side in (64, 128, 256))
    assert (small.jpeg_bytes_128, small.jpeg_bytes_256, exact.jpeg_bytes_256) == (None, None, None)
    assert exact.jpeg_bytes_128 == exact.jpeg_bytes
    assert large.jpeg_bytes_256 == large.jpeg_bytes
    assert (
        large.jpeg_bytes_128
        == measure(np.asarray(Image.fromarray(noise(256)).resize((128, 128), Image.Resampling.BOX)), ()).jpeg_bytes
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100))
def test_mad_is_the_l1_of_the_mean_colour(seed: int) -> None:
    pixels = noise(24, seed) // np.array([1, 2, 3], dtype=np.uint8)
    x = pixels / 255
    assert measure(pixels, ()).mad == pytest.approx(np.abs(x - x.mean(axis=(0, 1))).mean())


def test_noise_costs_more_than_a_gradient() -> None:
    gradient = np.asarray(Image.linear_gradient("L").resize((64, 64)).convert("RGB"))
    plain, rough = measure(gradient, BITS), measure(noise(), BITS)
    assert plain.jpeg_bytes < rough.jpeg_bytes
    assert plain.png_bytes < rough.png_bytes
    assert plain.edge_density < rough.edge_density
    assert max(plain.thumbnail) < min(rough.thumbnail)


def test_a_thumbnail_is_the_better_of_two_depths_and_uses_its_bits() -> None:
    tiles = np.kron(noise(4), np.ones((16, 16, 1), dtype=np.uint8))
    coarse, fine = measure(tiles, (16 * 12, 16 * 24)).thumbnail

    def plain(rows: int, columns: int, step: int) -> float:
        small = Image.fromarray(tiles).resize((columns, rows), Image.Resampling.BOX)
        stored = Image.fromarray((np.rint(np.asarray(small) / step) * step).astype(np.uint8))
        large = np.asarray(stored.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
        return float(np.abs(large - tiles).mean() / 255)

    assert coarse == pytest.approx(min(plain(4, 4, 17), plain(2, 4, 1)))
    assert fine == pytest.approx(min(plain(5, 6, 17), plain(4, 4, 1)))


def test_bits_that_buy_no_pixel_or_every_pixel() -> None:
    none, one, all_of_them = measure(noise(16), (11, 12, 16 * 16 * 24)).thumbnail
    assert math.isnan(none)
    assert 0 < one < 0.5
    assert all_of_them == 0


def test_thumbnails_of_real_photographs(photographs: list[Path]) -> None:
    measured = [measure(fit(decode(file.read_bytes()), 256), BITS) for file in photographs]
    errors = np.array([values.thumbnail for values in measured])
    assert (np.diff(errors, axis=1) < 0).all(), "more bits are a better thumbnail"
    assert (errors < np.array([[values.mad] for values in measured])).all(), "any thumbnail is better than one colour"
    assert errors.mean(axis=0) == pytest.approx(FLOOR, abs=1e-3)
