"""What is wrong with a reconstruction, for the stages that train on pixels: L1, perceptual and adversarial terms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.model.device import autocast, choose_precision
from alit_cli.model.lpips import load_lpips
from alit_cli.training.crops import Batch, Views
from alit_cli.training.distributed import Processes
from alit_cli.training.recipe import Recipe, StageName
from alit_cli.training.stages.critic import PatchCritic, adaptive_weight, critic_loss, generator_loss


class PixelLoss:
    """L1, LPIPS where its weights are given, and a critic for every iteration where the recipe has one.

    The critics, their optimizer and LPIPS live here: they are no part of the model or its checkpoint.

    Args:
        recipe: of the whole run.
        stage: whose steps and learning rate count.
        critics: how many (one an iteration; one for a base tokenizer).
        views: where the critics' own batches come from.
        processes: who takes part.
    """

    def __init__(self, recipe: Recipe, stage: StageName, critics: int, views: Views, processes: Processes) -> None:
        self.recipe, self.stage = recipe, recipe.stage(stage)
        self.views, self.processes = views, processes
        self.precision = choose_precision(self.stage.precision, processes.device)
        self.lpips = load_lpips([Path(file) for file in recipe.lpips]).to(processes.device) if recipe.lpips else None
        self.critics: nn.ModuleList | None = None
        self.critic_loss = 0.0
        if stage in recipe.gan:
            torch.manual_seed(recipe.seed)
            self.critics = nn.ModuleList(PatchCritic() for _ in range(critics)).to(processes.device)
            self.optimizer = torch.optim.AdamW(
                self.critics.parameters(), lr=self.stage.learning_rate, betas=(0.5, 0.9), weight_decay=0.0
            )

    def __call__(
        self, step: int, critic: int, reconstruction: Tensor, images: Tensor, last_layer: nn.Parameter
    ) -> dict[str, Tensor]:
        """The loss of reconstructions (b 3 h w, unclamped) and its parts: total, l1, and lpips and gan where used.

        Args:
            step: of the stage.
            critic: whose judgement counts.
            reconstruction, images: b 3 h w.
            last_layer: where the adversarial term is weighed against the others.
        """
        l1 = F.l1_loss(reconstruction, images)
        total, parts = l1, {"l1": l1.detach()}
        if self.lpips is not None:
            perceptual = self.lpips(reconstruction, images).mean()
            total = total + self.recipe.perceptual_weight * perceptual
            parts["lpips"] = perceptual.detach()
        weight = self._weight(step)
        if self.critics is not None and weight:
            adversarial = generator_loss(self.critics[critic](reconstruction))
            balance = adaptive_weight(total, adversarial, last_layer)
            total = total + weight * balance * adversarial
            parts |= {"gan": adversarial.detach(), "critic": torch.tensor(self.critic_loss)}
        return {"total": total, **parts}

    def train_critic(self, step: int, critic: int, reconstruct: Callable[[Batch], Tensor]) -> None:
        """A step's critic updates, each on photographs of its own, before the tokenizer takes its step."""
        if self.critics is None or not self._weight(step):
            return
        network, parameters = self.critics[critic], list(self.critics[critic].parameters())
        for number in range(self.recipe.critic_steps):
            rng = np.random.default_rng([self.recipe.seed, step, 2, number])
            photos = rng.choice(self.views.photos, min(self.stage.batch_size, self.views.photos), replace=False)
            rows = photos * self.views.views + rng.integers(self.views.views, size=len(photos))
            batch = self.views.batch(self.processes.share(rows), self.processes.device)
            with autocast(self.processes.device, self.precision):
                with torch.no_grad():
                    fake = reconstruct(batch)
                loss = critic_loss(network(batch.images), network(fake)) * len(batch.rows) / len(rows)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.critic_loss = self.processes.add_gradients(parameters, loss.detach().reshape(1)).item()
            self.optimizer.step()

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

    def _weight(self, step: int) -> float:
        """The adversarial weight at a step: that of the last mark of the schedule already passed."""
        done = step / self.stage.steps
        return next((weight for share, weight in reversed(self.recipe.gan_schedule) if done >= share), 0.0)
