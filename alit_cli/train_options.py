"""The options of `alit train` that say how the weights are moved: the recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from alit_cli.config import STAGES, StageName
from alit_cli.grouped_help import COMPUTE, Decorator, option
from alit_cli.option_types import NumberPairs, Numbers


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """How a model is trained; None leaves the value of the recipe."""

    recipe: Literal["preset", "paper"]
    base_steps: int | None
    distill_steps: int | None
    finetune_steps: int | None
    batch_size: int | None
    lr: float | None
    warmup: float | None
    final_rate: float | None
    muon_lr: float | None
    trained_iterations: Literal["all", "sampled"] | None
    late_bias: float | None
    iteration_odds: tuple[float, ...] | None
    halting: bool | None
    iteration_weights: tuple[float, ...] | None
    kmeans: bool | None
    ema: Literal["warmup", "epoch"] | None
    lpips: tuple[Path, ...]
    perceptual_weight: float | None
    lpips_range: Literal["-1,1", "0,1"] | None
    gan: str | None
    gan_schedule: tuple[tuple[float, float], ...] | None
    critic_betas: tuple[float, ...] | None
    critic_decay: float | None
    critic_rate: Literal["constant", "cosine"] | None
    critic_clip: float | None
    crops: int | None
    crop_area: tuple[float, ...] | None
    crop_box: Literal["fitted", "torchvision"] | None
    crop_filter: Literal["bicubic", "bilinear"] | None
    seed: int | None

    def of_stages(self) -> dict[StageName, dict[str, Any]]:
        """Fields of the training room's StageRecipe, stage by stage; None leaves the recipe's value."""
        every = {
            "batch_size": self.batch_size,
            "learning_rate": self.lr,
            "warmup_share": self.warmup,
            "final_rate": self.final_rate,
            "muon": self.muon_lr,
            "late_bias": self.late_bias,
            "iteration_odds": self.iteration_odds,
        }
        steps = {"base": self.base_steps, "distill": self.distill_steps, "finetune": self.finetune_steps}
        return {name: {**every, "steps": steps[name]} for name in STAGES}

    def of_whole(self) -> dict[str, Any]:
        """Fields of the training room's Recipe, and its name; None leaves the recipe's value."""
        critic = {
            "betas": self.critic_betas,
            "weight_decay": self.critic_decay,
            "cosine": None if self.critic_rate is None else self.critic_rate == "cosine",
            "clip": self.critic_clip,
        }
        return {
            "name": self.recipe,
            "crops": self.crops,
            "crop_area": self.crop_area,
            "crop_box": self.crop_box,
            "crop_filter": self.crop_filter,
            "iterations": self.trained_iterations,
            "halting": self.halting,
            "iteration_weights": self.iteration_weights,
            "kmeans": self.kmeans,
            "ema": self.ema,
            # click gives an empty tuple for an option that was not used, and only None leaves the recipe alone.
            "lpips": tuple(map(str, self.lpips)) or None,
            "perceptual_weight": self.perceptual_weight,
            "lpips_range": self.lpips_range,
            # `none` becomes an empty tuple, which takes the critic away; None keeps the stages of the recipe.
            "gan": None if self.gan is None else tuple(name for name in self.gan.split(",") if name != "none"),
            "gan_schedule": self.gan_schedule,
            "critic": critic,
            "seed": self.seed,
        }


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options of RecipeOptions."""
    # The decorator next to the function comes first in click's order, so the list is applied from its end.
    for decorate in reversed([*OPTIMIZATION, *DISTILLATION, *PIXELS, *CROPS]):
        command = decorate(command)
    return command


def _of_recipe(name: str, text: str, kind: click.ParamType, former: Sequence[str] = ()) -> Decorator:  # type: ignore[type-arg]
    """An option whose value the preset's recipe has where it is not given."""
    return option(COMPUTE, name, formerly=former, type=kind, help=f"{text} [default: the preset's]")


# All these have the default None: the user said nothing, and the recipe decides. So each help text names the value.
OPTIMIZATION = [
    option(
        COMPUTE,
        "--recipe",
        type=click.Choice(["preset", "paper"]),
        default="preset",
        help="`paper` trains as the authors' code does, at the sizes of any preset; other options still count.",
    ),
    _of_recipe("--base-steps", "Steps of the base stage.", click.IntRange(1)),
    _of_recipe("--distill-steps", "Steps of the distillation stage.", click.IntRange(1)),
    _of_recipe("--finetune-steps", "Steps of the fine-tuning stage.", click.IntRange(1)),
    _of_recipe("--batch-size", "Photographs per step, of all processes, in every stage.", click.IntRange(1)),
    _of_recipe("--lr", "Peak learning rate, in every stage.", click.FloatRange(0, min_open=True)),
    _of_recipe("--warmup", "Share of each stage's steps until the peak is reached.", click.FloatRange(0, 1)),
    option(
        COMPUTE,
        "--final-rate",
        type=click.FloatRange(0, 1),
        help="Learning rate at the end of the cosine, as a share of the peak. [default: 0.02; 0 for paper]",
    ),
    option(
        COMPUTE,
        "--muon-lr",
        type=click.FloatRange(0),
        help="Peak learning rate of Muon, which trains the matrices of the transformers; 0 leaves them to AdamW and "
        "--lr. [default: 0.015 in distill and 0.01 in finetune for nano, else 0]",
    ),
    option(
        COMPUTE,
        "--ema",
        type=click.Choice(["warmup", "epoch"]),
        help="How weights are averaged: with a decay that grows at first (warmup), or starting again from the current "
        "weights at every epoch (epoch). [default: warmup; epoch for paper]",
    ),
]
DISTILLATION = [
    option(
        COMPUTE,
        "--trained-iterations",
        formerly=["--iterations"],
        type=click.Choice(["all", "sampled"]),
        help="Train all iterations in each step, or a random one and one before it. [default: all; sampled for nano]",
    ),
    _of_recipe(
        "--late-bias",
        "How strongly sampling prefers late iterations, in every stage; 0 for no bias.",
        click.FLOAT,
        ["--late"],
    ),
    option(
        COMPUTE,
        "--iteration-odds",
        type=Numbers(float),
        metavar="NUMBER[,…]",
        help="Relative frequency of each iteration in sampling, one number per iteration, instead of --late-bias. "
        "[default: as --late-bias says]",
    ),
    option(
        COMPUTE,
        "--halting/--no-halting",
        default=None,
        help="Dynamic halting of image tokens. [default: on; off for nano]",
    ),
    option(
        COMPUTE,
        "--iteration-weights",
        type=Numbers(float),
        metavar="NUMBER[,…]",
        help="Weights λ of the iterations in the distillation loss; further iterations have 1. [default: "
        "2.5,2,1.5,1.25; 1 for nano]",
    ),
    option(
        COMPUTE,
        "--kmeans/--no-kmeans",
        default=None,
        help="Start the 1D codebook from k-means, and move unused codes to latents. [default: on; off for paper]",
    ),
]
PIXELS = [
    option(
        COMPUTE,
        "--lpips",
        type=click.Path(path_type=Path),
        multiple=True,
        help="The two weight files of LPIPS (torchvision's vgg16 and lpips' vgg), for a perceptual term in base and "
        "finetune; give the option twice. [default: no perceptual term]",
    ),
    option(COMPUTE, "--perceptual-weight", type=click.FloatRange(0), help="Weight of LPIPS beside L1. [default: 1]"),
    option(
        COMPUTE,
        "--lpips-range",
        type=click.Choice(["-1,1", "0,1"]),
        help="Range of the pixels that LPIPS sees. [default: -1,1; 0,1 for paper]",
    ),
    option(
        COMPUTE,
        "--gan",
        type=click.Choice(["none", "base", "finetune", "base,finetune"]),
        help="Stages with a critic (GAN discriminator). [default: finetune; none for nano; base,finetune for paper]",
    ),
    option(
        COMPUTE,
        "--gan-schedule",
        type=NumberPairs("0.1:0.2,0.5:0.8"),
        metavar="SHARE:WEIGHT,…",
        help="The critic's weight from each share of the steps on. [default: 0.1:0.2,0.5:0.8; 0.51:0.2,0.73:0.8 for "
        "paper]",
    ),
    option(
        COMPUTE,
        "--critic-betas",
        type=Numbers(float),
        metavar="NUMBER,NUMBER",
        help="β of the critic's AdamW. [default: 0.5,0.9; 0.9,0.95 for paper]",
    ),
    option(
        COMPUTE,
        "--critic-decay",
        type=click.FloatRange(0),
        help="Weight decay of the critic. [default: 0; 0.01 for paper]",
    ),
    option(
        COMPUTE,
        "--critic-rate",
        type=click.Choice(["constant", "cosine"]),
        help="Whether the critic's learning rate stays at the peak or follows the tokenizer's. [default: constant; "
        "cosine for paper]",
    ),
    option(
        COMPUTE,
        "--critic-clip",
        type=click.FloatRange(0),
        help="Norm to which the critic's gradients are clipped; 0 for no clipping. [default: 0; 3 for paper]",
    ),
]
CROPS = [
    option(
        COMPUTE,
        "--crops",
        formerly=["--views"],
        type=click.IntRange(0),
        help="Random crops cached per photograph; 0 makes a new one at every use. [default: 0; 4 for nano]",
    ),
    option(
        COMPUTE,
        "--crop-area",
        type=Numbers(float),
        metavar="LOW,HIGH",
        help="Share of a photograph's area that a crop takes. [default: 0.8,1]",
    ),
    option(
        COMPUTE,
        "--crop-box",
        type=click.Choice(["fitted", "torchvision"]),
        help="What --crop-area is a share of: the largest box of the drawn aspect that fits (fitted), or the whole "
        "photograph, as in RandomResizedCrop (torchvision). [default: fitted; torchvision for paper]",
    ),
    option(
        COMPUTE,
        "--crop-filter",
        type=click.Choice(["bicubic", "bilinear"]),
        help="How crops are resized. [default: bicubic; bilinear for paper]",
    ),
    option(COMPUTE, "--seed", metavar="N", type=int, help="Seed of everything that is drawn. [default: 0]"),
]
