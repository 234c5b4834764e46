"""Depth errors: independent of scale and shift, right by hand, blind to what a map does not know."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alit_cli.data.annotations.depth_maps import find_depth_maps, read_map
from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request
from alit_cli.tasks.depth import Reference, align, build, compare
from tests.tasks import networks
from tests.tasks.networks import smooth_images


def _depths(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A prediction of inverse depth and a map of depth, 2 8 8, an eighth of it unknown."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.rand(2, 8, 8, generator=generator, dtype=torch.float64)
    depth = 1 + 4 * torch.rand(2, 8, 8, generator=generator, dtype=torch.float64)
    depth[torch.rand(2, 8, 8, generator=generator) < 1 / 8] = math.nan
    return prediction, depth


@given(st.integers(0, 99), st.floats(0.01, 100), st.floats(-50, 50), st.booleans(), st.floats(0.01, 100))
def test_scale_and_shift_of_a_prediction_and_the_unit_of_a_map_change_nothing(
    seed: int, scale: float, shift: float, inverse: bool, unit: float
) -> None:
    prediction, depth = _depths(seed)
    before = compare(prediction, Reference(depth, inverse))
    after = compare(scale * prediction + shift, Reference(unit * depth, inverse))
    for name, values in before.items():
        assert after[name] == pytest.approx(values, rel=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_a_prediction_that_is_right_up_to_scale_and_shift_has_no_error(inverse: bool) -> None:
    _, depth = _depths(1)
    truth = torch.nan_to_num(depth, 2.0)
    found = compare(3 * (1 / truth if inverse else truth) - 2, Reference(depth, inverse))
    assert found["depth_error"] == pytest.approx([0, 0], abs=1e-9)
    assert found["depth_delta1"] == [1, 1]


def test_errors_by_hand() -> None:
    # Least squares onto 1, 2, 4 from 0, 0, 1: the first two become their mean 1.5, the third stays 4.
    target = torch.tensor([[[1.0, 2.0, 4.0, math.nan]]])
    prediction = torch.tensor([[[0.0, 0.0, 1.0, 77.0]]])
    known = torch.isfinite(target)
    assert align(prediction, torch.nan_to_num(target), known)[0, 0, :3].tolist() == pytest.approx([1.5, 1.5, 4.0])
    found = compare(prediction, Reference(target, inverse=False))
    assert found["depth_error"] == pytest.approx([(0.5 / 1 + 0.5 / 2 + 0) / 3])
    assert found["depth_delta1"] == pytest.approx([1 / 3])
    flat = compare(torch.ones(1, 1, 4), Reference(target, inverse=False))
    mean = 7 / 3
    assert flat["depth_error"] == pytest.approx([(abs(mean - 1) + abs(mean - 2) / 2 + abs(mean - 4) / 4) / 3])


def test_a_reference_near_zero_does_not_blow_the_error_up() -> None:
    target = torch.full((1, 10, 10), 1.0)
    target[0, 0, 0] = 0.0
    prediction = target.clone()
    prediction[0, 0, 0] = 0.5
    assert compare(prediction, Reference(target, inverse=False))["depth_error"][0] < 1


def test_too_few_known_pixels_are_no_error_but_unknown() -> None:
    target = torch.full((1, 4, 4), math.nan)
    assert math.isnan(compare(torch.rand(1, 4, 4), Reference(target, inverse=True))["depth_error"][0])


@pytest.fixture(scope="module")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("depth")
    return networks.depth_estimator(folder), folder


def test_against_the_original(estimator: tuple[Any, Path], asked: Request) -> None:
    task = build(dataclasses.replace(asked, model=str(estimator[1])))
    images = smooth_images()
    seen, originals = task.look(Batch(images, np.arange(3)))
    assert originals == {}
    assert task.score(seen, images, 2)["depth_error"] == pytest.approx([0, 0, 0], abs=1e-9)
    assert task.score(seen, images, 2)["depth_raw"] == pytest.approx([0, 0, 0], abs=1e-9)
    other = task.score(seen, images.flip(3), 2)
    raw = [float((task._depths(images.flip(3)) - task._depths(images))[row].abs().mean()) for row in range(3)]
    assert other["depth_raw"] == pytest.approx(raw)
    assert min(other["depth_error"]) > 1e-4
    assert all(0 <= share <= 1 for share in other["depth_delta1"])


def test_against_maps(estimator: tuple[Any, Path], asked: Request, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    metres = rng.uniform(1, 5, (40, 40)).astype(np.float32)
    metres[:20] = np.nan
    np.save(tmp_path / "b.npy", metres)
    Image.fromarray(np.nan_to_num(1000 * metres).astype(np.uint16)).save(tmp_path / "a.png")
    names = ["x/a.jpg", "b.jpg", "c.jpg"]
    task = build(dataclasses.replace(asked, model=str(estimator[1]), images=names, depth_maps=tmp_path))
    assert all(one.original for one in task.measures)
    _, originals = task.look(Batch(smooth_images(), np.arange(3)))
    first, _, third = originals["depth_error_original"]
    assert 0 < first < 2
    assert math.isnan(third)
    twice = torch.stack([smooth_images()[1]] * 2)
    _, originals = task.look(Batch(twice, np.arange(2)))
    assert originals["depth_error_original"][0] == pytest.approx(originals["depth_error_original"][1], rel=1e-2)
    with pytest.raises(InputError, match="No depth map"):
        build(dataclasses.replace(asked, model=str(estimator[1]), images=["z.jpg"], depth_maps=tmp_path))


def test_maps_are_refused_where_images_were_not_resized(
    estimator: tuple[Any, Path], asked: Request, tmp_path: Path
) -> None:
    info = dataclasses.replace(asked.info, fit="centre")
    request = dataclasses.replace(asked, model=str(estimator[1]), info=info)
    build(request)
    with pytest.raises(InputError, match="--fit centre"):
        build(dataclasses.replace(request, depth_maps=tmp_path))


def test_maps_are_fitted_as_their_images_and_hide_what_they_do_not_know(tmp_path: Path) -> None:
    values = np.full((20, 40), 65535, np.uint16)
    values[:, 10:30] = np.arange(1, 401).reshape(20, 20)
    values[0, 10] = 0
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_map(tmp_path / "a.png", 20, "crop")
    assert math.isnan(found[0, 0])
    np.testing.assert_array_equal(found.ravel()[1:], np.arange(2, 401))
    assert np.isnan(read_map(tmp_path / "a.png", 20, "pad")[:5]).all()
    large = read_map(tmp_path / "a.png", 50, "crop")
    assert set(large[np.isfinite(large)]) <= set(range(1, 401))
    (tmp_path / "b.npy").write_bytes(b"no")
    np.save(tmp_path / "c.npy", np.zeros((2, 2, 3)))
    (tmp_path / "d.npy").write_bytes(b"")
    (tmp_path / "e.npy").write_bytes(b"PK\3\4 broken")
    np.save(tmp_path / "f.npy", np.array([["x"]]))
    (tmp_path / "g.png").write_bytes((tmp_path / "a.png").read_bytes()[:-60])
    for name in ("b.npy", "c.npy", "d.npy", "e.npy", "f.npy", "g.png", "none.png"):
        with pytest.raises(InputError, match=rf"The depth map '.*{name}' .*\.$"):
            read_map(tmp_path / name, 20, "crop")
    assert find_depth_maps(tmp_path, ["deep/a.jpg", "q.jpg"]) == [tmp_path / "a.png", None]
    with pytest.raises(InputError, match="no folder"):
        find_depth_maps(tmp_path / "none", ["a.jpg"])
