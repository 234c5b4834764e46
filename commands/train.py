"""`alit train`: photographs to a finished tokenizer."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from alit_cli.config import PRESETS, STAGES, StageName
from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, LINE, OUTPUT, RUN, Command, Decorator, example, option
from alit_cli.option_types import ChoicePerKey, Choices
from alit_cli.options import as_record, config_option, device_option, json_option, out_option, quiet_option
from alit_cli.train_options import RecipeOptions, recipe_options

if TYPE_CHECKING:
    from alit_cli.training.distributed import Distributed
    from alit_cli.training.job import ModelOptions, TrainJob

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
    accumulate: int | None
    checkpointing: Literal["auto", "on", "off"] | None
    decode_threads: int | None
    # What is written, and when.
    log_to: tuple[Literal["tensorboard", "wandb", "none"], ...] | None
    half: bool
    save_every: float
    validate_every: int
    resume: bool
    overwrite: bool
    dry_run: bool
    precision: dict[str, str]
    device: str


def _size(name: str, text: str, most: int | None = None) -> Decorator:
    """An option of a size of the model, a whole number."""
    kind = click.IntRange(1 if most is None else 2, most)
    return option(COMPUTE, name, type=kind, help=f"{text} [default: the preset's, or that of --init]")


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
@option(OUTPUT, "--name", metavar="NAME", help="The name that the model file holds. [default: the name of OUT]")
@option(
    COMPUTE,
    "--base-tokenizer",
    type=click.Choice(["vqgan", "vae"]),
    help="Base tokenizer. [default: a vae for nano, a vqgan for the other presets]",
)
@option(COMPUTE, "--continuous", is_flag=True, help="Leave the 1D latents unquantized.")
@_size("--image-size", "Pixels along one side of an image.")
@_size("--tokens-per-iteration", "1D tokens that each iteration adds.")
@_size("--iterations-per-rollout", "Iterations of the model, which is the number of budgets.")
@_size("--width", "Width of both transformers.")
@_size("--layers", "Layers of each transformer.")
@_size("--heads", "Attention heads of each layer.")
# Token tables store the ids as uint16, so a codebook cannot have more than 65,536 codes.
@_size("--codes", "Codes in the codebook of the 1D tokens.", most=65536)
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
    help="How an --init of another size is made to fit: each tile of the larger image starts as a copy of the smaller "
    "model, or the positions are resampled. [default: tile if the sizes allow it]",
)
@option(
    COMPUTE,
    "--stages",
    type=Choices(STAGES),
    metavar="base,distill,finetune",
    default="base,distill,finetune",
    help="Which stages to run: base (base tokenizer), distill (latent distillation), finetune (on pixels).",
)
@recipe_options
@option(
    HARDWARE, "--accumulate", type=click.IntRange(1), help="Compute each step in N pieces, to save memory. [default: 1]"
)
@option(
    HARDWARE,
    "--checkpointing",
    type=click.Choice(["auto", "on", "off"]),
    help="Gradient checkpointing: the backward pass computes activations again instead of keeping them. auto turns it "
    "on if memory would be short. [default: auto]",
)
@option(
    HARDWARE,
    "--decode-threads",
    formerly=["--workers"],
    type=click.IntRange(1),
    help="Threads that decode photographs. [default: one per core, shared among the machine's processes; at least 4]",
)
@option(
    OUTPUT,
    "--log-to",
    type=Choices(("tensorboard", "wandb", "none")),
    metavar="tensorboard,wandb",
    help="Where curves are shown besides log.jsonl, or none. wandb takes its settings from its own variables, such as "
    "WANDB_MODE=offline. [default: tensorboard if it is installed]",
)
@option(OUTPUT, "--half", is_flag=True, help="Store float16 weights (half the file).")
@option(RUN, "--save-every", type=click.FloatRange(0), default=5.0, help="Minutes between saved states.")
@option(RUN, "--validate-every", type=click.IntRange(1), default=200, help="Steps between two validations.")
@option(
    RUN,
    "--resume",
    is_flag=True,
    help="Fail if there is no OUT.work/ to resume from. Without this option, a run resumes if OUT.work/ exists.",
)
@option(RUN, "--overwrite", is_flag=True, help="Delete the unfinished run in OUT.work/ first.")
@option(RUN, "--dry-run", is_flag=True, help="Only print what would be trained on, and about how long it would take.")
@option(
    HARDWARE,
    "--precision",
    type=ChoicePerKey(STAGES, PRECISIONS),
    metavar="auto|float32|bf16|STAGE=…",
    default="auto",
    help="For all stages, or stage by stage (base=bf16,distill=float32). auto is bf16 if the hardware has it.",
)
@device_option
@json_option
@quiet_option
@config_option
@as_record(TrainOptions, RecipeOptions)
def command(options: TrainOptions, recipe: RecipeOptions, as_json: bool) -> None:
    """Train a tokenizer on PHOTOS (folders, files, globs, tars).

    Prints the losses, and the L1 error at every token budget on photographs held out of training. OUT.work/ holds the
    log, pictures of reconstructions and the curves for TensorBoard. After an interruption, run the same command again
    to resume. `torchrun --nproc-per-node N -m alit_cli train …` divides the work among processes.
    """
    _train(options, recipe, as_json)


def _train(options: TrainOptions, recipe: RecipeOptions, as_json: bool) -> None:
    # These modules import torch, which takes seconds; `alit train --help` must not wait for it.
    from alit_cli.console import follow, print_json, say, say_next
    from alit_cli.progress import Progress
    from alit_cli.training.distributed import Distributed
    from alit_cli.training.loop import Intervals
    from alit_cli.training.records.log import Remark, TrainRecord
    from alit_cli.training.train import headline, train

    # The job is told which place this process has among the others, so the process joins them first.
    distributed = Distributed.join(options.device)
    job = _job(options, recipe, distributed)
    if options.dry_run:
        _estimate(job, as_json)
        return
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
    name = shlex.quote(str(job.out))
    say_next(f"alit tokenize ./images -c {name} --out tokens.parquet", f"alit info {name}")


def _estimate(job: TrainJob, as_json: bool) -> None:
    """Time a few steps of each stage, and say what the whole run would take."""
    from alit_cli.console import follow, print_json, say, show_table
    from alit_cli.progress import Progress, duration
    from alit_cli.training.dry_run import Expected, dry_run
    from alit_cli.training.train import headline

    main = job.distributed.is_main
    if main:
        say(headline(job))
    reports = dry_run(job)
    for report in follow(reports, lambda report: report if isinstance(report, Progress) else None) if main else reports:
        if not isinstance(report, Expected) or not main:
            continue
        for sentence in report.memory.values():
            say(sentence)
        if as_json:
            print_json({"out": job.out, **vars(report), "total": report.total})
            continue
        rows = [
            [name, f"{steps:,}", f"{report.seconds[name] / max(1, steps):.3g} s", duration(report.seconds[name])]
            for name, steps in report.steps.items()
        ]
        space = f" whose crops take {report.crop_bytes / 2**30:.3g} GiB of the disk" if report.crop_bytes else ""
        title = f"{report.photographs:,} photographs to train on{space}, {report.held_out} held out"
        show_table(title, ["stage", "steps", "a step", "in all"], rows)
        say(f"The steps take about {duration(report.total)}. Reading photographs and validation come on top.")
    job.distributed.leave()


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


def _job(options: TrainOptions, recipe: RecipeOptions, distributed: Distributed) -> TrainJob:
    """What the room of training takes, from what the user gave."""
    from alit_cli.errors import InputError
    from alit_cli.training.crops import decode_threads
    from alit_cli.training.job import training_job

    # None means that the user said nothing, and the value of the preset stays.
    stage_changes = {
        name: {**changes, "accumulate": options.accumulate, "precision": options.precision.get(name)}
        for name, changes in recipe.of_stages().items()
    }
    job = training_job(
        options.photos,
        options.out,
        _model(options),
        options.stages,
        stage_changes,
        {**recipe.of_whole(), "checkpointing": options.checkpointing},
        half=options.half,
        decode_threads=options.decode_threads or decode_threads(),
        overwrite=options.overwrite,
        command=click.get_current_context().meta[LINE],
        log_to=None if options.log_to is None else tuple(name for name in options.log_to if name != "none"),
        distributed=distributed,
    )
    # The job decides where its work folder is, so --resume is checked only after the job is made.
    if options.resume and not job.work.exists():
        raise InputError(
            f"There is no unfinished run in {job.work}. Give its --out, or leave --resume out to begin one."
        )
    return job
