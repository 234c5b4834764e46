"""Stage 1: latent distillation. The base tokenizer is frozen; its grid is what the 1D tokens must explain."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.model.layers import checkpointed
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer_model import Latents, State
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.feed import to_device
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe
from alit_cli.training.stages.codebook import KMEANS_POINTS, CodebookKeeper
from alit_cli.training.stages.halting import halt, halted_tokens
from alit_cli.training.stages.losses import GridLoss, grid_loss, quantization_loss
from alit_cli.training.stages.rollouts import FeatureCache, advance, append_all, roll
from alit_cli.training.stages.stage import Losses, Stage

CHUNK = 8
"""Photographs that are rolled out at a time, outside of steps, so that this needs less memory than a step."""
STARTED_AT = 32
"""Photographs of whose latents an untrained decoder predicts the mean."""


class DistillStage(Stage):
    """The authors' stage-1 loss, over all iterations or one or two sampled iterations per step."""

    name = "distill"

    def __init__(self, model: Alit, recipe: Recipe, crops: CropDataset, distributed: Distributed) -> None:
        super().__init__(model, recipe, crops, distributed)
        self.features = FeatureCache(model, crops)
        self.keeper = CodebookKeeper(model.config.codes, unit=True, distributed=distributed)
        self.quantized_from = int(recipe.quantize_from * recipe.distill.steps)

    def trained(self) -> list[nn.Module]:
        """Both transformers and the codebook."""
        modules: list[nn.Module] = [self.model.encoder, self.model.decoder]
        return modules if self.model.codebook is None else [*modules, self.model.codebook]

    def prepare(self, plan: StepPlan, ema: Alit, pieces: Sequence[Batch]) -> Iterator[Progress]:
        """Start at the mean latent, fill the codebook when quantization begins, and revive its unused codes."""
        fresh = not self.recipe.continue_transformers
        if plan.step == 0 and fresh and self.model.base.grid_codebook is None:
            self._start_at_the_mean(plan.rows, ema)
        if self.model.codebook is None or ema.codebook is None or not self.recipe.kmeans:
            return
        tables = (self.model.codebook.weight, ema.codebook.weight)
        if plan.step == self.quantized_from and fresh:
            photographs = self.crops.order(0, self.recipe.seed)[: KMEANS_POINTS // self.model.config.budgets[-1]]
            yield from self.keeper.fill(self._latents(photographs, self.model.config.iterations), tables)
        # Codes that no latent of the last steps has chosen are moved to latents of this batch.
        elif self.keeper.due(plan.step, self.quantized_from, self.recipe.distill.steps):
            self.keeper.revive(self._latents(plan.rows, plan.iteration + 1), tables)

    def step(self, batch: Batch, plan: StepPlan) -> Losses:
        """vq, and main (over all iterations `main_<budget>` each); with halting, halted is the share of the image
        tokens that the last iteration halts; with a codebook in use, usage is the share of its codes seen of late."""
        features = self.features.of(batch)
        target = self.model.base.target(features)
        state = self.model.start(batch.images, features)
        if self.recipe.iterations == "all":
            losses = self._all_iterations(plan, batch, state, target)
        else:
            losses = self._sampled(plan, state, target)
        if self._quantizes(plan):
            return Losses(losses.total, {**losses.parts, "usage": self.keeper.usage()})
        return losses

    def state(self) -> dict[str, Any]:
        """The codes' counts."""
        return {"counts": self.keeper.counts}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.keeper.counts = state["counts"].to(self.distributed.device)

    def _all_iterations(self, plan: StepPlan, batch: Batch, state: State, target: Tensor) -> Losses:
        """The paper's: a whole rollout, every iteration with a loss, gradients from end to end."""
        draws = self._halting_draws(plan, batch) if self.recipe.halting else None
        total: Tensor = target.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {"vq": torch.zeros((), device=target.device)}
        for t in range(self.model.config.iterations):
            state = advance(self.model.encoder, state, self.checkpointing)
            latents, vq = self._decoder_input(plan, self.model.read(state))
            prediction, loss = self._explained(latents, target)
            total = total + loss.weighted(t, self.recipe.iteration_weights) + vq
            parts["vq"] = parts["vq"] + vq.detach()
            parts[f"main_{latents.budget}"] = loss.main.detach()
            if draws is not None:
                halted = halted_tokens(self.model.base, prediction, target, draws[t])
                state = halt(self.model.encoder, state, halted)
                parts["halted"] = halted.float().mean()
        return Losses(total, parts)

    def _halting_draws(self, plan: StepPlan, batch: Batch) -> Tensor:
        config = self.model.config
        return to_device(plan.halting_draws(batch.rows, config.iterations, config.grid_tokens), batch.images.device)

    def _sampled(self, plan: StepPlan, state: State, target: Tensor) -> Losses:
        """The loss of one iteration and of one before it, which the same rollout passes through."""
        total: Tensor = target.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        for t in plan.reads:
            state = append_all(self.model.encoder, state, t + 1 - state.t, self.checkpointing)
            if t in plan.trained:
                latents, vq = self._decoder_input(plan, self.model.read(state))
                _, loss = self._explained(latents, target)
                total = total + loss.weighted(t, self.recipe.iteration_weights) + vq
                parts = {"main": loss.main.detach(), "vq": vq.detach()}
        return Losses(total, parts)

    def _explained(self, latents: Latents, target: Tensor) -> tuple[Tensor, GridLoss]:
        """What the decoder makes of latents, b n outputs, and its loss."""

        def explain(vectors: Tensor) -> tuple[Tensor, GridLoss]:
            prediction = self.model.decoder(vectors)
            return prediction, grid_loss(self.model.base, prediction, target)

        return checkpointed(self.checkpointing, explain, latents.vectors)

    def _decoder_input(self, plan: StepPlan, latents: Latents) -> tuple[Latents, Tensor]:
        """What the decoder is fed, and its VQ loss. Before the codebook is in use: the unit-length latents, and 0."""
        if latents.ids is None:
            return latents, latents.values.new_zeros(())
        if self._quantizes(plan):
            self.keeper.count(latents.ids)
            return latents, quantization_loss(self.model.codebook, latents)
        # As codes have unit length, the decoder meets nothing new when the codebook takes over.
        unit = F.normalize(latents.values, dim=-1)
        return dataclasses.replace(latents, vectors=unit), latents.values.new_zeros(())

    def _quantizes(self, plan: StepPlan) -> bool:
        return self.model.codebook is not None and plan.step >= self.quantized_from

    @torch.no_grad()
    def _start_at_the_mean(self, rows: np.ndarray, ema: Alit) -> None:
        """Let an untrained decoder predict the mean latent, rather than spend the first steps on learning that."""
        rows = rows[:STARTED_AT]
        batches = [self.crops.batch(rows[i : i + CHUNK], self.distributed.device) for i in range(0, len(rows), CHUNK)]
        mean = torch.cat([self.features.of(batch) for batch in batches]).mean(dim=(0, 2, 3))
        for decoder in (self.model.decoder, ema.decoder):
            head = decoder.head[-1]
            assert isinstance(head, nn.Linear)
            head.bias.copy_(mean)
            self.distributed.broadcast(head.bias.data)

    @torch.no_grad()
    def _latents(self, rows: np.ndarray, iterations: int) -> Iterator[Tensor]:
        """Latents (s c) of some photographs after so many iterations, some photographs at a time."""
        for i in range(0, len(rows), CHUNK):
            batch = self.crops.batch(rows[i : i + CHUNK], self.distributed.device)
            state = self.model.start(batch.images, self.features.of(batch))
            yield self.model.encoder.read_out(roll(self.model, state, iterations)).flatten(0, 1)
