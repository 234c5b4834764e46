"""The Python interface, on a tiny model and on the embedded one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from alit_cli import load
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import describe, embedded
from alit_cli.model.scheduler import RolloutScheduler
from alit_cli.model.tokenizer import Tokenizer
from tests.model import tiny


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return load(tiny.checkpoint(tmp_path), device="cpu")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_encode_gives_the_tokens_of_the_rollout(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    records = {record.budget: record for record in tokenizer.rollout(images)}
    assert tuple(records) == tokenizer.budgets == (2, 4, 6)
    for budget, record in records.items():
        assert record.latents.ids is not None
        assert torch.equal(torch.stack(tokenizer.encode(images, budget=budget)), record.latents.ids)
    assert all(len(ids) == 6 for ids in tokenizer.encode(images))


def test_encode_until_an_error_is_reached(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    records = list(tokenizer.rollout(images))
    errors = torch.stack([(r.reconstruction - images).abs().mean(dim=(1, 2, 3)) for r in records], dim=1)
    threshold = errors.median().item()
    for row, ids in enumerate(tokenizer.encode(images, l1=threshold)):
        fine = (errors[row] < threshold).nonzero().flatten()
        step = int(fine[0]) if len(fine) else len(records) - 1
        expected = records[step].latents.ids
        assert expected is not None
        assert torch.equal(ids, expected[row])


@pytest.mark.parametrize("codes", [32, 0], ids=["ids", "latents"])
def test_encode_until_gives_what_a_stopped_table_holds(tmp_path: Path, images: torch.Tensor, codes: int) -> None:
    tokenizer = load(tiny.checkpoint(tmp_path, codes=codes), device="cpu")
    pixels = (images * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    errors = [
        (r.reconstruction - tokenizer.as_pixels(pixels)).abs().mean(dim=(1, 2, 3)) for r in tokenizer.rollout(pixels)
    ]
    for threshold in torch.stack(errors).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist():
        encoded = tokenizer.encode(pixels, l1=threshold)
        # Three images per batch, so that batches are padded and images change places.
        scheduler = RolloutScheduler(tokenizer, tokenizer.budgets, threshold, 3)
        finished = {image.index: image for some in scheduler.run(pixels) for image in some}
        for index, tokens in enumerate(encoded):
            if codes:
                assert torch.equal(tokens, finished[index].tokens[-1])
            else:  # another number of rows in a batch rounds its products in another way
                torch.testing.assert_close(tokens, finished[index].tokens[-1])


def test_decode_takes_any_mixture_of_budgets(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    two, six = tokenizer.encode(images, budget=2), tokenizer.encode(images, budget=6)
    mixed = tokenizer.decode([two[0], six[1], two[2]])
    expected = {record.budget: record.reconstruction.clamp(0, 1) for record in tokenizer.rollout(images)}
    torch.testing.assert_close(mixed, torch.stack([expected[2][0], expected[6][1], expected[2][2]]))


def test_images_come_in_three_forms(tokenizer: Tokenizer) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    for form in (pixels, tensor, [Image.fromarray(image) for image in pixels]):
        assert torch.equal(tokenizer.as_pixels(form), tensor)


def test_wrong_input_is_said(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    for wrong in (
        lambda: tokenizer.encode(images, budget=3),
        lambda: tokenizer.encode(images, budget=2, l1=0.1),
        lambda: tokenizer.encode(images[:, :, :16]),
        lambda: tokenizer.decode([torch.tensor([0, 32])]),
        lambda: tokenizer.decode([torch.zeros(7, dtype=torch.int64)]),
        lambda: load("nowhere.safetensors"),
        lambda: load(device="cuda:99"),
    ):
        with pytest.raises(InputError):
            wrong()


def test_the_embedded_model_is_small_and_cheap() -> None:
    with embedded() as path:
        assert path.stat().st_size <= 25 * 2**20
        stages = describe(path)["stages"]
    assert tuple(dict.fromkeys(stages)) == ("base", "distill", "finetune")
    nano = load(device="cpu")
    side = nano.config.image_size
    with FlopCounterMode(display=False) as counter:
        records = list(nano.rollout(torch.zeros(1, 3, side, side)))
    assert len(records) == 8
    assert counter.get_total_flops() <= 60e9
    full_resolution = [
        m for m in nano.model.convolutions[0].modules() if isinstance(m, torch.nn.Conv2d) and m.in_channels == 3
    ]
    assert not full_resolution


def test_the_embedded_model_improves_with_every_budget_on_a_photograph() -> None:
    nano = load(device="cpu")
    photo = Image.open(Path(__file__).parents[2] / "sample_data" / "images" / "astronaut.jpg")
    pixels = nano.as_pixels([photo])
    errors = [(r.reconstruction - pixels).abs().mean().item() for r in nano.rollout(pixels)]
    flat = (pixels - pixels.mean(dim=(2, 3), keepdim=True)).abs().mean().item()
    assert errors[-1] < errors[0] < flat
