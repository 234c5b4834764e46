"""How much arithmetic a stage takes per photograph, counted in steps of tensors that have sizes but no values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from alit_cli.config import ModelConfig, StageName
from alit_cli.model.arithmetic import count_flop
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.memory import MakeStage, fake_stage, without_values
from alit_cli.training.plan import StepPlan, plan_step
from alit_cli.training.recipe import Recipe
from alit_cli.training.stages.base import BaseStage
from alit_cli.training.stages.finetune import FinetuneStage
from alit_cli.training.stages.stage import Stage

STEPS_COUNTED = 8
"""Steps that stand for a stage, spread over it. Fine-tuning of the paper takes eight iterations in turn."""
PHOTOGRAPHS = 2
"""In each of them; the critic's BatchNorm needs more than one."""


class EmptyCrops(CropDataset):
    """As many photographs as there are, all of them empty.

    Args:
        photos, per_photo: as CropDataset has them.
        side: of a crop, in pixels.
    """

    def __init__(self, photos: int, per_photo: int, side: int) -> None:
        super().__init__()
        self.photos, self.per_photo, self.side = photos, per_photo, side

    def order(self, epoch: int, seed: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The first rows, as it does not matter which."""
        return np.arange(PHOTOGRAPHS, dtype=np.int64)

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch:
        """Pixels that are 0."""
        return Batch(np.sort(rows), torch.zeros(len(rows), 3, self.side, self.side))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Never called."""
        raise NotImplementedError


class NoUpdates:
    """Stands for the optimizer of the critics, whose arithmetic is no product."""

    def zero_grad(self, set_to_none: bool) -> None:
        """Nothing."""

    def update(self, step: int, parameters: list[nn.Parameter]) -> None:
        """Nothing."""


def flop_per_photograph(
    make: MakeStage, name: StageName, config: ModelConfig, recipe: Recipe, photos: int, per_photo: int
) -> float | None:
    """Floating-point operations of the forward and backward passes of a stage, per photograph of its batches.

    It is the mean over some steps of the stage, with the critic's updates, which take photographs of their own. Not
    counted are: what gradient checkpointing computes again, and the second pass that --accumulate takes with a critic;
    k-means and the optimizers; the base tokenizer's encoder where its features are kept from the first use on.

    Args:
        make: the stage's class.
        name: the stage.
        config: the model.
        recipe: of the whole run.
        photos, per_photo: photographs to train on, and crops of each, which decide whether features are kept.

    Returns: None where it could not be counted.
    """
    try:
        return _mean(make, name, config, recipe, EmptyCrops(photos, per_photo, config.image_size))
    # Fake tensors are no public part of torch. Whatever may happen to them must not cost anybody a training.
    except Exception:
        return None


def _mean(make: MakeStage, name: StageName, config: ModelConfig, recipe: Recipe, crops: EmptyCrops) -> float:
    small = dataclasses.replace(recipe.stage(name), batch_size=PHOTOGRAPHS)
    changed: dict[str, Any] = {name: small, "decoder_precision": None}
    recipe = dataclasses.replace(recipe, **changed)
    found: dict[object, int] = {}
    flop = []
    with without_values():
        stage, _ = fake_stage(make, name, config, recipe, crops, "float32")
        features = getattr(stage, "features", None)
        if features is not None:
            features.known[:] = True
        if isinstance(stage, BaseStage | FinetuneStage):
            stage.pixels.optimizer = NoUpdates()  # type: ignore[assignment]
        for number in range(STEPS_COUNTED):
            plan = plan_step(_step(number, small.steps, config.iterations), name, recipe, config.iterations, crops)
            # Steps that differ in nothing that costs arithmetic are counted once.
            kind = plan.reads, plan.trained, plan.iteration, len(plan.critic_rows)
            if name == "base":
                kind = ((), (), 0, len(plan.critic_rows))
            if kind not in found:
                found[kind] = count_flop(lambda plan=plan: _run(stage, plan))  # type: ignore[misc]
            flop.append(found[kind])
    return sum(flop) / len(flop) / PHOTOGRAPHS


def _step(number: int, steps: int, iterations: int) -> int:
    """Step of a number up to STEPS_COUNTED: spread over the stage, and over the iterations that it takes in turn."""
    spread = int((number + 0.5) / STEPS_COUNTED * steps)
    return max(0, min(steps - 1, spread // iterations * iterations + number % iterations))


def _run(stage: Stage, plan: StepPlan) -> None:
    batch = stage.crops.batch(plan.rows, torch.device("cpu"))
    if isinstance(stage, BaseStage | FinetuneStage):
        # A step at which no codebook is filled or revived; the critic takes part by its share of the steps.
        for _ in stage.prepare(dataclasses.replace(plan, step=1), stage.model, [batch]):
            pass
    stage.step(batch, plan).total.backward()
