"""The arithmetic of a training stage, counted without values, is that of real steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alit_cli.config import StageName
from alit_cli.model.arithmetic import count_flop
from alit_cli.model.layers import Linear
from alit_cli.model.rollout import Alit
from alit_cli.training import arithmetic
from alit_cli.training.arithmetic import STEPS_COUNTED, flop_per_photograph
from alit_cli.training.crops import CachedCrops
from alit_cli.training.distributed import Distributed
from alit_cli.training.plan import plan_step
from alit_cli.training.recipe import Recipe, StageRecipe
from alit_cli.training.stages.distill import DistillStage
from alit_cli.training.stages.finetune import FinetuneStage
from alit_cli.training.train import STAGE_CLASSES
from tests.model import tiny

STEPS = StageRecipe(steps=STEPS_COUNTED, batch_size=2, precision="float32")
RECIPE = Recipe(STEPS, STEPS, STEPS, crops=1, gan=(), gan_schedule=((0.0, 0.5),), critic_steps=3)
MANY = 1 << 40  # photographs, too many to keep their features


@pytest.mark.parametrize("name", ["base", "distill", "finetune"])
def test_a_stage_takes_about_three_times_its_forward_passes(name: StageName) -> None:
    config = tiny.config("vqgan")
    pixels = np.zeros((2, config.image_size, config.image_size, 3), dtype=np.uint8)
    stage = STAGE_CLASSES[name](Alit(config).train(), RECIPE, CachedCrops(pixels, 1, pixels[:0]), Distributed())
    if isinstance(stage, DistillStage | FinetuneStage) and stage.features is not None:
        stage.features.store = None  # of so few photographs, features would be kept
    forward = []
    with torch.no_grad():
        batch = stage.crops.batch(np.arange(2), torch.device("cpu"))
        for step in range(STEPS_COUNTED):
            plan = plan_step(step, name, RECIPE, config.iterations, stage.crops)
            forward.append(count_flop(lambda plan=plan: stage.step(batch, plan)))  # type: ignore[misc]
        base = stage.model.base
        # Distillation makes the grid and its ids once and has no gradients there.
        frozen = count_flop(lambda: base.target(base.encode(batch.images))) if name == "distill" else 0
    whole = np.mean(forward) / 2
    counted = flop_per_photograph(STAGE_CLASSES[name], name, config, RECIPE, MANY, 1)
    assert counted is not None
    # The distances to codes and the first convolution have less to do on the way back, and attention more.
    assert counted == pytest.approx(3 * (whole - frozen / 2) + frozen / 2, rel=0.12)
    if name == "distill":
        # Features that are kept cost nothing but their first use.
        kept = flop_per_photograph(STAGE_CLASSES[name], name, config, RECIPE, 10, 1)
        encoder = count_flop(lambda: base.encode(batch.images)) / 2
        assert kept == pytest.approx(counted - encoder)
    else:
        critic = flop_per_photograph(
            STAGE_CLASSES[name], name, config, dataclasses.replace(RECIPE, gan=(name,)), MANY, 1
        )
        assert critic is not None and critic > counted + 2.5 * whole  # three updates of the critic


def test_arithmetic_that_cannot_be_counted_stops_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no fake tensors")

    monkeypatch.setattr(arithmetic, "fake_stage", fails)
    assert flop_per_photograph(STAGE_CLASSES["base"], "base", tiny.config(), RECIPE, MANY, 1) is None


def test_products_of_every_kernel_are_counted() -> None:
    q = torch.rand(2, 3, 5, 4, requires_grad=True)
    k, v = torch.rand(2, 3, 7, 4), torch.rand(2, 3, 7, 4)
    product = 2 * 2 * 3 * 5 * 7 * 4
    with torch.no_grad():
        assert count_flop(lambda: F.scaled_dot_product_attention(q, k, v)) == 2 * product
        layer = Linear(6, 4)
        assert count_flop(lambda: layer(torch.rand(5, 6))) == 2 * 5 * 6 * 4
    out = F.scaled_dot_product_attention(q, k, v)
    assert count_flop(lambda: out.sum().backward()) == 5 * product
