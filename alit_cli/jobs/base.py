"""Stage 0: the base tokenizer, from photographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alit_cli.jobs.objective import Batch, Objective
from alit_cli.jobs.views import Views
from alit_cli.model.losses import l1_per_image
from alit_cli.model.rollout import Alit
from alit_cli.model.vae import VAE


class BaseObjective(Objective):
    """L1 + MSE of the reconstruction, plus the VQ loss or the KL divergence."""

    name = "base"

    def trained(self) -> list[nn.Module]:
        """The base tokenizer only."""
        return [self.model.base]

    def losses(self, step: int, batch: Batch) -> Mapping[str, Tensor]:
        """total, l1, mse, regularizer."""
        reconstruction, regularizer = self.model.base.autoencode(batch.images)
        l1, mse = F.l1_loss(reconstruction, batch.images), F.mse_loss(reconstruction, batch.images)
        weight = self.recipe.kl_weight if isinstance(self.model.base, VAE) else 1.0
        return {"total": l1 + mse + weight * regularizer, "l1": l1, "mse": mse, "regularizer": regularizer}

    def validate(self, average: Alit, images: Tensor) -> dict[int, float]:
        """L1 of the base tokenizer alone, under its number of grid tokens."""
        chunks = [l1_per_image(average.base.autoencode(chunk)[0], chunk) for chunk in images.split(32)]
        return {average.config.grid_tokens: torch.cat(chunks).mean().item()}


@torch.no_grad()
def standardize_latents(model: Alit, views: Views, device: torch.device, photos: int = 512) -> Alit:
    """The same weights with a VAE's latents scaled to unit deviation, measured on some photographs."""
    base = model.base
    if not isinstance(base, VAE):
        return model
    indices = views.order(0, 0)[:photos]
    chunks = (views.batch(indices[i : i + 32]).to(device) for i in range(0, len(indices), 32))
    deviation = torch.cat([base.posterior(chunk)[0].flatten() for chunk in chunks]).std().item()
    config = dataclasses.replace(model.config.base, latent_scale=1 / deviation, decode_scale=1 / deviation)
    scaled = Alit(dataclasses.replace(model.config, base=config)).to(device)
    scaled.load_state_dict(model.state_dict())
    return scaled
