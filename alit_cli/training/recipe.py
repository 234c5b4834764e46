"""How a model is trained: frozen, validated options, and the recipe of each preset in one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alit_cli.config import PRESETS
from alit_cli.errors import InputError
from alit_cli.training.stages.losses import ITERATION_WEIGHTS

StageName = Literal["base", "distill", "finetune"]
STAGES: tuple[StageName, ...] = ("base", "distill", "finetune")


@dataclass(frozen=True)
class StageRecipe:
    """One stage's optimization. AdamW, cosine with linear warm-up, clipped gradients, averaged weights.

    Attributes:
        steps, batch_size: the batch is the whole one, of all processes.
        learning_rate, warmup: the peak, and the steps in which it is reached.
        weight_decay, betas: of AdamW; one-dimensional parameters never decay.
        accumulate: pieces that each process works its part of a batch off in, to save memory.
        precision: auto (bf16 on a GPU that has it, else float32), float32 or bf16; weights stay float32.
        clip: norm that gradients are clipped to.
        muon: learning rate of Muon for the matrices of the transformers; 0 leaves them to AdamW.
        late: how much sampling prefers late iterations: t is drawn with a weight of (t + 1) to this power. Fine-tuning
            takes iterations in turn where it is 0, as the paper does.
    """

    steps: int
    batch_size: int = 256
    learning_rate: float = 1.5e-4
    warmup: int = 0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 3.0
    muon: float = 0.0
    late: float = 0.0
    accumulate: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.batch_size, self.accumulate) < 1 or self.learning_rate <= 0:
            raise InputError("Steps, batch size and learning rate must be positive.")


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        base, distill, finetune: the stages.
        views: random crops (and flips) kept decoded per photograph; an epoch uses one of them. 0 keeps none on disk and
            decodes a fresh one at every use.
        validation: photographs held out of training for the L1 that is printed per budget.
        iterations: `all` sums the loss over every iteration of a rollout, end to end, as the paper does;
            `sampled` trains one random iteration a step, and one before it.
        window: how many iterations a fine-tuning loss is followed back through; 0 is all of them. Where it is cut, no
            iteration learns to carry the image on to those after the next, and late ones see it faded.
        at_once: share of the distillation steps in which all latents of an iteration read the image together, in one
            pass instead of a rollout (sampled only). It is cheap, and teaches the decoder to listen to every latent;
            rollouts from the start teach it to live from the first ones, and it ignores the later ones for good.
        rollouts_from: share from which rollouts are whole; between the two their passes grow in number.
        quantize_from: share of the distillation steps after which the codebook is filled (k-means) and used.
        halting: dynamic halting of image tokens (`all` only).
        iteration_weights: λ_t of the distillation loss; later iterations count 1.
        kl_weight: weight of a VAE's KL divergence in the base stage.
        lpips: weight files of LPIPS (torchvision's VGG16 and lpips' heads); without them there is no perceptual term.
        perceptual_weight: of LPIPS beside L1, in the base and fine-tuning stages.
        gan: the stages, base or finetune, that a critic takes part in.
        gan_schedule: (share of the steps, adversarial weight from there on), in order; before the first it is 0.
        critic_steps: updates of the critic before each step of the tokenizer.
        base_precision: of the base tokenizer's decoder in fine-tuning, where it is not the stage's. On a CPU, bf16 pays
            for its convolutions and not for a narrow transformer.
        train_base_encoder: whether fine-tuning moves the base tokenizer's encoder too.
        seed: of everything that is drawn.
    """

    base: StageRecipe
    distill: StageRecipe
    finetune: StageRecipe
    views: int = 0
    validation: int = 64
    iterations: Literal["all", "sampled"] = "all"
    window: int = 0
    at_once: float = 0.0
    rollouts_from: float = 0.0
    quantize_from: float = 0.0
    halting: bool = True
    iteration_weights: tuple[float, ...] = ITERATION_WEIGHTS
    kl_weight: float = 1e-4
    lpips: tuple[str, ...] = ()
    perceptual_weight: float = 1.0
    gan: tuple[StageName, ...] = ()
    gan_schedule: tuple[tuple[float, float], ...] = ((0.1, 0.2), (0.5, 0.8))
    critic_steps: int = 8
    base_precision: str | None = None
    train_base_encoder: bool = True
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
    gan=("finetune",),
)
# Two CPU cores, two hours: one sampled iteration a step, small batches, a high rate, a frozen base encoder.
_NANO = Recipe(
    base=StageRecipe(
        steps=3000, batch_size=32, learning_rate=1e-3, warmup=100, weight_decay=0.0, clip=1.0, precision="bf16"
    ),
    distill=StageRecipe(steps=2600, batch_size=24, learning_rate=1e-3, warmup=50, muon=0.015, late=2.0),
    finetune=StageRecipe(steps=4000, batch_size=24, learning_rate=8e-4, warmup=50, muon=0.01, late=0.5),
    views=4,
    iterations="sampled",
    at_once=0.35,
    rollouts_from=0.75,
    quantize_from=0.5,
    iteration_weights=(),
    halting=False,
    kl_weight=1e-5,
    base_precision="bf16",
    train_base_encoder=False,
)
RECIPES: dict[str, Recipe] = {name: _NANO if name == "nano" else _PAPER for name in PRESETS}


def recipe_for(
    preset: str,
    steps: Mapping[StageName, int | None],
    every_stage: Mapping[str, Any],
    **changes: Any,
) -> Recipe:
    """A preset's recipe with the user's changes; None leaves the preset's value, but sampled iterations end halting.

    Args:
        preset: a name of config.PRESETS (a model of another name trains as the paper's).
        steps: steps of single stages.
        every_stage: fields of StageRecipe, for every stage.
        changes: other fields of Recipe.

    Raises:
        InputError: a value does not fit.
    """
    recipe = RECIPES.get(preset, _PAPER)
    fields = {name: value for name, value in changes.items() if value is not None}
    for name in STAGES:
        wanted = {"steps": steps.get(name), **every_stage}
        stage = dataclasses.replace(recipe.stage(name), **{k: v for k, v in wanted.items() if v is not None})
        fields[name] = stage
    if fields.get("iterations") == "sampled":
        fields.setdefault("halting", False)
    recipe = dataclasses.replace(recipe, **fields)
    if recipe.halting and recipe.iterations == "sampled":
        raise InputError("Halting needs whole rollouts: use it with --iterations all.")
    if unknown := set(recipe.gan) - {"base", "finetune"}:
        raise InputError(f"A critic takes part in the stages base and finetune, not {sorted(unknown)[0]!r}.")
    return recipe
