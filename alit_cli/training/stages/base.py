"""Stage 0: the base tokenizer, from photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.model.bases.base_tokenizer import Autoencoding, BaseTokenizer, to_tokens
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, CropDataset
from alit_cli.training.distributed import Distributed
from alit_cli.training.feed import to_device
from alit_cli.training.plan import StepPlan
from alit_cli.training.recipe import Recipe
from alit_cli.training.stages.codebook import KMEANS_POINTS, CodebookKeeper
from alit_cli.training.stages.pixel_loss import PixelLoss
from alit_cli.training.stages.stage import Losses, Stage, only

CHUNK = 8
"""Photographs encoded at a time, outside of steps, so that these need less memory than a step."""
ALIGNED_ON = 512
"""Photographs on which the coordinates of a VAE's latents are measured; a d × d matrix needs no more."""
SMALLEST_EIGENVALUE = 1e-4
"""Directions of the latent that hardly change pixels, relative to the mean, would blow up when divided by."""


class BaseStage(Stage):
    """L1 + MSE of the reconstruction (perceptual and adversarial terms on request), plus the VQ loss or the KL."""

    name = "base"

    def __init__(self, model: Alit, recipe: Recipe, crops: CropDataset, distributed: Distributed) -> None:
        super().__init__(model, recipe, crops, distributed)
        self.pixels = PixelLoss(recipe, "base", 1, crops, distributed)
        self.keeper = CodebookKeeper(model.config.base.codes, unit=False, distributed=distributed)

    def trained(self) -> list[nn.Module]:
        """The base tokenizer only."""
        return [self.model.base]

    def prepare(self, plan: StepPlan, ema: Alit, pieces: Sequence[Batch]) -> Iterator[Progress]:
        """Fill a VQGAN's codebook at the start, revive its unused codes now and then, and let the critic learn and
        judge."""
        base, codebook, ema_codebook = self.model.base, self.model.base.grid_codebook, ema.base.grid_codebook
        if codebook is not None and ema_codebook is not None:
            if plan.step == 0:
                photographs = self.crops.order(0, self.recipe.seed)
                yield from self.keeper.fill(self._vectors(base, photographs), (codebook, ema_codebook))
            elif self.keeper.due(plan.step, 0, self.recipe.base.steps):
                self.keeper.revive(self._vectors(base, plan.rows), (codebook, ema_codebook))
        self.pixels.train_critic(plan, lambda batch, update: self._autoencode(plan, batch, update).reconstruction)
        with only(base.last_layer, self.model):
            self.pixels.judge(plan, pieces, lambda batch: self._autoencode(plan, batch).reconstruction, base.last_layer)

    def step(self, batch: Batch, plan: StepPlan) -> Losses:
        """PixelLoss with mse and regularizer; usage is the share of a VQGAN's codes used since the last revival."""
        base = self.model.base
        output = self._autoencode(plan, batch)
        pixels = self.pixels(plan, batch, output.reconstruction, base.last_layer)
        mse = F.mse_loss(output.reconstruction, batch.images)
        weight = self.recipe.kl_weight if base.grid_codebook is None else 1.0
        parts = {**pixels.parts, "mse": mse.detach(), "regularizer": output.regularizer.detach()}
        if output.ids is not None:
            # Counted for the next revival.
            self.keeper.count(output.ids)
            parts["usage"] = self.keeper.usage()
        return Losses(pixels.total + mse + weight * output.regularizer, parts)

    def reconstructions(self, ema: Alit, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The base tokenizer's own, whose budget is its number of grid tokens."""
        yield ema.config.grid_tokens, ema.base.autoencode(images).reconstruction

    def finish(self, ema: Alit) -> Generator[Progress, None, Alit]:
        """Align a VAE's latents with pixels."""
        aligned = yield from align_with_pixels(ema, self.crops, self.distributed.device)
        # Each process has measured by itself, and float sums may differ between machines.
        self.distributed.broadcast(*aligned.state_dict().values())
        return aligned

    def checkpoint(self, on: bool) -> None:
        """Also of LPIPS."""
        super().checkpoint(on)
        self.pixels.checkpointing = on

    def state(self) -> dict[str, Any]:
        """The critic and the codes' counts."""
        return {"counts": self.keeper.counts, **self.pixels.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.keeper.counts = state["counts"].to(self.distributed.device)
        self.pixels.restore(state)

    def _autoencode(self, plan: StepPlan, batch: Batch, update: int | None = None) -> Autoencoding:
        """A VAE samples from noise of the rows, so that it does not matter which process holds them."""
        config = self.model.config
        if self.model.base.grid_codebook is not None:
            return self.model.base.autoencode(batch.images)
        noise = plan.noise(batch.rows, (config.base.latent_dim, config.grid_side, config.grid_side), update)
        return self.model.base.autoencode(batch.images, to_device(noise, batch.images.device))

    @torch.no_grad()
    def _vectors(self, base: BaseTokenizer, rows: np.ndarray) -> Iterator[Tensor]:
        """Encoder outputs (s d) of as many photographs as k-means needs, some at a time."""
        rows = np.sort(rows[: max(1, KMEANS_POINTS // self.model.config.grid_tokens)])
        for i in range(0, len(rows), CHUNK):
            images = self.crops.batch(rows[i : i + CHUNK], self.distributed.device).images
            yield to_tokens(base.encode(images)).flatten(0, 1)


def align_with_pixels(
    model: Alit, crops: CropDataset, device: torch.device, photos: int = ALIGNED_ON
) -> Generator[Progress, None, Alit]:
    """The same VAE in coordinates in which a latent error costs the same pixel error in every direction.

    Distillation minimizes the MSE of latents; an autoencoder leaves it open what a unit of each channel means. With J
    the decoder's derivative at one grid place and G the mean of JᵀJ over photographs and places, the new latent is
    G^½ (z - mean z), scaled to unit deviation. Both 1×1 convolutions around the latent absorb the change, so the
    reconstruction of every image stays what it was. The posterior's variance, which nothing reads after this
    stage, is left alone. A model with a VQGAN is returned as it is.

    Args:
        model: whose base tokenizer is measured; in eval mode.
        crops: the photographs.
        device: where the model is.
        photos: how many photographs G and the deviation are measured on.

    Yields: progress.
    """
    base = model.base
    if base.grid_codebook is not None:
        return model
    rows = crops.order(0, 0)[:photos]
    latents, gram = [], torch.zeros(model.config.base.latent_dim, model.config.base.latent_dim, device=device)
    for start in range(0, len(rows), CHUNK):
        yield Progress(start, len(rows), "photographs", note="aligning latents with pixels")
        with torch.no_grad():
            features = base.encode(crops.batch(rows[start : start + CHUNK], device).images)
        latents.append(features / base.config.latent_scale)
        gram += _pixel_gram(base, latents[-1])
    # Scaled to a mean diagonal of 1, so that SMALLEST_EIGENVALUE is relative.
    values, vectors = torch.linalg.eigh(gram / gram.diagonal().mean())
    root = values.clamp_min(SMALLEST_EIGENVALUE).sqrt()
    mean = torch.cat(latents).mean(dim=(0, 2, 3))
    change, back = vectors * root @ vectors.T, vectors / root @ vectors.T
    deviation = torch.einsum("cd,bdhw->bchw", change, torch.cat(latents) - mean[:, None, None]).std().item()
    config = dataclasses.replace(model.config.base, latent_scale=1 / deviation, decode_scale=1 / deviation)
    aligned = Alit(dataclasses.replace(model.config, base=config)).to(device)
    aligned.load_state_dict(model.state_dict())
    aligned.base.change_coordinates(change, back, mean)
    return aligned


def _pixel_gram(base: BaseTokenizer, latent: Tensor) -> Tensor:
    """Mean of JᵀJ, d d: for random signs v over the pixels, Jᵀv is one backward pass and E[Jᵀv (Jᵀv)ᵀ] = JᵀJ."""
    latent = latent.detach().requires_grad_(True)
    pixels = base.decode(to_tokens(latent * base.config.decode_scale))
    generator = torch.Generator(pixels.device).manual_seed(0)
    signs = torch.randint(0, 2, pixels.shape, generator=generator, device=pixels.device) * 2.0 - 1
    (gradient,) = torch.autograd.grad((pixels * signs).sum(), latent)
    return torch.einsum("bchw,bdhw->cd", gradient, gradient)
