"""Stage 2: full fine-tuning on pixels, one iteration per step; the base tokenizer moves too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from alit_cli.model.device import autocast
from alit_cli.model.layers import checkpointed
from alit_cli.model.rollout import Alit
from alit_cli.model.tokenizer_model import Latents
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe
from alit_cli.training.speed import training_precision
from alit_cli.training.stages.losses import quantization_loss
from alit_cli.training.stages.pixel_loss import PixelLoss
from alit_cli.training.stages.rollouts import FeatureCache, roll
from alit_cli.training.stages.stage import Losses, Stage, only


class FinetuneStage(Stage):
    """The pixels' loss at iteration t, plus the VQ loss that moves the codebook."""

    name = "finetune"

    def __init__(self, model: Alit, recipe: Recipe, crops: CropDataset, distributed: Distributed) -> None:
        super().__init__(model, recipe, crops, distributed)
        self.features = None if recipe.train_base_encoder else FeatureCache(model, crops)
        self.pixels = PixelLoss(recipe, "finetune", model.config.iterations, crops, distributed)
        # The convolutions of the base decoder may run in another precision than the transformers.
        precision = recipe.decoder_precision or recipe.finetune.precision
        self.decoder_precision = training_precision(precision, distributed.device)

    def trained(self) -> list[nn.Module]:
        """Everything but a VQGAN's own codebook (and the base encoder, where the recipe freezes it)."""
        encoder_half, decoder_half = self.model.base.halves()
        modules = [self.model.encoder, self.model.decoder, *decoder_half]
        if self.model.codebook is not None:
            modules.append(self.model.codebook)
        return modules + encoder_half if self.recipe.train_base_encoder else modules

    def prepare(self, plan: StepPlan, ema: Alit, pieces: Sequence[Batch]) -> Iterator[Progress]:
        """Let the critic of this step's iteration learn and judge, where the recipe has one."""

        def reconstruct(batch: Batch, update: int | None = None) -> Tensor:
            return self._reconstruct(self._latents(batch, plan.iteration))

        self.pixels.train_critic(plan, reconstruct)
        last_layer = self.model.base.last_layer
        with only(last_layer, self.model):
            self.pixels.judge(plan, pieces, reconstruct, last_layer)
        yield from ()

    def step(self, batch: Batch, plan: StepPlan) -> Losses:
        """PixelLoss of the plan's iteration, and vq."""
        latents = self._latents(batch, plan.iteration)
        pixels = self.pixels(plan, batch, self._reconstruct(latents), self.model.base.last_layer)
        vq = quantization_loss(self.model.codebook, latents)
        return Losses(pixels.total + vq, {**pixels.parts, "vq": vq.detach()})

    def checkpoint(self, on: bool) -> None:
        """Also of LPIPS."""
        super().checkpoint(on)
        self.pixels.checkpointing = on

    def state(self) -> dict[str, Any]:
        """The critics."""
        return self.pixels.state()

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.pixels.restore(state)

    def _latents(self, batch: Batch, t: int) -> Latents:
        features = None if self.features is None else self.features.of(batch)
        state = self.model.start(batch.images, features)
        return self.model.read(roll(self.model, state, t + 1, self.recipe.grad_window, self.checkpointing))

    def _reconstruct(self, latents: Latents) -> Tensor:
        prediction = checkpointed(self.checkpointing, self.model.decoder, latents.vectors)
        with autocast(self.distributed.device, self.decoder_precision):
            return self.model.base.decode(prediction).float()
