"""Stage 0: the base tokenizer, from photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.model.bases.base_tokenizer import BaseTokenizer, to_tokens
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import Batch, Views
from alit_cli.training.distributed import Processes
from alit_cli.training.recipe import Recipe
from alit_cli.training.stages.codebook import KMEANS_POINTS, CodebookKeeper
from alit_cli.training.stages.pixel_loss import PixelLoss
from alit_cli.training.stages.stage import Objective


class BaseObjective(Objective):
    """L1 + MSE of the reconstruction (perceptual and adversarial terms on request), plus the VQ loss or the KL."""

    name = "base"

    def __init__(self, model: Alit, recipe: Recipe, views: Views, processes: Processes) -> None:
        super().__init__(model, recipe)
        self.views, self.processes = views, processes
        self.pixels = PixelLoss(recipe, "base", 1, views, processes)
        self.keeper = CodebookKeeper(model.config.base.codes, unit=False, processes=processes)

    def trained(self) -> list[nn.Module]:
        """The base tokenizer only."""
        return [self.model.base]

    def fill(self, step: int, average: Alit) -> Iterator[Progress]:
        """Fill a VQGAN's codebook at the start."""
        codebook, same = self.model.base.grid_codebook, average.base.grid_codebook
        if step == 0 and codebook is not None and same is not None:
            chunks = self._vectors(self.model.base, self.views.order(0, self.recipe.seed))
            yield from self.keeper.fill(chunks, (codebook, same))

    def before_step(self, step: int, rows: np.ndarray, average: Alit) -> bool:
        """Train the critic; keep a VQGAN's codebook alive."""
        self.pixels.train_critic(step, 0, lambda batch: self.model.base.autoencode(batch.images).reconstruction)
        codebook, same = self.model.base.grid_codebook, average.base.grid_codebook
        if codebook is None or same is None:
            return False
        if self.keeper.due(step, 0, self.recipe.base.steps):
            self.keeper.revive(torch.cat(list(self._vectors(self.model.base, rows))), (codebook, same))
            return True
        return False

    def losses(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """total, mse, regularizer and the parts of PixelLoss; usage is the share of a VQGAN's codes seen of late."""
        base = self.model.base
        made = base.autoencode(batch.images)
        mse = F.mse_loss(made.reconstruction, batch.images)
        parts = self.pixels(step, 0, made.reconstruction, batch.images, base.last_layer)
        weight = self.recipe.kl_weight if base.grid_codebook is None else 1.0
        total = parts["total"] + mse + weight * made.regularizer
        parts |= {"total": total, "mse": mse.detach(), "regularizer": made.regularizer.detach()}
        if made.ids is not None:
            self.keeper.see(made.ids)
            parts["usage"] = self.keeper.usage()
        return parts

    def reconstructions(self, average: Alit, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The base tokenizer's own, whose budget is its number of grid tokens."""
        yield average.config.grid_tokens, average.base.autoencode(images).reconstruction

    def state(self) -> dict[str, Any]:
        """The critic and the codes' counts."""
        return {"counts": self.keeper.counts, **self.pixels.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of state."""
        self.keeper.counts = state["counts"].cpu()
        self.pixels.restore(state)

    @torch.no_grad()
    def _vectors(self, base: BaseTokenizer, rows: np.ndarray) -> Iterator[Tensor]:
        """Encoder outputs (s d) of as many photographs as k-means wants, some at a time."""
        rows = np.sort(rows[: max(1, KMEANS_POINTS // self.model.config.grid_tokens)])
        for i in range(0, len(rows), 32):
            images = self.views.batch(rows[i : i + 32], self.processes.device).images
            yield to_tokens(base.encode(images)).flatten(0, 1)


def align_with_pixels(
    model: Alit, views: Views, device: torch.device, photos: int = 512
) -> Generator[Progress, None, Alit]:
    """The same VAE in coordinates in which a latent error costs the same pixel error in every direction.

    Distillation minimizes the MSE of latents; an autoencoder leaves it open what a unit of each channel means. With J
    the decoder's derivative at one grid place and G the mean of JᵀJ over photographs and places, the new latent is
    G^½ (z - mean z), scaled to unit deviation. Both 1×1 convolutions around the latent absorb the change, so the
    reconstruction of every image stays what it was. The posterior's variance, which nothing reads after this
    stage, is left alone. A VQGAN is returned as it is. Yields how far that is.

    Args:
        photos: how many photographs G and the deviation are measured on.
    """
    base = model.base
    if base.grid_codebook is not None:
        return model
    rows = views.order(0, 0)[:photos]
    chunks = (views.batch(rows[i : i + 32], device) for i in range(0, len(rows), 32))
    latents, gram = [], torch.zeros(model.config.base.latent_dim, model.config.base.latent_dim, device=device)
    for done, chunk in enumerate(chunks):
        yield Progress(32 * done, len(rows), "photographs", note="aligning latents with pixels")
        with torch.no_grad():
            latents.append(base.encode(chunk.images) / base.config.latent_scale)
        gram += _pixel_gram(base, latents[-1])
    values, vectors = torch.linalg.eigh(gram / gram.diagonal().mean())
    root = values.clamp_min(1e-4).sqrt()
    mean = torch.cat(latents).mean(dim=(0, 2, 3))
    change, back = vectors * root @ vectors.T, vectors / root @ vectors.T
    deviation = torch.einsum("cd,bdhw->bchw", change, torch.cat(latents) - mean[:, None, None]).std().item()
    config = dataclasses.replace(model.config.base, latent_scale=1 / deviation, decode_scale=1 / deviation)
    aligned = Alit(dataclasses.replace(model.config, base=config)).to(device)
    aligned.load_state_dict(model.state_dict())
    with torch.no_grad():
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
