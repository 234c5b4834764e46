"""`alit train`: photographs to a finished tokenizer."""

from pathlib import Path
from typing import Any

import click

from alit_cli.options import config_option, device_option, example, out_option, quiet_option


@click.command(
    "train",
    epilog=example(
        "alit train ./photos --out m.safetensors",
        "alit train 'packs/train-*.tar' --preset nano --out nano.safetensors --half",
    ),
)
@click.argument("photos", nargs=-1, required=True)
@out_option("model.safetensors", "The checkpoint to write; unfinished work lies in OUT.work/ beside it.")
@click.option(
    "--preset", "preset_name", default="nano", show_default=True, help="nano, tiny, small, base or semilarge."
)
@click.option(
    "--base-tokenizer", "base", type=click.Choice(["vqgan", "vae"]), help="Base tokenizer of the reference sizes."
)
@click.option("--continuous", is_flag=True, help="Leave the 1D latents unquantized.")
@click.option(
    "--stages",
    default="base,distill,finetune",
    show_default=True,
    help="Which stages to run: base (tokenizer), distill (latent distillation), finetune (pixels).",
)
@click.option("--init", "start", type=click.Path(path_type=Path), help="A checkpoint to go on from.")
@click.option("--base-steps", type=click.IntRange(1), help="Steps of the base stage.")
@click.option("--distill-steps", type=click.IntRange(1), help="Steps of the distillation stage.")
@click.option("--finetune-steps", type=click.IntRange(1), help="Steps of the fine-tuning stage.")
@click.option("--batch-size", type=click.IntRange(1), help="Photographs a step, in every stage.")
@click.option("--lr", "learning_rate", type=float, help="Peak learning rate, in every stage.")
@click.option("--iterations", type=click.Choice(["all", "sampled"]), help="Whole rollouts, or one iteration a step.")
@click.option("--halting/--no-halting", default=None, help="Dynamic halting of image tokens (whole rollouts only).")
@click.option("--views", type=click.IntRange(1), help="Random crops kept per photograph.")
@click.option("--seed", type=int, help="Seed of everything that is drawn.")
@click.option("--half", is_flag=True, help="Store float16 weights (half the file).")
@click.option("--save-every", default=5.0, show_default=True, help="Minutes between saved states.")
@click.option("--overwrite", is_flag=True, help="Discard the unfinished run in OUT.work/.")
@device_option
@quiet_option
@config_option
def command(photos: tuple[str, ...], out: Path, **options: Any) -> None:
    """Train a tokenizer on PHOTOS (folders, files, globs, tars).

    Prints the losses and, on photographs held out of training, the L1 at every token budget. Run the same
    command again to go on after an interruption.
    """
    from alit_cli.console import follow, say
    from alit_cli.jobs.recipe import STAGES
    from alit_cli.jobs.train import train, training_job
    from alit_cli.jobs.trainer import Pace, TrainRecord

    pace = Pace(save_seconds=60 * options.pop("save_every"))
    steps = {name: options.pop(f"{name}_steps") for name in STAGES}
    job = training_job(photos, out, steps=steps, **options)
    say(f"training {job.config.name} on {job.device}, stages {', '.join(job.stages)}")
    for record in follow(train(job, pace), lambda r: r.progress if isinstance(r, TrainRecord) else r):
        if isinstance(record, TrainRecord) and record.validation:
            figures = "  ".join(f"{budget}: {l1:.4f}" for budget, l1 in record.validation.items())
            say(f"{record.stage} step {record.step}: validation L1  {figures}")
    click.echo(out)
