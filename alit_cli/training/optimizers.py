"""What moves the weights: AdamW, and Muon for the matrices of the transformers where a recipe asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from alit_cli.training.recipe import StageRecipe


class Optimizers:
    """AdamW for all parameters, or Muon for the transformers' matrices and AdamW for the rest.

    Muon (Jordan et al., 2024) makes every update of a matrix orthogonal, so that all of its directions move alike. A
    narrow rollout trained for minutes gets two to four times as far with it.

    Args:
        named: the trained parameters by name.
        recipe: the stage's rates and decay; one-dimensional parameters never decay.
    """

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]], recipe: StageRecipe) -> None:
        # Muon is made for matrices between hidden layers; embeddings, heads and codebooks belong to AdamW.
        # The names are those of both transformers' layers.
        matrices = [p for name, p in named if recipe.muon and ".blocks." in name and p.ndim == 2]
        muon_ids = set(map(id, matrices))
        others = [p for _, p in named if id(p) not in muon_ids]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        # Each with the peak of its learning rate, which the cosine scales.
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True), recipe.learning_rate)
        ]
        if matrices:
            self.parts.append((torch.optim.Muon(matrices, lr=recipe.muon, weight_decay=0.0), recipe.muon))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer, _ in self.parts:
            optimizer.zero_grad(set_to_none=True)

    def step(self, share: float) -> None:
        """One update at this share of the peak learning rates."""
        for optimizer, peak in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * share
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """What a resumed run needs."""
        return [optimizer.state_dict() for optimizer, _ in self.parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """The inverse of state_dict."""
        for (optimizer, _), state in zip(self.parts, states, strict=True):
            optimizer.load_state_dict(state)
