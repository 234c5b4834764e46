"""Pixel distances equal their definitions; baselines cost the bits that they should."""

import copy
import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from alit_cli.data.pictures.measures import measure
from alit_cli.model.bases.vae import VAE
from alit_cli.model.checkpoint import Record
from alit_cli.tasks.base import Batch, Request
from alit_cli.tasks.baselines import base_options
from alit_cli.tasks.baselines import build as build_baselines
from alit_cli.tasks.recon import build, psnr, ssim
from tests.model import tiny
from tests.tasks.conftest import BUDGETS
from tests.tasks.networks import smooth_images


def _by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM of Wang et al. (2004), written out: an 11 × 11 Gaussian window, whole windows only."""

    def window(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, sigma=(1.5, 1.5, 0), truncate=3.5)

    c1, c2 = 0.01**2, 0.03**2
    ma, mb = window(a), window(b)
    va, vb, both = window(a * a) - ma**2, window(b * b) - mb**2, window(a * b) - ma * mb
    found = (2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return float(found[5:-5, 5:-5].mean())


def test_recon_equals_the_definitions(asked: Request) -> None:
    images = smooth_images()
    pictures = (images + 0.1 * torch.randn_like(images)).clamp(0, 1)
    task = build(asked)
    seen, originals = task.look(Batch(images, np.arange(3)))
    found = task.score(seen, pictures, 2)
    assert originals == {}
    mse = (images - pictures).square().mean(dim=(1, 2, 3))
    np.testing.assert_allclose(found["mse"], mse, rtol=1e-6)
    np.testing.assert_allclose(found["psnr"], -10 * np.log10(mse.numpy()), rtol=1e-6)
    arrays = [one.permute(0, 2, 3, 1).double().numpy() for one in (pictures, images)]
    np.testing.assert_allclose(found["ssim"], [_by_hand(*pair) for pair in zip(*arrays, strict=True)], rtol=1e-4)
    assert set(found) == {measure.name for measure in task.measures}


def test_equal_images() -> None:
    image = smooth_images(1)[0].permute(1, 2, 0).numpy()
    assert ssim(image, image) == pytest.approx(1)
    assert psnr(np.array([0.0]))[0] == math.inf


def test_lpips_is_there_where_its_weights_are(asked: Request, tmp_path: Path) -> None:
    from alit_cli.model.lpips import Lpips

    torch.manual_seed(0)
    model = Lpips()
    for weights in model.parameters():
        weights.data.normal_(0, 0.05).abs_()
    names = {f"features.{n}": i for i, n in enumerate((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))}
    state = {
        f"{name}.{part}": getattr(model.convolutions[i], part)
        for name, i in names.items()
        for part in ("weight", "bias")
    }
    state |= {f"lin{i}.model.1.weight": head.view(1, -1, 1, 1) for i, head in enumerate(model.heads)}
    torch.save(state, tmp_path / "lpips.pth")
    task = build(Request(**{**vars(asked), "lpips": [tmp_path / "lpips.pth"]}))
    images = smooth_images()
    seen, _ = task.look(Batch(images, np.arange(3)))
    assert [one.name for one in task.measures][-1] == "lpips"
    np.testing.assert_allclose(task.score(seen, images, 2)["lpips"], 0)
    assert (np.asarray(task.score(seen, 1 - images, 2)["lpips"]) > 0).all()


def test_baselines_cost_the_bits_of_the_tokens(asked: Request) -> None:
    images = smooth_images()
    task = build_baselines(asked)
    seen, values = task.look(Batch(images, np.arange(3)))
    autoencoder = asked.tokenizer.model.autoencoder
    assert autoencoder is not None
    base = autoencoder.reconstruct(images)
    np.testing.assert_allclose(values["base_l1"], (base - images).abs().mean(dim=(1, 2, 3)).detach(), rtol=1e-5)
    pixels = images.mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    for index, budget in enumerate(BUDGETS):
        found = task.score(seen, images, budget)
        assert set(found) == {one.name for one in task.measures}
        expected = [measure(one, (5 * budget,)).thumbnail[0] for one in pixels]
        np.testing.assert_allclose(found["thumb_l1"], expected, rtol=1e-6)
        for codec, qualities in (("jpeg", range(1, 96)), ("webp", range(101))):
            sizes = [[len(_encoded(one, codec, quality)) for quality in qualities] for one in pixels]
            nearest = [min(abs(size - 5 * budget / 8) for size in some) for some in sizes]
            miss = np.abs(np.array(found[f"{codec}_size"]) - 5 * budget / 8)
            assert (miss <= np.array(nearest) + 24).all(), codec  # sizes are not quite monotone in the quality
            if index == 0:
                assert found[f"{codec}_size"] == [some[0] for some in sizes]
    small, large = (task.score(seen, images, budget) for budget in (BUDGETS[0], BUDGETS[-1]))
    for name in ("jpeg_ssim", "jpeg_psnr", "webp_ssim"):
        assert np.mean(large[name]) > np.mean(small[name])


def _encoded(pixels: np.ndarray, codec: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    how = {"optimize": True, "subsampling": "4:2:0"} if codec == "jpeg" else {"method": 6}
    Image.fromarray(pixels).save(buffer, codec, quality=quality, **how)
    return buffer.getvalue()


def test_the_base_tokenizer_is_decoded_in_the_scale_that_its_decoder_expects(asked: Request) -> None:
    """A model whose decoder has absorbed the scale of its latents is the same model, and has the same numbers."""
    images = smooth_images()
    base = copy.deepcopy(asked.tokenizer.model.autoencoder)
    assert isinstance(base, VAE)
    base.config = dataclasses.replace(base.config, latent_scale=0.25, decode_scale=0.25)
    before = base.reconstruct(images)
    np.testing.assert_allclose(before.detach(), base.autoencode(images).reconstruction.detach(), atol=1e-6)
    with torch.no_grad():
        base.from_latent.weight /= 0.25
    base.config = dataclasses.replace(base.config, latent_scale=0.25, decode_scale=1.0)
    np.testing.assert_allclose(base.reconstruct(images).detach(), before.detach(), atol=1e-5)
    assert (base.autoencode(images).reconstruction - before).abs().mean() > 1e-3  # what used to be scored


def test_a_score_table_says_what_the_base_tokenizer_is() -> None:
    config = tiny.config()
    trained = {"stage": "base", "validation_l1": {"64": 0.0643}}
    assert base_options(Record(config, ("base", "distill", "finetune"), (trained,))) == {
        "base": "fine-tuned",
        "base_stage_l1": 0.0643,
    }
    assert base_options(Record(config, ("base", "distill"))) == {"base": "as trained"}
    assert base_options(Record(config, ("imported",))) == {"base": "imported"}
