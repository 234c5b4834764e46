"""What is wrong with a reconstruction, for the stages that train on pixels: L1, perceptual and adversarial terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.config import StageName
from alit_cli.model.device import autocast
from alit_cli.model.layers import checkpointed
from alit_cli.model.lpips import load_lpips
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.optimizers import CriticOptimizer
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe
from alit_cli.training.speed import training_precision
from alit_cli.training.stages.critic import PatchCritic, adaptive_weight, critic_loss, generator_loss
from alit_cli.training.stages.stage import Losses, pieces_of


class PixelLoss:
    """L1, LPIPS where its weights are given, and a critic for every iteration where the recipe has one.

    With `checkpointing`, what LPIPS sees is computed again for the backward pass. The critic is small, and its running
    statistics must not move twice.

    The critics, their optimizer and LPIPS live here: they are no part of the model or its checkpoint.

    Args:
        recipe: of the whole run.
        stage: whose steps and learning rate count.
        critics: how many (one per iteration; one for a base tokenizer).
        crops: where the critics' own batches come from.
        distributed: who takes part.
    """

    checkpointing = False

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
        # For the log; on the device, so that nobody waits for them.
        self.last_critic_loss = self.last_adversarial_loss = torch.zeros((), device=distributed.device)
        # What `judge` found, by the rows of the piece: the value and the gradient of the balanced adversarial loss.
        self.judged: dict[bytes, tuple[Tensor, Tensor]] = {}
        if stage in recipe.gan:
            torch.manual_seed(recipe.seed)  # the same critics in every process
            self.critics = nn.ModuleList(PatchCritic(distributed) for _ in range(critics)).to(distributed.device)
            self.optimizer = CriticOptimizer(self.critics.parameters(), recipe.critic, self.stage)

    def __call__(self, plan: StepPlan, batch: Batch, reconstruction: Tensor, last_layer: nn.Parameter) -> Losses:
        """The loss of reconstructions; its parts are l1, and lpips, gan and critic where they are used.

        Args:
            plan: of the step; the critic of its iteration judges.
            batch: the step's batch, or a piece of it.
            reconstruction: b 3 h w, unclamped.
            last_layer: where the adversarial term is weighed against the others.
        """
        distance = self._distance(reconstruction, batch.images)
        weight = self._adversarial_weight(plan)
        if self.critics is None or not weight:
            return distance
        part = len(batch.rows) / len(plan.rows)
        if self.stage.accumulate > 1:
            judged = self._judged_before(batch, reconstruction)
        else:
            adversarial = generator_loss(self.critics[plan.iteration](reconstruction))
            (ours,) = torch.autograd.grad(part * distance.total, last_layer, retain_graph=True)
            (theirs,) = torch.autograd.grad(part * adversarial, last_layer, retain_graph=True)
            judged = self._balanced(ours, theirs) * adversarial
            self.last_adversarial_loss = adversarial.detach()
        parts = {**distance.parts, "gan": self.last_adversarial_loss, "critic": self.last_critic_loss}
        return Losses(distance.total + weight * judged, parts)

    def train_critic(self, plan: StepPlan, reconstruct: Callable[[Batch, int], Tensor]) -> None:
        """A step's critic updates, each on photographs of its own, before the tokenizer takes its step.

        Args:
            plan: of the step.
            reconstruct: of a batch and the number of the critic's update, b 3 h w.
        """
        if self.critics is None or not self._adversarial_weight(plan):
            return
        network, parameters = self.critics[plan.iteration], list(self.critics[plan.iteration].parameters())
        for update, rows in enumerate(plan.critic_rows):
            batch = self.crops.batch(self.distributed.shard(rows), self.distributed.device)
            with autocast(self.distributed.device, self.precision):
                # The critic learns from reconstructions; the tokenizer must not learn in its step. They are made piece
                # by piece, but the critic is small and reads all of them at once, as its BatchNorm has to.
                with torch.no_grad():
                    fake = torch.cat([reconstruct(piece, update) for piece in pieces_of(batch, self.stage.accumulate)])
                # Weighted by this process's part of the batch, as gradients are summed over processes.
                loss = critic_loss(network(batch.images), network(fake)) * len(batch.rows) / len(rows)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.last_critic_loss = self.distributed.sum_gradients(parameters, loss.detach().reshape(1))[0]
            self.optimizer.update(plan.step, parameters)

    def judge(
        self, plan: StepPlan, pieces: Sequence[Batch], reconstruct: Callable[[Batch], Tensor], last_layer: nn.Parameter
    ) -> None:
        """Where a step is done in pieces: the adversarial loss of the whole batch, before any piece has its gradients.

        The critic's BatchNorm and the adaptive weight need all reconstructions together. So all are made once without
        their graph, but for the last layer's, and judged. Each piece then follows the gradient at its own
        reconstructions. The price is one more forward pass.

        Args:
            plan: of the step.
            pieces: all of this process's rows.
            reconstruct: of a piece, as the step will make it, b 3 h w.
            last_layer: as for the loss itself; the only parameter that may require a gradient here.
        """
        if self.critics is None or not self._adversarial_weight(plan) or self.stage.accumulate == 1:
            return
        ours, made = torch.zeros_like(last_layer), []
        with autocast(self.distributed.device, self.precision):
            for piece in pieces:
                reconstruction = reconstruct(piece)
                part = len(piece.rows) / len(plan.rows)
                loss = part * self._distance(reconstruction, piece.images).total
                ours += torch.autograd.grad(loss, last_layer, retain_graph=True)[0]
                made.append(reconstruction)
            fake = torch.cat([reconstruction.detach() for reconstruction in made]).requires_grad_(True)
            adversarial = generator_loss(self.critics[plan.iteration](fake))
        part = len(fake) / len(plan.rows)
        (gradient,) = torch.autograd.grad(part * adversarial, fake)
        gradients = gradient.split([len(piece.rows) for piece in pieces])
        theirs = torch.zeros_like(last_layer)
        for reconstruction, down in zip(made, gradients, strict=True):
            theirs += torch.autograd.grad(reconstruction, last_layer, down)[0]
        balance = self._balanced(ours, theirs)
        self.last_adversarial_loss = adversarial.detach()
        # A piece's loss will be weighted by its part of the batch; this gradient is that of the whole batch.
        value, whole = balance * self.last_adversarial_loss, len(plan.rows)
        self.judged = {
            piece.rows.tobytes(): (value, balance * down * whole / len(piece.rows))
            for piece, down in zip(pieces, gradients, strict=True)
        }

    def _judged_before(self, batch: Batch, reconstruction: Tensor) -> Tensor:
        """The balanced adversarial loss in value, with the gradient that `judge` has found for these rows."""
        value, gradient = self.judged.pop(batch.rows.tobytes())
        along = (reconstruction * gradient).sum()
        return value + along - along.detach()

    def _distance(self, reconstruction: Tensor, images: Tensor) -> Losses:
        """L1, and LPIPS where it is used: the part of the loss that each photograph has alone."""
        total = l1 = F.l1_loss(reconstruction, images)
        parts = {"l1": l1.detach()}
        if self.lpips is not None:
            perceptual = checkpointed(self.checkpointing, self.lpips, reconstruction, images).mean()
            total = total + self.recipe.perceptual_weight * perceptual
            parts["lpips"] = perceptual.detach()
        return Losses(total, parts)

    def _balanced(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The adaptive weight, from this process's part of both gradients at the last layer."""
        both = self.distributed.all_reduce(torch.stack([ours, theirs]))
        return adaptive_weight(both[0], both[1])

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
