"""Features are the network's own, pooled as it was trained to."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request
from alit_cli.tasks.features import build
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
