"""Memory of a training step: gradient checkpointing changes no gradient, and the estimate is what a step takes."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

import numpy as np
import pytest
import torch

from alit_cli.config import StageName
from alit_cli.model.lpips import Lpips
from alit_cli.model.rollout import Alit
from alit_cli.training import memory
from alit_cli.training.crops import CachedCrops
from alit_cli.training.distributed import Distributed
from alit_cli.training.memory import LiveBytes, plan_memory, step_memory
from alit_cli.training.plan import plan_step
from alit_cli.training.recipe import Recipe, StageRecipe
from alit_cli.training.stages.stage import Stage
from alit_cli.training.train import STAGE_CLASSES
from tests.model import tiny

STEPS = StageRecipe(steps=8, batch_size=4, precision="float32")
RECIPE = Recipe(STEPS, STEPS, STEPS, crops=1, gan=("base", "finetune"), gan_schedule=((0.0, 0.5),), critic_steps=1)
RECIPE_WITHOUT_CRITIC = dataclasses.replace(RECIPE, gan=())
SAMPLED = dataclasses.replace(RECIPE, iterations="sampled", halting=False, grad_window=2, train_base_encoder=False)


def _stage(name: StageName, recipe: Recipe, kind: Literal["vae", "vqgan"] = "vqgan", lpips: bool = True) -> Stage:
    config = tiny.config(kind)
    side = config.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (6, side, side, 3), dtype=np.uint8)
    torch.manual_seed(0)
    stage = STAGE_CLASSES[name](Alit(config).train(), recipe, CachedCrops(pixels, 1, pixels[:0]), Distributed())
    if lpips and hasattr(stage, "pixels"):
        stage.pixels.lpips = Lpips()
        for head in stage.pixels.lpips.heads:
            head.data.fill_(0.1)
    return stage


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("base", RECIPE), ("distill", RECIPE), ("distill", SAMPLED), ("finetune", RECIPE), ("finetune", SAMPLED)],
    ids=["base", "distill all", "distill sampled", "finetune", "finetune window"],
)
@pytest.mark.parametrize("kind", ["vae", "vqgan"])
def test_checkpointing_changes_no_loss_and_no_gradient(
    name: StageName, recipe: Recipe, kind: Literal["vae", "vqgan"]
) -> None:
    found = []
    for checkpointing in (False, True):
        stage = _stage(name, recipe, kind)
        stage.checkpoint(checkpointing)
        plan = plan_step(6, name, recipe, stage.model.config.iterations, stage.crops)
        with LiveBytes() as tracker:
            losses = stage.step(stage.crops.batch(plan.rows, torch.device("cpu")), plan)
            losses.total.backward()
        gradients = {key: p.grad for key, p in stage.model.named_parameters() if p.grad is not None}
        # What was counted by the way must not be counted twice.
        counts = stage.keeper.counts if hasattr(stage, "keeper") else torch.zeros(1)
        found.append((losses.total.item(), gradients, counts, tracker.peak))
    (plain, expected, counted, most), (light, gradients, again, less) = found
    assert light == pytest.approx(plain, abs=1e-6)
    assert expected.keys() == gradients.keys() and expected
    for key, gradient in expected.items():
        torch.testing.assert_close(gradients[key], gradient, rtol=1e-6, atol=1e-6)
    assert torch.equal(counted, again)
    assert less < most


@pytest.mark.parametrize("name", ["base", "distill", "finetune"])
def test_the_estimate_is_what_a_step_takes(name: StageName) -> None:
    """A step of fake tensors has the peak of a real one, up to the few buffers that only one of them makes."""
    estimates = list(step_memory(STAGE_CLASSES[name], name, tiny.config("vqgan"), RECIPE, 4, False, "float32"))
    for checkpointing, estimate in zip((False, True), estimates, strict=True):
        stage = _stage(name, RECIPE, lpips=False)
        stage.model.requires_grad_(False)
        for module in stage.trained():
            module.requires_grad_(True)
        stage.checkpoint(checkpointing)
        plan = plan_step(7, name, RECIPE, 3, stage.crops)
        if name != "base":
            plan = dataclasses.replace(plan, iteration=2, reads=(0, 1, 2))
        with LiveBytes() as tracker:
            tracker.ignore(stage.model)
            if hasattr(stage, "pixels"):
                tracker.ignore(stage.pixels.critics)
            losses = stage.step(stage.crops.batch(plan.rows, torch.device("cpu")), plan)
            losses.total.backward()
        assert estimate.step == pytest.approx(tracker.peak, rel=0.1)
    weights = sum(4 * p.numel() for p in Alit(tiny.config("vqgan")).parameters())
    assert estimates[0].weights >= 2 * weights


def test_auto_checkpoints_where_a_step_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, light = step_memory(STAGE_CLASSES["distill"], "distill", tiny.config("vqgan"), RECIPE, 4, False, "float32")

    def planned(free: int, checkpointing: Literal["auto", "on", "off"] = "auto") -> tuple[bool, str]:
        monkeypatch.setattr(memory, "free_memory", lambda device: free)
        recipe = dataclasses.replace(RECIPE, checkpointing=checkpointing)
        plan = plan_memory(_stage("distill", recipe), 4, "float32")
        return plan.checkpointing, plan.sentence

    much = 2 * plain.total
    said = r"distill: about .* GiB per process for 4 photographs at a time; with checkpointing .* GiB"
    assert planned(much)[0] is False
    assert planned(much, "on")[0] is True
    on, sentence = planned(light.total)
    assert on and sentence.endswith("; it is on")
    assert re.match(said, sentence)
    on, sentence = planned(light.total // 100)
    assert on and sentence.endswith("give --accumulate 2")
    on, sentence = planned(light.total // 100, "off")
    assert not on and sentence.endswith("give --checkpointing on")


def test_a_failing_estimate_stops_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise NotImplementedError("an operation without a fake kernel")

    monkeypatch.setattr(memory, "step_memory", fails)
    plan = plan_memory(_stage("distill", dataclasses.replace(RECIPE, checkpointing="on")), 4, "float32")
    assert plan.checkpointing
    assert plan.sentence == "distill: its memory cannot be estimated (an operation without a fake kernel)"


def test_an_estimate_leaves_nothing_without_values_behind() -> None:
    """The mask between tiles is cached by its size, so the estimate's could come to the real model of that size."""
    torch.manual_seed(0)
    config = dataclasses.replace(tiny.config("vae"), tokens_per_iteration=4, tiles=2)
    pixels = np.zeros((4, config.image_size, config.image_size, 3), dtype=np.uint8)
    crops = CachedCrops(pixels, 1, pixels[:0])
    stage = STAGE_CLASSES["finetune"](Alit(config).train(), RECIPE_WITHOUT_CRITIC, crops, Distributed())
    assert "cannot be estimated" not in plan_memory(stage, 4, "float32").sentence
    plan = plan_step(0, "finetune", RECIPE_WITHOUT_CRITIC, config.iterations, crops)
    losses = stage.step(crops.batch(plan.rows, torch.device("cpu")), plan)
    assert losses.total.item() > 0  # a tensor without values has no item
