"""How a model is trained: frozen, validated options, and the recipe of each preset in one table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from alit_cli.config import PRESETS, STAGES, StageName
from alit_cli.data.pictures.fitting import CropBox, CropFilter
from alit_cli.errors import InputError
from alit_cli.training.stages.losses import ITERATION_WEIGHTS

PIXEL_STAGES: tuple[StageName, ...] = ("base", "finetune")
"""The stages that see pixels, where LPIPS and a critic can take part."""

OLD_KEYS = {
    "views": "crops",
    "at_once": "parallel_until",
    "rollouts_from": "full_rollouts_from",
    "window": "grad_window",
    "late": "late_bias",
    "base_precision": "decoder_precision",
}
"""Names that recipes had in earlier releases, and what they are called now."""


@dataclass(frozen=True)
class StageRecipe:
    """One stage's optimization: AdamW, a cosine with linear warm-up, clipped gradients, and an EMA of the weights.

    Attributes:
        steps: optimizer steps.
        batch_size: photographs per step, of all processes together.
        learning_rate: the peak.
        warmup: steps until the peak is reached.
        weight_decay: of AdamW; one-dimensional parameters never decay.
        betas: of AdamW.
        clip: the norm that gradients are clipped to.
        final_rate: share of the learning rate that the cosine ends at, so that the last steps still move something.
        muon: learning rate of Muon for the matrices of the transformers; 0 leaves them to AdamW.
        late_bias: how strongly sampling prefers late iterations: iteration t (from 0) is drawn with a weight of
            (t + 1) to this power. Fine-tuning takes iterations in turn where it is 0, as the paper does.
        iteration_odds: weights with which the iterations are drawn, one for each; they replace late_bias.
        accumulate: pieces in which each process works its part of a batch off, to save memory.
        precision: auto (bf16 where the hardware has it), float32 or bf16. Weights and optimizer stay float32.
    """

    steps: int
    batch_size: int = 256
    learning_rate: float = 1.5e-4
    warmup: int = 0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 3.0
    final_rate: float = 0.02
    muon: float = 0.0
    late_bias: float = 0.0
    iteration_odds: tuple[float, ...] = ()
    accumulate: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.batch_size, self.accumulate) < 1 or self.learning_rate <= 0:
            raise InputError("Steps, batch size and learning rate must be positive.")
        if self.iteration_odds and not (min(self.iteration_odds) >= 0 < sum(self.iteration_odds)):
            raise InputError("--iteration-odds takes numbers from 0 on, which are not all 0.")

    def rate(self, step: int) -> float:
        """Share of the learning rate at a step (from 0): linear warm-up, then half a cosine down to final_rate."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class CriticRecipe:
    """The optimization of the critics: AdamW at the learning rate of the stage.

    Attributes:
        betas: of AdamW. Little momentum, as PatchGANs are trained: the tokenizer that the critic judges changes with
            every step.
        weight_decay: of all its parameters.
        cosine: whether the rate follows the stage's warm-up and cosine, or stays at its peak.
        clip: the norm that gradients are clipped to; 0 leaves them.
    """

    betas: tuple[float, float] = (0.5, 0.9)
    weight_decay: float = 0.0
    cosine: bool = False
    clip: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        base: recipe of the base tokenizer's stage.
        distill: recipe of latent distillation.
        finetune: recipe of fine-tuning on pixels.
        crops: random crops (half of them mirrored) kept decoded per photograph; an epoch uses one of them. 0 keeps
            none on disk and decodes a new one at every use.
        crop_area: the smallest and the largest share of a photograph's area that a crop takes. With 0.2,0.3 a model of
            128 pixels learns at the pixel scale of one of 256.
        crop_box: what that share is of: the largest box of the drawn aspect that the photograph holds (fitted), or the
            whole photograph, where a box that sticks out is drawn again (torchvision's RandomResizedCrop).
        crop_filter: how crops are resized; both filters are antialiased.
        validation: photographs held out of training for the L1 that is printed per budget.
        iterations: `all` sums the loss over every iteration of a rollout, end to end, as the paper does;
            `sampled` trains one random iteration per step, and a second one before it.
        grad_window: a fine-tuning loss is followed back through this many iterations; 0 is all of them. Where it is
            cut, no iteration learns to carry the image on to those after the next, and late ones see it faded.
        parallel_until: share of the distillation steps in which all latents up to the trained iteration read the image
            together, in one pass instead of a rollout (sampled only). This warm-up is cheap. Without it the decoder
            learns to use only the first latents and never recovers.
        full_rollouts_from: share from which rollouts are whole; between the two, their passes grow in number.
        quantize_from: share of the distillation steps after which the codebook is filled (k-means) and used.
        continue_transformers: distillation continues from trained transformers: the codebook in use is kept, and no
            bias is reset.
        halting: dynamic halting of image tokens (`all` only).
        iteration_weights: λ_t of the distillation loss; later iterations count 1.
        kl_weight: weight of a VAE's KL divergence in the base stage.
        lpips: weight files of LPIPS (torchvision's VGG16 and lpips' heads); without them there is no perceptual term.
        perceptual_weight: weight of LPIPS beside L1, in the base and fine-tuning stages.
        lpips_range: the range that pixels have for LPIPS: -1,1 as its package asks, or 0,1 as the authors feed it.
        gan: the stages, base or finetune, that a critic takes part in.
        gan_schedule: (share of the steps, adversarial weight from there on), in order; before the first it is 0.
        critic_steps: updates of the critic before each step of the tokenizer.
        critic: how it is optimized.
        kmeans: fill the 1D codebook by k-means and move its unused codes to latents; else it stays as it was drawn.
        ema: how weights are averaged: all along, with a decay that grows (warmup), or from the live weights again at
            the start of every epoch (epoch).
        decoder_precision: precision of the base tokenizer's decoder in fine-tuning, where it is not the stage's.
        train_base_encoder: whether fine-tuning moves the base tokenizer's encoder too.
        checkpointing: whether a step keeps little of its forward pass and computes it again for the backward pass; auto
            does where the memory of the device would not suffice (memory.py).
        seed: of everything that is drawn.
    """

    base: StageRecipe
    distill: StageRecipe
    finetune: StageRecipe
    crops: int = 0
    crop_area: tuple[float, float] = (0.8, 1.0)
    crop_box: CropBox = "fitted"
    crop_filter: CropFilter = "bicubic"
    validation: int = 64
    iterations: Literal["all", "sampled"] = "all"
    grad_window: int = 0
    parallel_until: float = 0.0
    full_rollouts_from: float = 0.0
    quantize_from: float = 0.0
    continue_transformers: bool = False
    halting: bool = True
    iteration_weights: tuple[float, ...] = ITERATION_WEIGHTS
    kl_weight: float = 1e-4
    lpips: tuple[str, ...] = ()
    perceptual_weight: float = 1.0
    lpips_range: Literal["-1,1", "0,1"] = "-1,1"
    gan: tuple[StageName, ...] = ()
    gan_schedule: tuple[tuple[float, float], ...] = ((0.1, 0.2), (0.5, 0.8))
    critic_steps: int = 8
    critic: CriticRecipe = CriticRecipe()
    kmeans: bool = True
    ema: Literal["warmup", "epoch"] = "warmup"
    decoder_precision: str | None = None
    train_base_encoder: bool = True
    checkpointing: Literal["auto", "on", "off"] = "auto"
    seed: int = 0

    def held_out(self, photographs: int) -> int:
        """How many of so many photographs are kept for validation: a fifth of a few at most."""
        return min(self.validation, photographs // 5)

    def __post_init__(self) -> None:
        if self.halting and self.iterations == "sampled":
            raise InputError("Halting needs whole rollouts. Use --halting with --trained-iterations all.")
        if unknown := set(self.gan) - set(PIXEL_STAGES):
            raise InputError(f"A critic can take part in the stages base and finetune, not in {sorted(unknown)[0]!r}.")
        if len(self.critic.betas) != 2 or not 0 <= min(self.critic.betas) <= max(self.critic.betas) < 1:
            raise InputError("--critic-betas takes two numbers from 0 to below 1, for example 0.5,0.9.")
        if len(self.crop_area) != 2 or not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise InputError("--crop-area takes two shares with 0 < LOW ≤ HIGH ≤ 1, for example 0.8,1.")

    def stage(self, name: StageName) -> StageRecipe:
        """The recipe of one stage."""
        chosen: StageRecipe = getattr(self, name)
        return chosen

    def adversarial_weight(self, share: float) -> float:
        """The critic's weight at a share of the steps: that of the last mark of the schedule already passed."""
        return next((weight for start, weight in reversed(self.gan_schedule) if share >= start), 0.0)

    def epoch(self, name: StageName, step: int, photos: int) -> int:
        """How often a stage has gone through the photographs before a step, as the authors count epochs.

        They draw the critic's batches and the tokenizer's from one loader, so an epoch with a critic has fewer steps.
        """
        stage = self.stage(name)
        critic_from = math.ceil(self.gan_schedule[0][0] * stage.steps) if name in self.gan else stage.steps
        batches = step + self.critic_steps * max(0, step - critic_from)
        return batches // max(1, photos // stage.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return dataclasses.asdict(self)


# The authors' optimizer and losses, with what has turned out better. The reference (`alit train`) has a table of all
# that deviates from their code, and why; _AUTHORS below is without these deviations.
_PAPER = Recipe(
    base=StageRecipe(steps=200_000, batch_size=64, learning_rate=1e-4, warmup=5_000, weight_decay=0.0),
    distill=StageRecipe(steps=100_000, batch_size=256, warmup=10_000),
    finetune=StageRecipe(steps=100_000, batch_size=64, learning_rate=2.5e-5, warmup=10_000),
    gan=("finetune",),
)
# The training of the authors' code. Fine-tuning takes 200 epochs of ImageNet-100 (1,320 batches of 96). In the epochs
# after the first 21 the critic takes 8 of 9 batches, so these are 54,000 steps of the tokenizer: the critic joins at
# 51 % of them and counts 0.8 from 73 % on, and the 20 epochs of warm-up are nearly half of them.
_AUTHORS = dataclasses.replace(
    _PAPER,
    distill=dataclasses.replace(_PAPER.distill, final_rate=0.0),
    finetune=StageRecipe(steps=54_000, batch_size=96, learning_rate=3.75e-5, warmup=26_400, final_rate=0.0),
    crop_box="torchvision",
    crop_filter="bilinear",
    lpips_range="0,1",
    # The authors took base tokenizers that others had trained with LPIPS and a critic.
    gan=("base", "finetune"),
    gan_schedule=((0.51, 0.2), (0.73, 0.8)),
    critic=CriticRecipe(betas=(0.9, 0.95), weight_decay=0.01, cosine=True, clip=3.0),
    kmeans=False,
    ema="epoch",
)
# For two CPU cores: one sampled iteration per step, small batches, a high rate, a frozen base encoder (so that its
# features can be cached), and a first third in which all latents read the image in one pass. At 128 pixels
# (--image-size 128 --tokens-per-iteration 8) it takes about four hours, and at the preset's 256 pixels most of a day,
# by the seconds per step that nano.md records on processors with bf16 instructions; without those it takes longer.
_NANO = Recipe(
    base=StageRecipe(steps=3000, batch_size=32, learning_rate=1e-3, warmup=100, weight_decay=0.0, clip=1.0),
    distill=StageRecipe(steps=2600, batch_size=24, learning_rate=1e-3, warmup=50, muon=0.015, late_bias=2.0),
    finetune=StageRecipe(steps=4000, batch_size=24, learning_rate=8e-4, warmup=50, muon=0.01, late_bias=0.5),
    crops=4,
    iterations="sampled",
    parallel_until=0.35,
    full_rollouts_from=0.75,
    quantize_from=0.5,
    iteration_weights=(),
    halting=False,
    kl_weight=1e-5,
    train_base_encoder=False,
)
RECIPES: dict[str, Recipe] = {name: _NANO if name == "nano" else _PAPER for name in PRESETS}


def recipe_for(
    preset: str,
    stages: Mapping[StageName, Mapping[str, Any]],
    name: Literal["preset", "paper"] = "preset",
    **changes: Any,
) -> Recipe:
    """A preset's recipe with the user's changes. None leaves the preset's value, but sampled iterations end halting.

    Args:
        preset: a name of config.PRESETS (a model of another name trains as the paper's).
        stages: fields of StageRecipe, for single stages; and `warmup_share`, of the steps.
        name: `paper` for the training of the authors' code, whatever the sizes of the model.
        changes: other fields of Recipe; `critic` holds fields of CriticRecipe.

    Raises:
        InputError: a value does not fit.
    """
    recipe = _AUTHORS if name == "paper" else RECIPES.get(preset, _PAPER)
    fields = {key: value for key, value in changes.items() if value is not None}
    for stage in STAGES:
        fields[stage] = _changed(recipe.stage(stage), stages.get(stage, {}), scaled=name == "paper")
    if "critic" in fields:
        given = {key: value for key, value in fields["critic"].items() if value is not None}
        fields["critic"] = dataclasses.replace(recipe.critic, **given)
    if fields.get("iterations") == "sampled":
        fields.setdefault("halting", False)
    return dataclasses.replace(recipe, **fields)


def _changed(stage: StageRecipe, changes: Mapping[str, Any], scaled: bool) -> StageRecipe:
    """A stage's recipe with the user's changes.

    Args:
        stage: the recipe.
        changes: fields of StageRecipe, or `warmup_share`; None leaves a value.
        scaled: the warm-up keeps its share of the steps, and the rate follows the batch, as in the authors' code.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    steps, batch_size = given.get("steps", stage.steps), given.get("batch_size", stage.batch_size)
    share = given.pop("warmup_share", stage.warmup / stage.steps if scaled else None)
    if share is not None:
        given.setdefault("warmup", round(share * steps))
    if scaled:
        given.setdefault("learning_rate", stage.learning_rate * batch_size / stage.batch_size)
    return dataclasses.replace(stage, **given)


def current_keys(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as an earlier release wrote it (Recipe.to_dict), under today's names."""
    return {
        OLD_KEYS.get(key, key): current_keys(value) if isinstance(value, Mapping) else value
        for key, value in recipe.items()
    }
