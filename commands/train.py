"""`alit train`: photographs to a finished tokenizer."""

from pathlib import Path
from typing import Any

import click

from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, OUTPUT, RUN, Command, example, option
from alit_cli.option_types import Numbers
from alit_cli.options import config_option, device_option, out_option, precision_option, quiet_option


@click.command(
    "train",
    cls=Command,
    epilog=example(
        "alit train ./photos --out m.safetensors",
        "alit train 'packs/train-*.tar' --preset nano --out nano.safetensors --half",
    ),
)
@click.argument("photos", nargs=-1, required=True)
@out_option("model.safetensors", "The checkpoint to write; unfinished work lies in OUT.work/ beside it.")
@option(
    COMPUTE,
    "--preset",
    type=click.Choice(["nano", "tiny", "small", "base", "semilarge"]),
    default="nano",
    help="The size of the model, with its recipe.",
)
@option(
    COMPUTE,
    "--base-tokenizer",
    type=click.Choice(["vqgan", "vae"]),
    help="Base tokenizer. [default: nano's is a vae, that of the others a vqgan]",
)
@option(COMPUTE, "--continuous", is_flag=True, help="Leave the 1D latents unquantized.")
@option(
    COMPUTE,
    "--stages",
    default="base,distill,finetune",
    show_default=True,
    help="Which stages to run: base (tokenizer), distill (latent distillation), finetune (pixels).",
)
@option(
    INPUT, "--init", type=click.Path(path_type=Path), help="A model to go on from, or a base tokenizer to build on."
)
@option(COMPUTE, "--base-steps", type=click.IntRange(1), help="Steps of the base stage.")
@option(COMPUTE, "--distill-steps", type=click.IntRange(1), help="Steps of the distillation stage.")
@option(COMPUTE, "--finetune-steps", type=click.IntRange(1), help="Steps of the fine-tuning stage.")
@option(COMPUTE, "--batch-size", type=click.IntRange(1), help="Photographs a step, of all processes, in every stage.")
@option(HARDWARE, "--accumulate", type=click.IntRange(1), help="Work a step off in so many pieces, to save memory.")
@option(COMPUTE, "--lr", type=float, help="Peak learning rate, in every stage.")
@option(COMPUTE, "--iterations", type=click.Choice(["all", "sampled"]), help="Whole rollouts, or a sampled one a step.")
@option(COMPUTE, "--late", type=float, help="How much sampling prefers late iterations, in every stage.")
@option(COMPUTE, "--halting/--no-halting", default=None, help="Dynamic halting of image tokens (whole rollouts only).")
@option(
    COMPUTE,
    "--lpips",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Weight files of LPIPS (torchvision's vgg16, lpips' vgg), one option each. [default: no perceptual term]",
)
@option(COMPUTE, "--gan", metavar="STAGES", help="Stages with a critic: finetune, base,finetune or none.")
@option(
    COMPUTE, "--views", type=click.IntRange(0), help="Random crops kept per photograph; 0: a fresh one at every use."
)
@option(
    HARDWARE, "--workers", type=click.IntRange(1), help="Threads that decode photographs, with --views 0. [default: 4]"
)
@option(
    COMPUTE,
    "--iteration-weights",
    type=Numbers(float),
    metavar="NUMBER[,…]",
    help="λ of the distillation loss, iteration by iteration; those after count 1. [default: 2.5,2,1.5,1.25]",
)
@option(COMPUTE, "--seed", type=int, help="Seed of everything that is drawn.")
@option(OUTPUT, "--half", is_flag=True, help="Store float16 weights (half the file).")
@option(
    RUN, "--save-every", type=click.FloatRange(0), default=5.0, show_default=True, help="Minutes between saved states."
)
@option(
    RUN,
    "--validate-every",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Steps between two validations.",
)
@option(RUN, "--resume", is_flag=True, help="Insist on going on with OUT.work/ (what happens anyway where it exists).")
@option(RUN, "--overwrite", is_flag=True, help="Discard the unfinished run in OUT.work/.")
@precision_option
@device_option
@quiet_option
@config_option
def command(photos: tuple[str, ...], out: Path, **options: Any) -> None:
    """Train a tokenizer on PHOTOS (folders, files, globs, tars).

    Prints the losses and, on photographs held out of training, the L1 at every token budget; OUT.work/ keeps the log,
    pictures of reconstructions and TensorBoard's curves. Run the same command again to go on after an interruption.
    `torchrun --nproc-per-node N -m alit_cli train …` and `accelerate launch` share the work among processes.
    """
    from alit_cli.console import follow, say
    from alit_cli.training.log import TrainRecord
    from alit_cli.training.loop import Pace
    from alit_cli.training.recipe import STAGES
    from alit_cli.training.train import headline, train, training_job

    pace = Pace(save_seconds=60 * options.pop("save_every"), validate_steps=options.pop("validate_every"))
    steps = {name: options.pop(f"{name}_steps") for name in STAGES}
    every_stage = {name: options.pop(name) for name in ("batch_size", "accumulate", "precision", "late")}
    every_stage["learning_rate"] = options.pop("lr")
    if every_stage["precision"] == "auto":
        every_stage["precision"] = None  # a preset knows better
    if options["gan"] is not None:
        options["gan"] = tuple(stage for stage in options["gan"].split(",") if stage != "none")
    options["lpips"] = tuple(map(str, options["lpips"])) or None
    names = {"preset": "preset_name", "base_tokenizer": "base", "init": "start"}  # options are named as in a --config
    options = {names.get(name, name): value for name, value in options.items()}
    job = training_job(photos, out, steps=steps, every_stage=every_stage, **options)
    records = train(job, pace)
    if not job.processes.is_main:
        for _ in records:
            pass
        return
    say(headline(job))
    record = None
    for record in follow(records, lambda r: r.progress if isinstance(r, TrainRecord) else r):
        if isinstance(record, TrainRecord) and record.validation:
            figures = "  ".join(f"{budget}: {l1:.4f}" for budget, l1 in record.validation.items())
            unit = "grid tokens" if record.stage == "base" else "tokens"
            say(f"{record.stage} step {record.step}: validation L1 by {unit}  {figures}")
    if record is None:
        say(f"{job.work} holds all stages: nothing was left to train")
    click.echo(out)
