"""Stage 2: full fine-tuning on pixels, one iteration a step; the base tokenizer moves too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from alit_cli.model.device import autocast, choose_precision
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer_model import Latents
from alit_cli.training.crops import Batch, Views
from alit_cli.training.distributed import Processes
from alit_cli.training.recipe import Recipe
from alit_cli.training.stages.losses import quantization_loss
from alit_cli.training.stages.pixel_loss import PixelLoss
from alit_cli.training.stages.rollouts import Features, draw_iteration, roll
from alit_cli.training.stages.stage import Objective


class FinetuneObjective(Objective):
    """The pixels' loss at iteration t, plus the VQ loss that moves the codebook."""

    name = "finetune"

    def __init__(self, model: Alit, recipe: Recipe, views: Views, processes: Processes) -> None:
        super().__init__(model, recipe)
        self.features = None if recipe.train_base_encoder else Features(model, views)
        self.pixels = PixelLoss(recipe, "finetune", model.config.iterations, views, processes)
        self.device = processes.device
        self.precision = choose_precision(recipe.base_precision or recipe.finetune.precision, processes.device)

    def trained(self) -> list[nn.Module]:
        """Everything but a VQGAN's own codebook (and the base encoder, where the recipe keeps it)."""
        encoder_half, decoder_half = self.model.base.halves()
        modules = [self.model.encoder, self.model.decoder, *decoder_half]
        if self.model.codebook is not None:
            modules.append(self.model.codebook)
        return modules + encoder_half if self.recipe.train_base_encoder else modules

    def before_step(self, step: int, rows: np.ndarray, average: Alit) -> bool:
        """Train the critic of this step's iteration, where the recipe has one."""
        t = self._pick(step)
        self.pixels.train_critic(step, t, lambda batch: self._reconstruct(self._latents(batch, t)))
        return False

    def losses(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """total, vq, and the parts of PixelLoss."""
        t = self._pick(step)
        latents = self._latents(batch, t)
        reconstruction = self._reconstruct(latents)
        parts = self.pixels(step, t, reconstruction, batch.images, self.model.base.last_layer)
        vq = quantization_loss(self.model.codebook, latents)
        return {**parts, "total": parts["total"] + vq, "vq": vq.detach()}

    def state(self) -> dict[str, Any]:
        """The critics."""
        return self.pixels.state()

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.pixels.restore(state)

    def _latents(self, batch: Batch, t: int) -> Latents:
        features = None if self.features is None else self.features.of(batch)
        state = self.model.start(batch.images, features)
        return self.model.read(roll(self.model, state, t + 1, self.recipe.window))

    def _reconstruct(self, latents: Latents) -> Tensor:
        prediction = self.model.decoder(latents.vectors)
        with autocast(self.device, self.precision):
            return self.model.base.decode(prediction).float()

    def _pick(self, step: int) -> int:
        """Iterations in turn; with `late`, drawn."""
        iterations, stage = self.model.config.iterations, self.recipe.finetune
        return draw_iteration(iterations, stage, self.recipe.seed, step) if stage.late else step % iterations
