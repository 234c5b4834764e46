"""`alit bench`: how fast this machine tokenizes."""

from pathlib import Path

import click

from alit_cli.options import (
    checkpoint_option,
    config_option,
    device_option,
    example,
    json_option,
    precision_option,
    quiet_option,
    stop_option,
)


@click.command("bench", epilog=example("alit bench", "alit bench ./images --stop 'l1<0.08'"))
@click.argument("paths", nargs=-1)
@checkpoint_option
@device_option
@precision_option
@click.option("--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images a batch.")
@click.option("--limit", type=click.IntRange(1), default=64, show_default=True, help="Images that are read.")
@stop_option
@json_option
@quiet_option
@config_option
def command(
    paths: tuple[str, ...],
    checkpoint: Path | None,
    device: str,
    precision: str,
    batch_size: int,
    limit: int,
    stop: float | None,
    as_json: bool,
) -> None:
    """Time each stage of tokenization on this machine, with PATHS as tokenize takes them or synthetic photographs.

    Beside each of the model's stages stands the speed that its arithmetic allows at the rate of a large matrix product
    measured in the same run, and how much of that is reached.
    """
    from alit_cli.console import print_json, say, show_table
    from alit_cli.data.sources import list_items
    from alit_cli.jobs.bench import bench, parameters
    from alit_cli.model.tokenizer import load

    tokenizer = load(checkpoint, device, precision)
    millions = parameters(tokenizer.model) / 1e6
    name = f"{tokenizer.config.name}, {millions:.1f} million parameters, {tokenizer.config.image_size} px"
    say(f"{name}; on {tokenizer.device} in {tokenizer.precision}, batches of {batch_size}")
    timings = list(bench(tokenizer, list_items(list(paths), limit) if paths else [], batch_size, stop))
    if as_json:
        print_json({"model": tokenizer.config.name, "device": str(tokenizer.device), "stages": timings})
        return
    rows = [
        [t.stage, t.images_per_second, *([t.gflop, t.floor, f"{t.share:.0%}"] if t.gflop else [None] * 3)]
        for t in timings
    ]
    show_table("", ["stage", "images/s", "GFLOP an image", "images/s at the matmul rate", "reached"], rows)
