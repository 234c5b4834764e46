"""Where a run starts: sizes from the options, a base tokenizer alone, and models tiled or resampled to other sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alit_cli.config import ModelConfig, StageName
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import Record, read_alit, read_checkpoint, write_checkpoint
from alit_cli.model.layers import Block
from alit_cli.model.rollout import Alit
from alit_cli.training.crops import CROPS_MARK
from alit_cli.training.job import ModelOptions, TrainJob, claim_folder, training_job
from alit_cli.training.plan import _iteration
from alit_cli.training.recipe import recipe_for
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
    return dataclasses.replace(config, image_size=64, tokens_per_iteration=8, tiles=2)


def _job(folder: Path, model: ModelOptions) -> TrainJob:
    stages: list[StageName] = ["distill", "finetune"]
    return training_job(["photos"], folder / "mine.safetensors", model, stages, {}, {})


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
    assert (job.start.fitting, job.config.name, job.config.tiles) == ("same", "mine", 1)
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
    tiled_path = tmp_path / "tiled.safetensors"
    big, record = load_start(choose_start(small, None, {"image_size": 64, "tokens_per_iteration": 8}))
    write_checkpoint(tiled_path, big, record)
    with pytest.raises(InputError, match="made of 2×2 tiles already"):
        choose_start(tiled_path, None, {"image_size": 128, "tokens_per_iteration": 32})


@torch.no_grad()
def test_separate_tiles_see_what_the_small_model_sees(small: Path) -> None:
    """With attention kept inside the tiles, every tile of the image gives the latents of the small model."""
    old, _ = read_alit(small)
    config = _tiled_config(old.config)
    big = Alit(config).eval()
    big.load_state_dict({**big.state_dict(), **old.state_dict(), **tiled(old, 2)})
    for name, parameter in big.named_parameters():
        if name.endswith("separation"):
            parameter.fill_(1e3)  # nothing at all is seen of other tiles
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
    for part in (model.encoder, model.decoder):
        for block in part.blocks:
            assert isinstance(block, Block)
            attention = block.attention
            original = attention._bias

            def hide(apart: Tensor | None, q: Tensor, original: Any = original) -> Tensor:
                bias = original(apart, q)
                shown = torch.zeros(q.shape[-2], q.shape[-2]) if bias is None else bias.clone()
                shown[..., 1:, 0] = -1e4
                return shown

            attention._bias = hide  # type: ignore[method-assign]


def test_every_head_learns_how_far_its_tiles_are_apart() -> None:
    """Where tiles are apart by nothing, attention is the plain one; training moves the separation of every head."""
    torch.manual_seed(0)
    model = Alit(_tiled_config(tiny.config()))
    plain = tiny.model().encoder.blocks
    names = plain.load_state_dict(model.encoder.blocks.state_dict(), strict=False)
    assert all(name.endswith("attention.separation") for name in names.unexpected_keys)
    assert not names.missing_keys
    x = torch.randn(2, 1 + 64 + 8, 24)
    assert not torch.allclose(model.encoder.blocks(x), plain(x))
    separations = [p for name, p in model.encoder.blocks.named_parameters() if name.endswith("separation")]
    with torch.no_grad():
        for separation in separations:
            separation.zero_()
    torch.testing.assert_close(model.encoder.blocks(x), plain(x))
    model.encoder.blocks(x).square().sum().backward()
    for separation in separations:
        assert separation.grad is not None
        assert separation.grad.abs().min() > 0


@torch.no_grad()
def test_attention_probabilities_of_a_tiled_model_are_those_it_uses() -> None:
    model = Alit(_tiled_config(tiny.config())).eval()
    blocks = model.encoder.blocks
    x = torch.randn(2, 1 + 64 + 8, 24)
    block = next(iter(blocks))
    assert isinstance(block, Block)
    weights = blocks.attention(x, 0)
    values = block.attention._split(block.norm_attention(x))[2]
    attended = block.attention.out((weights @ values).transpose(1, 2).flatten(2))
    assert blocks.tiles is not None
    torch.testing.assert_close(block.attention(block.norm_attention(x), blocks.tiles.apart(x)), attended)
    of = blocks.tiles.of_tokens()
    other = (of[:, None] != of) & (of[:, None] >= 0) & (of >= 0)
    assert weights[..., other[: x.shape[1], : x.shape[1]]].max() < 1e-2  # e⁻¹⁰ of an equal token's weight


@torch.no_grad()
def test_tiling_is_chosen_where_the_sizes_allow_it_and_resampling_elsewhere(small: Path, tmp_path: Path) -> None:
    twice = {"image_size": 64, "tokens_per_iteration": 8}
    job = _job(tmp_path, ModelOptions(init=small, sizes=twice))
    assert (job.start.fitting, job.config.tiles) == ("tile", 2)
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
    changes = {"checkpointing": "on"}
    renamed = training_job(["photos"], job.out, ModelOptions(name="x"), ["base"], more, changes)  # type: ignore[arg-type]
    claim_folder(renamed, 5)
    with pytest.raises(InputError, match="crops 4, now 2"):
        claim_folder(training_job(["photos"], job.out, ModelOptions(), ["base"], {}, {"crops": 2}), 5)


def test_iterations_are_drawn_by_their_odds(tmp_path: Path) -> None:
    """Those of odds 0 never, the others as often as the odds say; as many odds as iterations, told before the run."""
    odds = (0.0, 1.0, 3.0)
    stages: dict[StageName, dict[str, Any]] = {"finetune": {"iteration_odds": odds}}
    recipe = recipe_for("nano", stages)
    drawn = np.bincount([_iteration(step, "finetune", recipe, 3) for step in range(1000)], minlength=3) / 1000
    np.testing.assert_allclose(drawn, np.array(odds) / sum(odds), atol=0.05)
    with pytest.raises(InputError, match="3 numbers, but the model has 8 iterations"):
        training_job(["photos"], tmp_path / "m.safetensors", ModelOptions(), ["finetune"], stages, {})
    with pytest.raises(InputError, match="not all 0"):
        recipe_for("nano", {"finetune": {"iteration_odds": (0.0, 0.0)}})
