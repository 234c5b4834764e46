"""`alit bench`: how fast this machine tokenizes."""

from pathlib import Path
from typing import Any

import click

from alit_cli.grouped_help import HARDWARE, INPUT, Command, example, option
from alit_cli.options import (
    checkpoint_option,
    config_option,
    device_option,
    json_option,
    precision_option,
    quiet_option,
    stop_option,
)


@click.command("bench", cls=Command, epilog=example("alit bench", "alit bench ./images --stop 'l1<0.08'"))
@click.argument("paths", nargs=-1)
@checkpoint_option
@device_option
@precision_option
@option(HARDWARE, "--batch-size", type=click.IntRange(1), default=16, show_default=True, help="Images per batch.")
@option(INPUT, "--limit", type=click.IntRange(1), default=64, show_default=True, help="Images that are read.")
@stop_option
@json_option
@quiet_option
@config_option
def command(paths: tuple[str, ...], stop: float | None, as_json: bool, **options: Any) -> None:
    """Time each stage of tokenization on this machine, with PATHS as tokenize takes them or synthetic photographs.

    Beside the speeds stand those that a large matrix product and a plain decoder, measured in the same run, allow for
    the same arithmetic and the same bytes, and how much of them is reached. Then, what bf16 changes in the results.
    """
    from alit_cli.console import print_json, say, show_table
    from alit_cli.jobs.bench import Bench, parameters
    from alit_cli.jobs.tokenize import TokenizeJob
    from alit_cli.model.tokenizer import load

    job = TokenizeJob(paths, Path("unused"), **options)
    tokenizer = load(job.checkpoint, job.device, job.precision)
    millions = parameters(tokenizer.model) / 1e6
    name = f"{tokenizer.config.name}, {millions:.1f} million parameters, {tokenizer.config.image_size} px"
    say(f"{name}; on {tokenizer.device} in {tokenizer.precision}, batches of {job.batch_size}")
    bench = Bench(tokenizer, job)
    rates = bench.rates
    say(f"matrix product {rates.matmul / 1e9:.4g} GFLOP/s, plain decoding {rates.decode / 1e6:.3g} MB/s a thread")
    timings, agreement = list(bench.timings(stop)), bench.agreement()
    if as_json:
        model = {"model": tokenizer.config.name, "device": str(tokenizer.device), "precision": tokenizer.precision}
        print_json({**model, "rates": rates, "stages": timings, "bf16": agreement})
        return
    rows = [
        [t.stage, t.images_per_second, t.gflop or None, t.floor or None, f"{t.share:.0%}" if t.floor else None]
        for t in timings
    ]
    show_table("", ["stage", "images/s", "GFLOP an image", "images/s at those rates", "reached"], rows)
    ids = f"{agreement.ids_equal:.2%} of the ids equal, " if tokenizer.config.codes else ""
    click.echo(f"bf16 beside float32: {ids}L1 off by {agreement.l1_mean:.1e}, at most {agreement.l1_largest:.1e}")
