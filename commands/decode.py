"""`alit decode`: tokens back to pictures."""

from pathlib import Path

import click

from alit_cli.grouped_help import COMPUTE, HARDWARE, Command, example, option
from alit_cli.options import (
    checkpoint_option,
    config_option,
    device_option,
    json_option,
    out_option,
    quiet_option,
)


@click.command(
    "decode",
    cls=Command,
    epilog=example(
        "alit decode selection.parquet --out recon/",
        "alit decode tokens.parquet --budget 64 --out recon/",
    ),
)
@click.argument("table", type=click.Path(path_type=Path), default="selection.parquet")
@out_option("recon", "The folder to write PNG files into; relative paths are kept.")
@option(COMPUTE, "--budget", type=click.IntRange(1), help="Tokens per image, if TABLE is a token table.")
@checkpoint_option
@device_option
@option(HARDWARE, "--batch-size", type=click.IntRange(1), help="Images per batch. [default: the table's]")
@json_option
@quiet_option
@config_option
def command(
    table: Path,
    out: Path,
    budget: int | None,
    checkpoint: str | None,
    device: str,
    batch_size: int | None,
    as_json: bool,
) -> None:
    """Decode the tokens of TABLE into PNG files.

    TABLE is a selection of alit select [default: selection.parquet], or a token table with --budget. Pictures that were
    decoded from the same tokens before are left as they are, so the same command resumes after an interruption.
    """
    from alit_cli.console import follow, print_json, say, show
    from alit_cli.jobs.decode import DecodeJob, decode

    job = DecodeJob(table, out, budget, checkpoint, device, batch_size)
    reports = follow(decode(job), lambda progress: progress)
    # Every job yields a first report before it works: what is done by then is of an earlier run.
    first = last = next(reports)
    for progress in reports:
        last = progress
    if already := first.done - first.failed:
        say(f"{already} pictures were there already, decoded from the same tokens, and are left as they are.")
    if last.failed:
        say(f"{last.failed} rows have no tokens, because their images could not be read.")
    if as_json:
        print_json({"out": out, "table": table, "images": last.done - last.failed, "failed": last.failed})
    else:
        show(f"{last.done - last.failed} pictures are in {out}.")
