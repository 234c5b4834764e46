"""Where a run starts: sizes from the options, a base tokenizer alone, and models tiled or resampled to other sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from alit_cli.config import ModelConfig
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record, read_alit, read_checkpoint, write_checkpoint
from alit_cli.model.layers import Block
from alit_cli.model.rollout import Alit
from alit_cli.training.crops import CROPS_MARK
from alit_cli.training.job import ModelOptions, TrainJob, claim_folder, training_job
from alit_cli.training.recipe import StageName
from alit_cli.training.stages.tiles import HOLD, SEPARATION, TileSeparation
from alit_cli.training.start import choose_start, load_start, tiled
from tests.model import tiny


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A whole model of 32 pixels and 2 tokens per iteration."""
    path = tmp_path / "small.safetensors"
    torch.manual_seed(0)
    model = Alit(tiny.config())
    write_checkpoint(path, model, Record(model.config, ("base", "distill", "finetune"), ({"preset": "nano"},)))
    return path


def _tiled_config(config: ModelConfig) -> ModelConfig:
    return dataclasses.replace(config, image_size=64, tokens_per_iteration=8)


def _job(folder: Path, model: ModelOptions, release_steps: int | None = None) -> TrainJob:
    stages: list[StageName] = ["distill", "finetune"]
    return training_job(["photos"], folder / "mine.safetensors", model, stages, {}, {}, release_steps)


def test_sizes_and_name_come_from_the_options(tmp_path: Path) -> None:
    sizes = {"image_size": 256, "tokens_per_iteration": 32, "width": 192, "layers": 4, "heads": 6, "codes": None}
    job = training_job(["photos"], tmp_path / "mine.safetensors", ModelOptions(sizes=sizes), ["base"], {}, {})
    config = job.config
    assert (config.image_size, config.width, config.layers, config.heads, config.codes) == (256, 192, 4, 6, 4096)
    assert config.budgets == (32, 64, 96, 128, 160, 192, 224, 256)
    assert (config.name, job.start.preset) == ("mine", "nano")
    named = ModelOptions(name="given")
    assert training_job(["photos"], tmp_path / "x.safetensors", named, ["base"], {}, {}).config.name == "given"


def test_a_base_tokenizer_alone_gets_fresh_transformers_of_any_size(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    model = tiny.model()
    write_checkpoint(path, model, Record(model.config, ("base",)))
    start = choose_start(path, "nano", {"image_size": 64, "width": 32, "heads": 2})
    built, record = load_start(start)
    assert (start.fitting, built.config.image_size, built.config.width) == ("base", 64, 32)
    assert built.config.base == model.config.base
    assert record.stages == ("base",)
    for name, tensor in model.base.state_dict().items():
        assert torch.equal(built.base.state_dict()[name], tensor)


def test_a_whole_model_goes_on_as_it_is(small: Path, tmp_path: Path) -> None:
    job = _job(tmp_path, ModelOptions(init=small))
    assert (job.start.fitting, job.config.name, job.recipe.tiles) == ("same", "mine", 1)
    # Trained transformers need no first lesson, and their codebook stays in use.
    recipe = job.recipe
    assert (recipe.parallel_until, recipe.full_rollouts_from, recipe.quantize_from) == (0, 0, 0)
    assert recipe.continue_transformers
    model, _ = load_start(job.start)
    assert model.config.name == "mine"
    for name, tensor in read_checkpoint(small).model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_what_does_not_fit_is_refused_in_a_sentence(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="width 24, which cannot become 32"):
        choose_start(small, None, {"width": 32})
    with pytest.raises(InputError, match="cannot be tiled"):
        choose_start(small, None, {"image_size": 48}, fit="tile")
    with pytest.raises(InputError, match="--release-tiles needs"):
        _job(tmp_path, ModelOptions(init=small), release_steps=10)


@torch.no_grad()
def test_separate_tiles_see_what_the_small_model_sees(small: Path) -> None:
    """With attention kept inside the tiles, every tile of the image gives the latents of the small model."""
    old, _ = read_alit(small)
    config = _tiled_config(old.config)
    big = Alit(config).eval()
    big.load_state_dict({**old.state_dict(), **tiled(old, 2)})
    # Without the vectors that tell tiles apart, and without the class token, which sees all tiles.
    for part, model in ((big.encoder, old.encoder), (big.decoder, old.decoder)):
        side, m = old.config.grid_side, old.config.tokens_per_iteration
        grid = model.positions[1:].view(side, side, -1).repeat(2, 2, 1).flatten(0, 1)
        part.positions.copy_(torch.cat([part.positions[:1], grid]))
    big.encoder.latent_positions.copy_(old.encoder.latent_positions.repeat(4, 1))
    latents = old.decoder.latent_positions.view(3, 1, m, -1).expand(3, 4, m, -1)
    big.decoder.latent_positions.copy_(latents.reshape(-1, config.width))
    separation = TileSeparation(config, 2, steps=100)
    separation.strength = 1e4
    separation.attach(big)
    _hide_class_token(old)
    _hide_class_token(big)
    images = torch.rand(1, 3, 64, 64)
    quarters = torch.cat([images[:, :, y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)])
    features = old.base.encode(quarters)
    whole = torch.cat([torch.cat([*features[:2]], dim=2), torch.cat([*features[2:]], dim=2)], dim=1)[None]
    pairs = zip(big.iterate(big.start(images, whole)), old.iterate(old.start(quarters, features)), strict=True)
    for mine, theirs in pairs:
        tiles = mine.values[0].view(-1, 4, 2, config.token_dim).transpose(0, 1).flatten(1, 2)
        torch.testing.assert_close(tiles, theirs.values, atol=1e-5, rtol=1e-4)
        predicted = big.decoder(mine.vectors)[0].view(2, 4, 2, 4, -1).permute(0, 2, 1, 3, 4).flatten(2, 3).flatten(0, 1)
        torch.testing.assert_close(predicted, old.decoder(theirs.vectors), atol=1e-5, rtol=1e-4)


def _hide_class_token(model: Alit) -> None:
    """Let no token look at the class token, of which a tiled model has one and its copies have four."""

    def hide(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        length = args[0].shape[1]
        bias = kwargs.get("bias", torch.zeros(length, length)).clone()
        bias[1:, 0] = -1e4
        return args, {**kwargs, "bias": bias}

    for part in (model.encoder, model.decoder):
        for block in part.blocks:
            assert isinstance(block, Block)
            block.attention.register_forward_pre_hook(hide, with_kwargs=True)


def test_the_separation_of_tiles_ends(small: Path) -> None:
    import copy

    model, _ = read_alit(small)
    separation = TileSeparation(_tiled_config(model.config), 2, steps=200)
    separation.attach(model)
    ema = copy.deepcopy(model)
    x = torch.rand(1, 1 + 64 + 8, 24)
    free = tiny.model().encoder.blocks
    free.load_state_dict(model.encoder.blocks.state_dict())
    assert separation.strength == SEPARATION
    assert not torch.allclose(model.encoder.blocks(x), free(x))
    separation.set_step(100)
    assert separation.strength == SEPARATION / 2
    separation.set_step(100 + HOLD - 1)
    assert separation.strength == SEPARATION / 2
    separation.set_step(200)
    for blocks in (model.encoder.blocks, ema.encoder.blocks):  # a deep copy is released with it
        assert torch.equal(blocks(x), free(x))


@torch.no_grad()
def test_tiling_is_chosen_where_the_sizes_allow_it_and_resampling_elsewhere(small: Path, tmp_path: Path) -> None:
    twice = {"image_size": 64, "tokens_per_iteration": 8}
    job = _job(tmp_path, ModelOptions(init=small, sizes=twice), release_steps=30)
    assert (job.start.fitting, job.recipe.tiles, job.recipe.release_steps) == ("tile", 2, 30)
    assert "32 px, 2 tokens per iteration" in job.start.sentence
    assert "tiled 2×2" in job.start.sentence
    images = torch.rand(2, 3, 64, 64)
    for options in (twice, {"image_size": 64, "tokens_per_iteration": 5, "iterations": 4}):
        start = choose_start(small, None, options, fit="resample")
        model, record = load_start(start)
        assert (start.fitting, record.config) == ("resample", start.config)
        assert [r.budget for r in model.eval().rollout(images)] == list(start.config.budgets)
    assert choose_start(small, None, {"image_size": 48}).fitting == "resample"


@torch.no_grad()
def test_resampling_to_the_same_sizes_changes_nothing(small: Path) -> None:
    from alit_cli.training.start import resampled

    old, _ = read_alit(small)
    for name, tensor in resampled(old, old.config).items():
        torch.testing.assert_close(tensor, old.state_dict()[name], msg=name)


def test_a_run_of_an_earlier_release_is_recognized(tmp_path: Path) -> None:
    """Its job.json has the old names of recipe keys; memory and the model's name may change, steps may not."""
    job = training_job(["photos"], tmp_path / "m.safetensors", ModelOptions(), ["base"], {}, {})
    claim_folder(job, 5)
    path = job.work / "job.json"
    text = path.read_text()
    for old, new in (("late", "late_bias"), ("views", "crops"), ("rollouts_from", "full_rollouts_from")):
        assert f'"{new}"' in text
        text = text.replace(f'"{new}"', f'"{old}"')
    path.write_text(text)
    (job.work / CROPS_MARK).write_text("{}")
    more = {"base": {"accumulate": 3}}
    renamed = training_job(["photos"], job.out, ModelOptions(name="x"), ["base"], more, {})  # type: ignore[arg-type]
    claim_folder(renamed, 5)
    with pytest.raises(InputError, match="crops 4, now 2"):
        claim_folder(training_job(["photos"], job.out, ModelOptions(), ["base"], {}, {"crops": 2}), 5)
