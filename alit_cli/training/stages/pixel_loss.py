"""What is wrong with a reconstruction, for the stages that train on pixels: L1, perceptual and adversarial terms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.model.device import autocast
from alit_cli.model.lpips import load_lpips
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.optimizers import CriticOptimizer
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe, StageName
from alit_cli.training.speed import training_precision
from alit_cli.training.stages.critic import PatchCritic, adaptive_weight, critic_loss, generator_loss
from alit_cli.training.stages.stage import Losses


class PixelLoss:
    """L1, LPIPS where its weights are given, and a critic for every iteration where the recipe has one.

    The critics, their optimizer and LPIPS live here: they are no part of the model or its checkpoint.

    Args:
        recipe: of the whole run.
        stage: whose steps and learning rate count.
        critics: how many (one per iteration; one for a base tokenizer).
        crops: where the critics' own batches come from.
        distributed: who takes part.
    """

    def __init__(
        self, recipe: Recipe, stage: StageName, critics: int, crops: CropDataset, distributed: Distributed
    ) -> None:
        self.recipe, self.stage = recipe, recipe.stage(stage)
        self.crops, self.distributed = crops, distributed
        self.precision = training_precision(self.stage.precision, distributed.device)
        self.lpips = None
        if recipe.lpips:
            stretched = recipe.lpips_range == "-1,1"
            self.lpips = load_lpips([Path(file) for file in recipe.lpips], stretched).to(distributed.device)
        self.critics: nn.ModuleList | None = None
        self.last_critic_loss = 0.0
        if stage in recipe.gan:
            torch.manual_seed(recipe.seed)  # the same critics in every process
            self.critics = nn.ModuleList(PatchCritic() for _ in range(critics)).to(distributed.device)
            self.optimizer = CriticOptimizer(self.critics.parameters(), recipe.critic, self.stage)

    def __call__(self, plan: StepPlan, reconstruction: Tensor, images: Tensor, last_layer: nn.Parameter) -> Losses:
        """The loss of reconstructions; its parts are l1, and lpips, gan and critic where they are used.

        Args:
            plan: of the step; the critic of its iteration judges.
            reconstruction: b 3 h w, unclamped.
            images: b 3 h w.
            last_layer: where the adversarial term is weighed against the others.
        """
        total = l1 = F.l1_loss(reconstruction, images)
        parts = {"l1": l1.detach()}
        if self.lpips is not None:
            perceptual = self.lpips(reconstruction, images).mean()
            total = total + self.recipe.perceptual_weight * perceptual
            parts["lpips"] = perceptual.detach()
        weight = self._adversarial_weight(plan)
        if self.critics is not None and weight:
            adversarial = generator_loss(self.critics[plan.iteration](reconstruction))
            balance = adaptive_weight(total, adversarial, last_layer)
            total = total + weight * balance * adversarial
            parts |= {"gan": adversarial.detach(), "critic": torch.tensor(self.last_critic_loss)}
        return Losses(total, parts)

    def train_critic(self, plan: StepPlan, reconstruct: Callable[[Batch], Tensor]) -> None:
        """A step's critic updates, each on photographs of its own, before the tokenizer takes its step."""
        if self.critics is None or not self._adversarial_weight(plan):
            return
        network, parameters = self.critics[plan.iteration], list(self.critics[plan.iteration].parameters())
        for rows in plan.critic_rows:
            batch = self.crops.batch(self.distributed.shard(rows), self.distributed.device)
            with autocast(self.distributed.device, self.precision):
                # The critic learns from reconstructions; the tokenizer must not learn in its step.
                with torch.no_grad():
                    fake = reconstruct(batch)
                # Weighted by this process's part of the batch, as gradients are summed over processes.
                loss = critic_loss(network(batch.images), network(fake)) * len(batch.rows) / len(rows)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.last_critic_loss = self.distributed.sum_gradients(parameters, loss.detach().reshape(1)).item()
            self.optimizer.update(plan.step, parameters)

    def state(self) -> dict[str, Any]:
        """The critics and their optimizer."""
        if self.critics is None:
            return {}
        return {"critics": self.critics.state_dict(), "critic_optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        if self.critics is not None:
            self.critics.load_state_dict(state["critics"])
            self.optimizer.load_state_dict(state["critic_optimizer"])

    def _adversarial_weight(self, plan: StepPlan) -> float:
        return self.recipe.adversarial_weight(plan.share)
