"""Stage 2: full fine-tuning on pixels, one iteration a step; the base tokenizer moves too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.jobs.distill import GRADIENT_WINDOW, Features, roll
from alit_cli.jobs.objective import Batch, Objective
from alit_cli.jobs.recipe import Recipe
from alit_cli.jobs.trainer import batched_l1
from alit_cli.jobs.views import Views
from alit_cli.model.rollout import Alit


class FinetuneObjective(Objective):
    """L1 of the pixels at iteration t, t cycling with the steps, plus the VQ loss that moves the codebook."""

    name = "finetune"

    def __init__(self, model: Alit, recipe: Recipe, views: Views) -> None:
        super().__init__(model, recipe)
        self.features = None if recipe.train_base_encoder else Features(model, views)

    def trained(self) -> list[nn.Module]:
        """Everything but a VQGAN's own codebook (and the base encoder, where the recipe keeps it)."""
        encoder_half, decoder_half = self.model.base.halves()
        modules = [self.model.encoder, self.model.decoder, *decoder_half]
        if self.model.codebook is not None:
            modules.append(self.model.codebook)
        return modules + encoder_half if self.recipe.train_base_encoder else modules

    def losses(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """total, l1, vq."""
        t = self._pick(step)
        features = None if self.features is None else self.features.of(batch)
        state = self.model.start(batch.images, features)
        window = t + 1 if self.recipe.iterations == "all" else 2 * GRADIENT_WINDOW
        latents = self.model.read(roll(self.model, state, t + 1, window))
        l1 = F.l1_loss(self.model.decode(latents.vectors), batch.images)
        return {"total": l1 + latents.loss, "l1": l1.detach(), "vq": latents.loss.detach()}

    def _pick(self, step: int) -> int:
        """Iterations in turn; with `late`, iteration t drawn with a weight of (t + 1) to that power."""
        iterations = self.model.config.iterations
        if not self.recipe.late:
            return step % iterations
        weights = np.arange(1, iterations + 1, dtype=np.float64) ** self.recipe.late
        rng = np.random.default_rng([self.recipe.seed, step])
        return int(rng.choice(iterations, p=weights / weights.sum()))

    def validate(self, average: Alit, images: Tensor) -> dict[int, float]:
        """Mean pixel L1 by budget, as tokenization would store it."""
        return batched_l1(average, images)
