"""`alit bench`: how fast this machine tokenizes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from alit_cli.jobs.bench import Agreement, Timing


@click.command("bench", cls=Command, epilog=example("alit bench", "alit bench ./images --stop 'l1<0.08'"))
@click.argument("paths", nargs=-1)
@checkpoint_option
@device_option
@precision_option
@option(HARDWARE, "--batch-size", type=click.IntRange(1), help="Images per batch. [default: that of alit tokenize]")
@option(INPUT, "--limit", type=click.IntRange(1), default=64, help="Use only the first N images.")
@stop_option
@json_option
@quiet_option
@config_option
def command(
    paths: tuple[str, ...],
    checkpoint: str | None,
    device: str,
    precision: str,
    batch_size: int | None,
    limit: int,
    stop: float | None,
    as_json: bool,
) -> None:
    """Measure how long a million images take on this machine, and where the time goes.

    PATHS are images as alit tokenize takes them; without PATHS, synthetic photographs are used. Every stage is timed
    alone, then all of alit tokenize, with and without early stopping. Where the arithmetic or the decoding of files
    limits the speed, the limit is printed beside it. The last lines say how much mixed and bf16 change the results.
    """
    # These modules import torch; `alit bench --help` must not wait for it.
    from alit_cli.console import print_json, say, show, show_table
    from alit_cli.jobs.bench import Bench, parameters
    from alit_cli.jobs.tokenize import TokenizeJob
    from alit_cli.model.tokenizer import load

    job = TokenizeJob(
        paths,
        # The job tells which images and settings are measured; no table is written at its path.
        Path("unused"),
        checkpoint=checkpoint,
        device=device,
        precision=precision,
        batch_size=batch_size,
        limit=limit,
    )
    tokenizer = load(job.checkpoint, job.device, job.precision)
    millions = parameters(tokenizer.model) / 1e6
    name = f"{tokenizer.config.name}, {millions:.1f} million parameters, {tokenizer.config.image_size} px"
    say(f"{name}; on {tokenizer.device} in {tokenizer.precision}")
    bench = Bench(tokenizer, job)
    rates = bench.rates
    # These two rates are measured without the model; the bounds in the table are computed from them.
    say(f"large products {rates.matmul / 1e9:.4g} GFLOP/s, plain decoding {rates.decode / 1e6:.3g} MB/s per thread")
    timings = list(bench.timings(stop))
    agreements = {"mixed": bench.agreement("mixed"), "bf16": bench.agreement("bf16")}
    # The last two timings are the whole command, first at every budget and then with early stopping.
    whole, early = timings[-2:]
    if as_json:
        model = {"model": tokenizer.config.name, "device": str(tokenizer.device), "precision": tokenizer.precision}
        hours = {"hours_per_million": _hours(whole), "hours_per_million_stopped": _hours(early)}
        print_json({**model, **hours, "rates": rates, "stages": timings, **agreements})
        return
    stopped = early.stage.removeprefix("alit tokenize ")
    show(
        f"A million images take {_hours(whole):.3g} hours here at every budget "
        f"({whole.images_per_second:.3g} images/s), and {_hours(early):.3g} hours with {stopped}."
    )
    rows = [[t.stage, t.images_per_second, t.gflop or None, *_bound(t)] for t in timings]
    show_table("", ["stage", "images/s", "GFLOP/image", "bound, images/s", "reached"], rows)
    for precision, found in agreements.items():
        show(f"{precision} beside float32, {found.images} images at every budget: {_agreement(found)}")


def _agreement(found: Agreement) -> str:
    # Continuous latents have no ids that could be compared.
    ids = f"{found.ids_equal:.2%} of the ids equal, " if not math.isnan(found.ids_equal) else ""
    return f"{ids}L1 off by {found.l1_mean:.1e}, at most {found.l1_largest:.1e}"


def _hours(timing: Timing) -> float:
    """For a million images."""
    # A million images, and 3600 seconds in an hour.
    return 1e6 / timing.images_per_second / 3600


def _bound(timing: Timing) -> tuple[float | None, str | None]:
    """The speed that arithmetic and a plain decoder allow, and the share of it that is reached."""
    return (timing.floor, f"{timing.share:.0%}") if timing.floor else (None, None)
