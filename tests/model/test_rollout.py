"""Properties of the rollout for any configuration."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from alit_cli.config import SIZES, ModelConfig, preset
from alit_cli.errors import InputError
from alit_cli.model.initialization import sincos
from alit_cli.model.rollout import Alit
from tests.model import tiny


@torch.no_grad()
@pytest.mark.parametrize(("side", "m", "iterations"), [(32, 2, 3), (48, 1, 5), (16, 7, 2)])
@pytest.mark.parametrize("kind", ["vae", "vqgan"])
@pytest.mark.parametrize("codes", [0, 8])
def test_any_side_iterations_and_tokens(kind: str, codes: int, side: int, m: int, iterations: int) -> None:
    config = dataclasses.replace(
        tiny.config("vae" if kind == "vae" else "vqgan", codes),
        image_size=side,
        tokens_per_iteration=m,
        iterations=iterations,
    )
    images = torch.rand(2, 3, side, side)
    records = list(Alit(config).eval().rollout(images))
    assert [record.budget for record in records] == [m * (t + 1) for t in range(iterations)]
    for record in records:
        assert record.reconstruction.shape == images.shape
        assert record.latents.values.shape == (2, record.budget, config.token_dim)


@torch.no_grad()
def test_stored_ids_decode_to_the_same_picture() -> None:
    model = tiny.model()
    for record in model.rollout(torch.rand(3, 3, 32, 32)):
        assert record.latents.ids is not None
        assert torch.equal(model.decode(model.vectors(record.latents.ids)), record.reconstruction)


@torch.no_grad()
def test_images_of_a_batch_do_not_mix() -> None:
    model, images = tiny.model(), torch.rand(4, 3, 32, 32)
    state = model.encoder.advance(model.start(images))
    kept = torch.tensor([False, True, False, True])
    few = model.read(model.encoder.advance(state.take(kept)))
    all_ = model.read(model.encoder.advance(state))
    torch.testing.assert_close(few.values, all_.values[kept])


def test_reference_sizes() -> None:
    for name, (width, layers, heads) in SIZES.items():
        config = preset(name)
        assert (config.width, config.layers, config.heads) == (width, layers, heads)
        assert config.budgets == (32, 64, 96, 128, 160, 192, 224, 256)
        assert config.grid_tokens == 256
    assert preset("small", "vae", continuous=True).codes == 0


@pytest.mark.parametrize(
    "change", [{"image_size": 33}, {"heads": 5}, {"width": 4}, {"codes": 70000}, {"iterations": 0}]
)
def test_impossible_configurations_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(tiny.config(), **change)  # type: ignore[arg-type]


def test_configuration_survives_json() -> None:
    import json

    config = preset("nano")
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("side", [8, 16])
def test_near_places_are_told_apart_and_look_more_alike_than_far_ones(side: int) -> None:
    rows = torch.arange(side)
    places = sincos(rows, torch.zeros(side), 128, side)
    alike = places[0] @ places.T / (places[0] @ places[0])
    assert (alike[:5].diff() < 0).all()
    assert alike[4:].max() < alike[3]
    assert alike[1] < 0.97


def test_places_are_on_the_device_of_their_numbers() -> None:
    """`torch.device("meta")` as a block reaches not every function after transformers has loaded a network."""
    rows = torch.arange(4, device="meta")
    assert sincos(rows, rows, 16, 4).is_meta
