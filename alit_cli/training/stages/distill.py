"""Stage 1: latent distillation. The base tokenizer is frozen; its grid is what the 1D tokens must explain."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer_model import Latents, State
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, Views
from alit_cli.training.distributed import Processes
from alit_cli.training.recipe import Recipe
from alit_cli.training.stages.codebook import KMEANS_POINTS, CodebookKeeper
from alit_cli.training.stages.halting import halt, halted_by_error, halted_by_probability
from alit_cli.training.stages.losses import grid_loss, quantization_loss
from alit_cli.training.stages.rollouts import Features, append_all, draw_iteration, roll
from alit_cli.training.stages.stage import Objective


class DistillObjective(Objective):
    """The reference's stage-1 loss, over all iterations or one sampled iteration a step."""

    name = "distill"

    def __init__(self, model: Alit, recipe: Recipe, views: Views, processes: Processes) -> None:
        super().__init__(model, recipe)
        self.views, self.processes = views, processes
        self.features = Features(model, views)
        self.keeper = CodebookKeeper(model.config.codes, unit=True, processes=processes)
        self.generator = torch.Generator()

    def trained(self) -> list[nn.Module]:
        """Both transformers and the codebook."""
        modules: list[nn.Module] = [self.model.encoder, self.model.decoder]
        return modules if self.model.codebook is None else [*modules, self.model.codebook]

    def losses(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """total, vq, and main (over all iterations `main_<budget>` each); with halting, halted is the share of the
        image tokens that the last iteration halts; with a codebook in use, usage is the share of codes seen of late."""
        features = self.features.of(batch)
        target = self.model.base.target(features)
        state = self.model.start(batch.images, features)
        if self.recipe.iterations == "all":
            parts = self._all(step, state, target)
        else:
            parts = self._sampled(step, state, target)
        return parts | {"usage": self.keeper.usage()} if self._quantizes(step) else parts

    def fill(self, step: int, average: Alit) -> Iterator[Progress]:
        """Fill the codebook when quantization begins."""
        ours, same = self.model.codebook, average.codebook
        if step == self._quantized_from() and ours is not None and same is not None:
            yield from self.keeper.fill(self._sample_latents(), (ours.weight, same.weight))

    def before_step(self, step: int, rows: np.ndarray, average: Alit) -> bool:
        """Start at the mean; revive dead codes from the beginning of quantization until the last tenth."""
        starts = step == 0 and self.model.base.grid_codebook is None
        if starts:
            self._start_at_the_mean(self._batch(rows), average)
        if self.model.codebook is None or average.codebook is None:
            return starts
        tables = (self.model.codebook.weight, average.codebook.weight)
        if self.keeper.due(step, self._quantized_from(), self.recipe.distill.steps):
            self.keeper.revive(self._read(self._batch(rows), self._pick(step)), tables)
            return True
        return starts

    def state(self) -> dict[str, Any]:
        """Codebook counts."""
        return {"counts": self.keeper.counts}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.keeper.counts = state["counts"].cpu()

    def _all(self, step: int, state: State, target: Tensor) -> dict[str, Tensor]:
        self.generator.manual_seed(step)
        total: Tensor = target.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        for t in range(self.model.config.iterations):
            state = self.model.encoder.advance(state)
            latents, vq = self._vectors(step, self.model.read(state))
            prediction = self.model.decoder(latents.vectors)
            loss = grid_loss(self.model.base, prediction, target)
            total = total + loss.weighted(t, self.recipe.iteration_weights) + vq
            parts["vq"] = parts.get("vq", 0.0) + vq.detach()
            parts[f"main_{latents.budget}"] = loss.main.detach()
            if self.recipe.halting:
                halted = self._halted(prediction, target)
                state = halt(self.model.encoder, state, halted)
                parts["halted"] = halted.float().mean()
        return {"total": total, **parts}

    def _sampled(self, step: int, state: State, target: Tensor) -> dict[str, Tensor]:
        """The loss of one iteration and of a random one before it, which the same rollout passes through."""
        passed = self._passes(step, self._pick(step))
        chosen = {passed[-1], *self._draws(step).choice(passed[:-1], min(1, len(passed) - 1))}
        total: Tensor = target.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        for t in passed:
            state = append_all(self.model.encoder, state, t + 1 - state.t)
            if t in chosen:
                latents, vq = self._vectors(step, self.model.read(state))
                loss = grid_loss(self.model.base, self.model.decoder(latents.vectors), target)
                total = total + loss.weighted(t, self.recipe.iteration_weights) + vq
                parts = {"main": loss.main.detach(), "vq": vq.detach()}
        return {"total": total, **parts}

    def _passes(self, step: int, last: int) -> list[int]:
        """Where a rollout to iteration `last` reads the sequence: after every iteration, or early on after some alone.

        The number of passes grows from one (all latents read the image together) to as many as there are iterations.
        """
        done, recipe, iterations = step / self.recipe.distill.steps, self.recipe, self.model.config.iterations
        grown = (done - recipe.at_once) / max(recipe.rollouts_from - recipe.at_once, 1e-9)
        most = iterations if done >= recipe.rollouts_from else 1 + int(max(grown, 0.0) * (iterations - 1))
        before = self._draws(step).permutation(last)[: most - 1]
        return [*sorted(before.tolist()), last]

    def _draws(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, step, 1])

    def _vectors(self, step: int, latents: Latents) -> tuple[Latents, Tensor]:
        """What the decoder is fed, and the VQ loss. Before the codebook is filled: the unit-length latents, and 0."""
        if latents.ids is None:
            return latents, latents.values.new_zeros(())
        if self._quantizes(step):
            self.keeper.see(latents.ids)
            return latents, quantization_loss(self.model.codebook, latents)
        unit = F.normalize(latents.values, dim=-1)
        return dataclasses.replace(latents, vectors=unit), latents.values.new_zeros(())

    def _quantizes(self, step: int) -> bool:
        return self.model.codebook is not None and step >= self._quantized_from()

    def _quantized_from(self) -> int:
        return int(self.recipe.quantize_from * self.recipe.distill.steps)

    def _pick(self, step: int) -> int:
        """The iteration this step trains."""
        return draw_iteration(self.model.config.iterations, self.recipe.distill, self.recipe.seed, step)

    def _halted(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.model.base.grid_codebook is not None:
            return halted_by_probability(prediction, target, self.generator)
        return halted_by_error(prediction, target)

    @torch.no_grad()
    def _start_at_the_mean(self, batch: Batch, average: Alit) -> None:
        """Let an untrained decoder predict the mean latent, rather than learn that first (VAE only)."""
        mean = self.features.of(batch).mean(dim=(0, 2, 3))
        for decoder in (self.model.decoder, average.decoder):
            head = decoder.head[-1]
            assert isinstance(head, nn.Linear)
            head.bias.copy_(mean)

    def _batch(self, rows: np.ndarray) -> Batch:
        return self.views.batch(rows, self.processes.device)

    @torch.no_grad()
    def _read(self, batch: Batch, t: int) -> Tensor:
        state = self.model.start(batch.images, self.features.of(batch))
        return self.model.encoder.read_out(roll(self.model, state, t + 1)).flatten(0, 1)

    def _sample_latents(self) -> Iterator[Tensor]:
        """Latents (s c) of the last iteration of as many photographs as k-means wants, some at a time."""
        rows = self.views.order(0, self.recipe.seed)[: KMEANS_POINTS // self.model.config.budgets[-1]]
        for i in range(0, len(rows), 32):
            yield self._read(self._batch(rows[i : i + 32]), self.model.config.iterations - 1)
