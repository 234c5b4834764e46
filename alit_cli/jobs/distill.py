"""Stage 1: latent distillation. The base tokenizer is frozen; its grid is what the 1D tokens must explain."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.jobs.objective import Batch, Objective
from alit_cli.jobs.recipe import Recipe
from alit_cli.jobs.trainer import batched_l1
from alit_cli.jobs.views import Views
from alit_cli.model.halting import halted_by_error, halted_by_probability
from alit_cli.model.losses import grid_loss
from alit_cli.model.rollout import Alit, Latents, State
from alit_cli.model.vae import VAE
from alit_cli.model.vqgan import VQGAN

CACHE_BYTES = 4 << 30
"""Base features are kept in memory while all of them fit in this."""
KMEANS_LATENTS = 40_000
KMEANS_ROUNDS = 10
REVIVE_EVERY = 100
GRADIENT_WINDOW = 2
"""Iterations that `sampled` training sends gradients through: with one alone, nothing would teach an iteration to
leave the next what it needs of the image."""


def roll(model: Alit, state: State, iterations: int, window: int) -> State:
    """Advance a rollout, with gradients through its last `window` iterations only."""
    for step in range(iterations):
        with torch.set_grad_enabled(step >= iterations - window):
            state = model.encoder.advance(state)
    return state


class Features:
    """Base features of every view: computed once, at first use, and kept as float16 where they all fit."""

    def __init__(self, model: Alit, views: Views) -> None:
        self.model = model
        config = model.config
        shape = (len(views.pixels), config.base.latent_dim, config.grid_side, config.grid_side)
        fits = 2 * np.prod(shape, dtype=np.int64) <= CACHE_BYTES
        self.store = torch.zeros(shape, dtype=torch.float16) if fits else None
        self.known = np.zeros(len(views.pixels), dtype=bool)

    @torch.no_grad()
    def of(self, batch: Batch) -> Tensor:
        """b d g g features of a batch, on its device."""
        if self.store is None:
            return self.model.base.encode(batch.images)
        if not self.known[batch.indices].all():
            self.store[batch.indices] = self.model.base.encode(batch.images).to("cpu", torch.float16)
            self.known[batch.indices] = True
        return self.store[batch.indices].to(batch.images)


class CodebookKeeper:
    """Fills the codebook from real latents, and moves codes that nothing uses to latents that occur."""

    def __init__(self, model: Alit) -> None:
        self.codebook = model.codebook
        self.counts = torch.zeros(model.config.codes, dtype=torch.int64)

    def see(self, ids: Tensor) -> None:
        """Count used ids (any shape)."""
        self.counts += torch.bincount(ids.flatten().cpu(), minlength=len(self.counts))

    def usage(self) -> float:
        """Share of codes used since the last revival."""
        return float((self.counts > 0).float().mean())

    @torch.no_grad()
    def fill(self, latents: Tensor, average: Alit) -> None:
        """k-means of unit-length latents (s c)."""
        from scipy.cluster.vq import kmeans2

        assert self.codebook is not None and average.codebook is not None
        points = F.normalize(latents.float(), dim=-1).cpu().numpy()
        v = len(self.counts)
        if len(points) < v:
            points = np.concatenate([points] * (1 + v // len(points)))
        with warnings.catch_warnings():  # an empty cluster keeps its first centre; unused codes are revived later
            warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
            centres, _ = kmeans2(points, v, iter=KMEANS_ROUNDS, minit="points", rng=0)
        centres = F.normalize(torch.from_numpy(centres), dim=-1)
        for codebook in (self.codebook, average.codebook):
            codebook.weight.copy_(centres)

    @torch.no_grad()
    def revive(self, latents: Tensor, average: Alit) -> None:
        """Put every code unused since the last call on a random latent (s c)."""
        assert self.codebook is not None and average.codebook is not None
        dead = (self.counts == 0).nonzero().squeeze(1)
        pick = torch.randint(len(latents), (len(dead),))
        fresh = F.normalize(latents[pick].float(), dim=-1)
        for codebook in (self.codebook, average.codebook):
            codebook.weight[dead] = fresh.to(codebook.weight)
        self.counts.zero_()


class DistillObjective(Objective):
    """The reference's stage-1 loss, over all iterations or one sampled iteration a step."""

    name = "distill"

    def __init__(self, model: Alit, recipe: Recipe, views: Views) -> None:
        super().__init__(model, recipe)
        self.views = views
        self.features = Features(model, views)
        self.keeper = CodebookKeeper(model)
        self.generator = torch.Generator()

    def trained(self) -> list[nn.Module]:
        """Both transformers and the codebook."""
        modules: list[nn.Module] = [self.model.encoder, self.model.decoder]
        return modules if self.model.codebook is None else [*modules, self.model.codebook]

    def losses(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """total, main, vq (and code for a VQGAN); usage is the share of codes seen of late."""
        features = self.features.of(batch)
        target = self.model.base.target(features)
        state = self.model.start(batch.images, features)
        if self.recipe.iterations == "all":
            parts = self._all(step, state, target)
        else:
            parts = self._sampled(step, state, target)
        return parts | {"usage": torch.tensor(self.keeper.usage())} if self._quantizes(step) else parts

    def before_step(self, step: int, batch: Batch, average: Alit) -> None:
        """Start at the mean; fill the codebook when quantization begins, and revive dead codes until the last tenth."""
        if step == 0:
            self._start_at_the_mean(batch, average)
        if self.model.codebook is None:
            return
        begin = int(self.recipe.quantize_from * self.recipe.distill.steps)
        if step == begin:
            self.keeper.fill(self._sample_latents(batch.images.device), average)
        elif step > begin and (step - begin) % REVIVE_EVERY == 0 and step < 0.9 * self.recipe.distill.steps:
            self.keeper.revive(self._read(batch, self._pick(step)), average)

    def validate(self, average: Alit, images: Tensor) -> dict[int, float]:
        """Mean pixel L1 by budget, as tokenization would store it."""
        return batched_l1(average, images)

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
            latents = self._vectors(step, self.model.read(state))
            prediction = self.model.decoder(latents.vectors)
            loss = grid_loss(self.model.base, prediction, target)
            total = total + loss.weighted(t, self.recipe.iteration_weights) + latents.loss
            parts = {f"main_{latents.budget}": loss.main.detach(), "vq": latents.loss.detach(), **parts}
            if self.recipe.halting:
                halted = self._halted(prediction, target)
                state = self.model.encoder.halt(state, halted)
                parts["halted"] = halted.float().mean()
        return {"total": total, **parts}

    def _sampled(self, step: int, state: State, target: Tensor) -> dict[str, Tensor]:
        t = self._pick(step)
        latents = self._vectors(step, self.model.read(roll(self.model, state, t + 1, GRADIENT_WINDOW)))
        loss = grid_loss(self.model.base, self.model.decoder(latents.vectors), target)
        total = loss.weighted(t, self.recipe.iteration_weights) + latents.loss
        return {"total": total, "main": loss.main.detach(), "vq": latents.loss.detach()}

    def _vectors(self, step: int, latents: Latents) -> Latents:
        """Before the codebook is filled, the decoder is fed the unit-length latents themselves."""
        if latents.ids is None:
            return latents
        if self._quantizes(step):
            self.keeper.see(latents.ids)
            return latents
        return Latents(
            latents.t, latents.values, latents.ids, F.normalize(latents.values, dim=-1), latents.loss.new_zeros(())
        )

    def _quantizes(self, step: int) -> bool:
        steps = self.recipe.distill.steps
        return self.model.codebook is not None and step >= int(self.recipe.quantize_from * steps)

    def _pick(self, step: int) -> int:
        """The iteration this step trains: the first alone for a while, then more and more, all before quantization.

        Later iterations learn nothing, and spoil the first, until the first has learned to read the image.
        """
        done, recipe = step / self.recipe.distill.steps, self.recipe
        ramp = max(recipe.quantize_from - recipe.first_only, 1e-9)
        share = min(max((done - recipe.first_only) / ramp, 0.0), 1.0)
        known = max(1, math.ceil(share * self.model.config.iterations))
        return int(np.random.default_rng([recipe.seed, step]).integers(known))

    def _halted(self, prediction: Tensor, target: Tensor) -> Tensor:
        if isinstance(self.model.base, VQGAN):
            return halted_by_probability(prediction, target, self.generator)
        return halted_by_error(prediction, target)

    @torch.no_grad()
    def _start_at_the_mean(self, batch: Batch, average: Alit) -> None:
        """Let an untrained decoder predict the mean latent, rather than learn that first (VAE only)."""
        if isinstance(self.model.base, VAE):
            mean = self.features.of(batch).mean(dim=(0, 2, 3))
            for decoder in (self.model.decoder, average.decoder):
                head = decoder.head[-1]
                assert isinstance(head, nn.Linear)
                head.bias.copy_(mean)

    @torch.no_grad()
    def _read(self, batch: Batch, t: int) -> Tensor:
        state = self.model.start(batch.images, self.features.of(batch))
        return self.model.encoder.read_out(roll(self.model, state, t + 1, 0)).flatten(0, 1)

    def _sample_latents(self, device: torch.device) -> Tensor:
        """Latents of the last iteration of as many photographs as k-means wants."""
        indices = self.views.order(0, self.recipe.seed)[: KMEANS_LATENTS // self.model.config.budgets[-1]]
        chunks = (np.sort(indices[i : i + 32]) for i in range(0, len(indices), 32))
        batches = (Batch(chunk, self.views.batch(chunk).to(device)) for chunk in chunks)
        return torch.cat([self._read(batch, self.model.config.iterations - 1) for batch in batches])
