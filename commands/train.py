"""`alit train`: photographs to a finished tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from alit_cli.config import PRESETS
from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, OUTPUT, RUN, Command, Decorator, example, option
from alit_cli.option_types import ChoicePerKey, Choices, NumberPairs, Numbers
from alit_cli.options import as_record, config_option, device_option, json_option, out_option, quiet_option

if TYPE_CHECKING:
    from alit_cli.training.distributed import Distributed
    from alit_cli.training.job import ModelOptions, TrainJob

StageName = Literal["base", "distill", "finetune"]
# The order is the order of training: each stage starts from the weights that the stage before it has left.
STAGES: tuple[StageName, ...] = ("base", "distill", "finetune")
# These are the words of --precision; ChoicePerKey lets a stage have its own.
PRECISIONS = ("auto", "float32", "bf16")


@dataclass(frozen=True)
class TrainOptions:
    """What `alit train` is asked for; None leaves the value of the preset, or of the model to start from."""

    photos: tuple[str, ...]
    out: Path
    # The model.
    preset: str | None
    name: str | None
    base_tokenizer: Literal["vqgan", "vae"] | None
    continuous: bool
    image_size: int | None
    tokens_per_iteration: int | None
    iterations_per_rollout: int | None
    width: int | None
    layers: int | None
    heads: int | None
    codes: int | None
    token_dim: int | None
    # Where it starts.
    init: Path | None
    init_fit: Literal["tile", "resample"] | None
    # How it is trained.
    stages: tuple[StageName, ...]
    base_steps: int | None
    distill_steps: int | None
    finetune_steps: int | None
    batch_size: int | None
    accumulate: int | None
    checkpointing: Literal["auto", "on", "off"] | None
    lr: float | None
    muon_lr: float | None
    trained_iterations: Literal["all", "sampled"] | None
    late_bias: float | None
    iteration_odds: tuple[float, ...] | None
    halting: bool | None
    iteration_weights: tuple[float, ...] | None
    lpips: tuple[Path, ...]
    perceptual_weight: float | None
    gan: str | None
    gan_schedule: tuple[tuple[float, float], ...] | None
    crops: int | None
    crop_area: tuple[float, ...] | None
    decode_threads: int | None
    seed: int | None
    # What is written, and when.
    half: bool
    save_every: float
    validate_every: int
    resume: bool
    overwrite: bool
    precision: dict[str, str]
    device: str


def _size(name: str, text: str, most: int | None = None) -> Decorator:
    """An option of a size of the model, a whole number."""
    kind = click.IntRange(1 if most is None else 2, most)
    return option(COMPUTE, name, type=kind, help=f"{text} [default: the preset's, or that of --init]")


def _of_recipe(name: str, text: str, kind: click.ParamType, former: Sequence[str] = ()) -> Decorator:  # type: ignore[type-arg]
    """An option of the training whose value the preset's recipe has where it is not given."""
    return option(COMPUTE, name, formerly=former, type=kind, help=f"{text} [default: the preset's]")


@click.command(
    "train",
    cls=Command,
    epilog=example(
        "alit train ./photos --out m.safetensors",
        "alit train 'packs/train-*.tar' --image-size 256 --tokens-per-iteration 32 --out m256.safetensors",
    ),
)
@click.argument("photos", nargs=-1, required=True)
@out_option("model.safetensors", "The checkpoint to write. Unfinished work lies in OUT.work/ beside it.")
@option(
    COMPUTE,
    "--preset",
    type=click.Choice(PRESETS),
    help="Sizes and recipe. [default: nano, or that of a whole model given with --init]",
)
@option(OUTPUT, "--name", metavar="NAME", help="What the model calls itself. [default: the name of OUT]")
@option(
    COMPUTE,
    "--base-tokenizer",
    type=click.Choice(["vqgan", "vae"]),
    help="Base tokenizer. [default: a vae for nano, a vqgan for the other presets]",
)
@option(COMPUTE, "--continuous", is_flag=True, help="Leave the 1D latents unquantized.")
@_size("--image-size", "Pixels along one side of an image.")
@_size("--tokens-per-iteration", "1D tokens that each iteration adds.")
@_size("--iterations-per-rollout", "Iterations of a rollout, so the number of budgets.")
@_size("--width", "Width of both transformers.")
@_size("--layers", "Layers of each transformer.")
@_size("--heads", "Attention heads of each layer.")
# Token tables store the ids as uint16, so a codebook cannot have more than 65,536 codes.
@_size("--codes", "Codes that a 1D token can be.", most=65536)
@_size("--token-dim", "Numbers per code.")
@option(
    INPUT,
    "--init",
    type=click.Path(path_type=Path),
    help="A model to start from, also one of another image size or number of tokens; or a base tokenizer alone. "
    "[default: random weights]",
)
@option(
    COMPUTE,
    "--init-fit",
    type=click.Choice(["tile", "resample"]),
    help="How an --init of another size is made to fit: every tile of the larger image is a copy of the smaller model, "
    "or its positions are resampled. [default: tile where the sizes allow it]",
)
@option(
    COMPUTE,
    "--stages",
    type=Choices(STAGES),
    metavar="base,distill,finetune",
    default="base,distill,finetune",
    help="Which stages to run: base (base tokenizer), distill (latent distillation), finetune (on pixels).",
)
@_of_recipe("--base-steps", "Steps of the base stage.", click.IntRange(1))
@_of_recipe("--distill-steps", "Steps of the distillation stage.", click.IntRange(1))
@_of_recipe("--finetune-steps", "Steps of the fine-tuning stage.", click.IntRange(1))
@_of_recipe("--batch-size", "Photographs per step, of all processes, in every stage.", click.IntRange(1))
@option(HARDWARE, "--accumulate", type=click.IntRange(1), help="Pieces of each step, to save memory. [default: 1]")
@_of_recipe("--checkpointing", "Recompute activations; auto: if memory is short.", click.Choice(["auto", "on", "off"]))
@_of_recipe("--lr", "Peak learning rate, in every stage.", click.FLOAT)
@option(
    COMPUTE,
    "--muon-lr",
    type=click.FloatRange(0),
    help="Peak learning rate of Muon, which moves the matrices of the transformers; 0 leaves them to AdamW and --lr. "
    "[default: 0.015 in distill and 0.01 in finetune for nano, else 0]",
)
@option(
    COMPUTE,
    "--trained-iterations",
    formerly=["--iterations"],
    type=click.Choice(["all", "sampled"]),
    help="Train all iterations of a rollout in each step, or a sampled one. [default: all; sampled for nano]",
)
@_of_recipe("--late-bias", "Bias of sampling towards late iterations in every stage; 0: none.", click.FLOAT, ["--late"])
@option(
    COMPUTE,
    "--iteration-odds",
    type=Numbers(float),
    metavar="NUMBER[,…]",
    help="How often each iteration is drawn when one is sampled, one number per iteration, instead of --late-bias. "
    "[default: as --late-bias says]",
)
# The default None is a third answer: neither flag was given, so the preset decides.
@option(
    COMPUTE, "--halting/--no-halting", default=None, help="Dynamic halting of image tokens. [default: on; off for nano]"
)
@option(
    COMPUTE,
    "--iteration-weights",
    type=Numbers(float),
    metavar="NUMBER[,…]",
    help="λ of the distillation loss, iteration by iteration; the rest count 1. [default: 2.5,2,1.5,1.25; 1 for nano]",
)
@option(
    COMPUTE,
    "--lpips",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Weight files of LPIPS (torchvision's vgg16 and lpips' vgg), one option each, for a perceptual term in base "
    "and finetune. [default: no perceptual term]",
)
@option(COMPUTE, "--perceptual-weight", type=click.FloatRange(0), help="Weight of LPIPS beside L1. [default: 1]")
@option(
    COMPUTE,
    "--gan",
    type=click.Choice(["none", "base", "finetune", "base,finetune"]),
    help="Stages with a critic. [default: finetune; none for nano]",
)
@option(
    COMPUTE,
    "--gan-schedule",
    type=NumberPairs("0.1:0.2,0.5:0.8"),
    metavar="SHARE:WEIGHT,…",
    help="The critic's weight from each share of the steps on. [default: 0.1:0.2,0.5:0.8]",
)
@option(
    COMPUTE,
    "--crops",
    formerly=["--views"],
    type=click.IntRange(0),
    help="Random crops cached per photograph; 0 makes a new one at every use. [default: 0; 4 for nano]",
)
@option(
    COMPUTE,
    "--crop-area",
    type=Numbers(float),
    metavar="LOW,HIGH",
    help="Share of a photograph's area that a crop takes. [default: 0.8,1]",
)
@option(
    HARDWARE,
    "--decode-threads",
    formerly=["--workers"],
    type=click.IntRange(1),
    help="Threads that decode photographs, with --crops 0. [default: 4]",
)
@option(COMPUTE, "--seed", metavar="N", type=int, help="Seed of everything that is drawn. [default: 0]")
@option(OUTPUT, "--half", is_flag=True, help="Store float16 weights (half the file).")
@option(RUN, "--save-every", type=click.FloatRange(0), default=5.0, help="Minutes between saved states.")
@option(RUN, "--validate-every", type=click.IntRange(1), default=200, help="Steps between two validations.")
@option(
    RUN,
    "--resume",
    is_flag=True,
    help="Fail if there is no OUT.work/ to resume from. (Without this option it is resumed if it exists.)",
)
@option(RUN, "--overwrite", is_flag=True, help="Delete the unfinished run in OUT.work/ first.")
@option(
    HARDWARE,
    "--precision",
    type=ChoicePerKey(STAGES, PRECISIONS),
    metavar="auto|float32|bf16|STAGE=…",
    default="auto",
    help="Of every stage, or stage by stage (base=bf16,distill=float32). auto is bf16 where the hardware has it.",
)
@device_option
@json_option
@quiet_option
@config_option
@as_record(TrainOptions)
def command(options: TrainOptions, as_json: bool) -> None:
    """Train a tokenizer on PHOTOS (folders, files, globs, tars).

    Prints the losses and, on photographs held out of training, the L1 at every token budget. OUT.work/ keeps the log,
    pictures of reconstructions and TensorBoard's curves. Run the same command again to resume after an interruption.
    `torchrun --nproc-per-node N -m alit_cli train …` shares the work among processes.
    """
    _train(options, as_json)


def _train(options: TrainOptions, as_json: bool) -> None:
    # These modules import torch, which takes seconds; `alit train --help` must not wait for it.
    from alit_cli.console import follow, print_json, say, say_next
    from alit_cli.progress import Progress
    from alit_cli.training.distributed import Distributed
    from alit_cli.training.log import Remark, TrainRecord
    from alit_cli.training.loop import Intervals
    from alit_cli.training.train import headline, train

    # The job is told which place this process has among the others, so the process joins them first.
    distributed = Distributed.join(options.device)
    job = _job(options, distributed)
    intervals = Intervals(save_seconds=60 * options.save_every, validate_steps=options.validate_every)
    reports = train(job, intervals)
    if not distributed.is_main:  # the main process prints for all
        # `reports` is a generator: the training only goes on while somebody takes its reports, also where nobody reads
        # them.
        for _ in reports:
            pass
        distributed.leave()
        return

    def progress(report: Progress | TrainRecord | Remark) -> Progress | None:
        if isinstance(report, TrainRecord):
            return report.progress
        return report if isinstance(report, Progress) else None

    say(headline(job))
    # A run whose stages are all done yields remarks, but no record of training.
    trained = False
    # By stage, the steps and the last L1 on held-out photographs that this run has seen.
    stages: dict[str, dict[str, Any]] = {}
    for report in follow(reports, progress):
        if isinstance(report, TrainRecord):
            trained = True
            stage = stages.setdefault(report.stage, {"l1": None})
            stage["steps"] = report.step
            stage["l1"] = report.validation or stage["l1"]
        if isinstance(report, Remark):
            say(report.text)
        elif isinstance(report, TrainRecord) and report.validation:
            say(report.headline)
    if not trained:
        say(f"{job.work} holds all stages already; there is nothing left to do.")
    distributed.leave()
    # The path is alone on stdout, so that a script can read it; all that was said before went to stderr.
    if as_json:
        print_json({"out": job.out, "trained": trained, "stages": stages})
    else:
        click.echo(job.out)
    say_next(f"alit tokenize ./images -c {job.out} --out tokens.parquet", f"alit info {job.out}")


def _model(options: TrainOptions) -> ModelOptions:
    """Sizes and start of the model."""
    from alit_cli.training.job import ModelOptions

    return ModelOptions(
        options.preset,
        options.name,
        options.base_tokenizer,
        options.continuous,
        options.init,
        options.init_fit,
        {
            "image_size": options.image_size,
            "tokens_per_iteration": options.tokens_per_iteration,
            # The option has a longer name than the field, because --trained-iterations is about iterations too.
            "iterations": options.iterations_per_rollout,
            "width": options.width,
            "layers": options.layers,
            "heads": options.heads,
            "codes": options.codes,
            "token_dim": options.token_dim,
        },
    )


def _job(options: TrainOptions, distributed: Distributed) -> TrainJob:
    """What the room of training takes, from what the user gave."""
    from alit_cli.errors import InputError
    from alit_cli.training.crops import DECODE_THREADS
    from alit_cli.training.job import training_job

    # In all of these dicts None means that the user said nothing, and the value of the preset stays.
    every_stage = {
        "batch_size": options.batch_size,
        "accumulate": options.accumulate,
        "learning_rate": options.lr,
        "muon": options.muon_lr,
        "late_bias": options.late_bias,
        "iteration_odds": options.iteration_odds,
    }
    steps: dict[StageName, int | None] = {
        "base": options.base_steps,
        "distill": options.distill_steps,
        "finetune": options.finetune_steps,
    }
    stage_changes: dict[StageName, dict[str, Any]] = {
        name: {**every_stage, "steps": steps[name], "precision": options.precision.get(name)} for name in STAGES
    }
    changes = {
        "crops": options.crops,
        "crop_area": options.crop_area,
        "iterations": options.trained_iterations,
        "halting": options.halting,
        "iteration_weights": options.iteration_weights,
        # click gives an empty tuple for an option that was not used, and only None leaves the preset alone.
        "lpips": tuple(map(str, options.lpips)) or None,
        "perceptual_weight": options.perceptual_weight,
        # `none` becomes an empty tuple, which takes the critic away; None keeps the stages of the preset.
        "gan": None if options.gan is None else tuple(name for name in options.gan.split(",") if name != "none"),
        "gan_schedule": options.gan_schedule,
        "checkpointing": options.checkpointing,
        "seed": options.seed,
    }
    job = training_job(
        options.photos,
        options.out,
        _model(options),
        options.stages,
        stage_changes,
        changes,
        half=options.half,
        decode_threads=options.decode_threads or DECODE_THREADS,
        overwrite=options.overwrite,
        distributed=distributed,
    )
    # The job decides where its work folder is, so --resume is checked only after the job is made.
    if options.resume and not job.work.exists():
        raise InputError(
            f"There is no unfinished run in {job.work}. Give its --out, or leave --resume out to begin one."
        )
    return job
