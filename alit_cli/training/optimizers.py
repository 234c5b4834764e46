"""What moves the weights: AdamW, and Muon for the matrices of the transformers where a recipe asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alit_cli.model.device import cpu_has_bf16
from alit_cli.training.recipe import CriticRecipe, StageRecipe

MOMENTUM = 0.95
"""Of Muon, as its authors and torch have it."""
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""The authors' polynomial a x + b x³ + c x⁵. It rises so steeply at 0 that five rounds bring small singular values near
1, at the price of ending near 1 and not at it, which does no harm."""
ORTHOGONAL_STEPS = 5
SEPARATION_RATE = 5.0
"""Times the learning rate of AdamW, for the learned separation of tiles. At the rate of all others it moves by a
hundredth in a hundred steps, so a model made of tiles stayed one for all of a short training."""


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
        separations = [p for name, p in named if name.endswith(".separation")]
        elsewhere = set(map(id, [*matrices, *separations]))
        others = [p for _, p in named if id(p) not in elsewhere]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if separations:
            groups.append({"params": separations, "weight_decay": 0.0, "lr_scale": SEPARATION_RATE})
        # Each with the peak of its learning rate, which the cosine scales.
        self.parts: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True), recipe.learning_rate)
        ]
        if matrices:
            self.parts.append((Muon(matrices, lr=recipe.muon), recipe.muon))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer, _ in self.parts:
            optimizer.zero_grad(set_to_none=True)

    def step(self, share: float) -> None:
        """One update at this share of the peak learning rates."""
        for optimizer, peak in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * share * group.get("lr_scale", 1.0)
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """What a resumed run needs."""
        return [optimizer.state_dict() for optimizer, _ in self.parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """The inverse of state_dict."""
        for (optimizer, _), state in zip(self.parts, states, strict=True):
            optimizer.load_state_dict(state)


class CriticOptimizer(torch.optim.AdamW):
    """What moves the critics.

    Args:
        parameters: of all critics.
        recipe: how they are optimized.
        stage: whose learning rate, warm-up and cosine count.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], recipe: CriticRecipe, stage: StageRecipe) -> None:
        super().__init__(parameters, lr=stage.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay)
        self.recipe, self.stage = recipe, stage

    def update(self, step: int, parameters: Sequence[nn.Parameter]) -> None:
        """One update of the critic whose parameters these are, at a step of the tokenizer."""
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(parameters, self.recipe.clip)
        for group in self.param_groups:
            group["lr"] = self.stage.learning_rate * (self.stage.rate(step) if self.recipe.cosine else 1.0)
        self.step()


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are made orthogonal (Jordan et al., 2024), for matrices.

    torch's own Muon always iterates in bf16. A CPU without instructions for it emulates them, at a hundredth of the
    speed of float32: an update of a model of width 176 then took longer than its step. This one iterates in the
    precision that the hardware is made for, and is otherwise the same.

    Args:
        matrices: the parameters.
        lr: the learning rate; matrices with more rows than columns get it times the root of their ratio.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(momentum, MOMENTUM))  # Nesterov's look ahead
                ratio = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                matrix.add_(update.to(matrix), alpha=-group["lr"] * ratio)


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly U Vᵀ of a matrix U S Vᵀ: all singular values lie between about 0.7 and 1.2."""
    bf16 = matrix.device.type != "cpu" or cpu_has_bf16()
    x = matrix.to(torch.bfloat16 if bf16 else torch.float32)
    upright = x.shape[0] > x.shape[1]
    x = x.T if upright else x  # the smaller Gram matrix of the two
    x = x / x.norm().clamp(min=1e-7)  # the iteration needs singular values of at most 1
    a, b, c = NEWTON_SCHULZ
    for _ in range(ORTHOGONAL_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if upright else x
