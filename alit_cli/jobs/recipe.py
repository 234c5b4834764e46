"""How a model is trained: frozen, validated options, and the recipe of each preset in one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alit_cli.config import PRESETS
from alit_cli.errors import InputError
from alit_cli.model.losses import ITERATION_WEIGHTS

StageName = Literal["base", "distill", "finetune"]
STAGES: tuple[StageName, ...] = ("base", "distill", "finetune")


@dataclass(frozen=True)
class StageRecipe:
    """One stage's optimization. AdamW, cosine with linear warm-up, clipped gradients, averaged weights."""

    steps: int
    batch_size: int = 256
    learning_rate: float = 1.5e-4
    warmup: int = 0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 3.0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1 or self.learning_rate <= 0:
            raise InputError("steps, batch size and learning rate must be positive")


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        base, distill, finetune: the stages.
        views: random crops (and flips) kept decoded per photograph; an epoch uses one of them.
        validation: photographs held out of training for the L1 that is printed per budget.
        iterations: `all` sums the loss over every iteration of a rollout, end to end, as the paper does;
            `sampled` trains one random iteration a step, with gradients through it and the one before.
        first_only: share of the distillation steps that train the first iteration alone; the others join one by one
            until quantization begins (sampled only).
        quantize_from: share of the distillation steps after which the codebook is filled (k-means) and used.
        halting: dynamic halting of image tokens (`all` only).
        iteration_weights: λ_t of the distillation loss; later iterations count 1.
        kl_weight: weight of a VAE's KL divergence in the base stage.
        late: how much fine-tuning prefers late iterations: t is drawn with a weight of (t + 1) to this power; 0 takes
            them in turn, as the paper does.
        train_base_encoder: whether fine-tuning moves the base tokenizer's encoder too.
    """

    base: StageRecipe
    distill: StageRecipe
    finetune: StageRecipe
    views: int = 4
    validation: int = 64
    iterations: Literal["all", "sampled"] = "all"
    first_only: float = 0.0
    quantize_from: float = 0.0
    halting: bool = True
    iteration_weights: tuple[float, ...] = ITERATION_WEIGHTS
    kl_weight: float = 1e-4
    train_base_encoder: bool = True
    late: float = 0.0
    seed: int = 0

    def stage(self, name: StageName) -> StageRecipe:
        """The recipe of one stage."""
        chosen: StageRecipe = getattr(self, name)
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return dataclasses.asdict(self)


# The reference's optimizer: lr = 1.5e-4 (stage 1), 1e-4 (stage 2) per 256 images; 20 of 200 epochs of warm-up.
_PAPER = Recipe(
    base=StageRecipe(steps=200_000, batch_size=64, learning_rate=1e-4, warmup=5_000, weight_decay=0.0),
    distill=StageRecipe(steps=100_000, batch_size=256, warmup=10_000),
    finetune=StageRecipe(steps=100_000, batch_size=64, learning_rate=2.5e-5, warmup=10_000),
)
# Two CPU cores, an hour: one sampled iteration a step, small batches, a high rate, a frozen base encoder.
_NANO = Recipe(
    base=StageRecipe(steps=900, batch_size=24, learning_rate=1e-3, warmup=60, weight_decay=0.0, clip=1.0),
    distill=StageRecipe(steps=1700, batch_size=48, learning_rate=1.5e-3, warmup=50),
    finetune=StageRecipe(steps=350, batch_size=48, learning_rate=5e-4, warmup=20),
    iterations="sampled",
    first_only=0.3,
    quantize_from=0.42,
    halting=False,
    train_base_encoder=False,
    late=1.5,
)
RECIPES: dict[str, Recipe] = {name: _NANO if name == "nano" else _PAPER for name in PRESETS}


def recipe_for(
    preset: str,
    steps: Mapping[StageName, int | None],
    batch_size: int | None = None,
    learning_rate: float | None = None,
    **changes: Any,
) -> Recipe:
    """A preset's recipe with the user's changes; None leaves the preset's value.

    Args:
        preset: a name of config.PRESETS (a model of another name trains as the paper's).
        steps: steps of single stages.
        batch_size, learning_rate: for every stage.
        changes: other fields of Recipe.

    Raises:
        InputError: a value does not fit.
    """
    recipe = RECIPES.get(preset, _PAPER)
    fields = {name: value for name, value in changes.items() if value is not None}
    for name in STAGES:
        wanted: dict[str, Any] = {"steps": steps.get(name), "batch_size": batch_size, "learning_rate": learning_rate}
        stage = dataclasses.replace(recipe.stage(name), **{k: v for k, v in wanted.items() if v is not None})
        fields[name] = stage
    recipe = dataclasses.replace(recipe, **fields)
    if recipe.halting and recipe.iterations == "sampled":
        raise InputError("halting needs whole rollouts: use it with --iterations all")
    return recipe
