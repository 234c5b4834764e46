"""`alit decode`: tokens back to pictures."""

from pathlib import Path
from typing import Any

import click

from alit_cli.grouped_help import COMPUTE, HARDWARE, Command, example, option
from alit_cli.options import checkpoint_option, config_option, device_option, out_option, quiet_option


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
@option(COMPUTE, "--budget", type=click.IntRange(1), help="Tokens per image, when TABLE holds every budget.")
@checkpoint_option
@device_option
@option(HARDWARE, "--batch-size", type=click.IntRange(1), help="Images per batch. [default: the table's]")
@quiet_option
@config_option
def command(table: Path, out: Path, **options: Any) -> None:
    """Decode the tokens of TABLE (a selection, or a token table with --budget) into PNG files."""
    from alit_cli.console import follow, say
    from alit_cli.jobs.decode import DecodeJob, decode

    for progress in follow(decode(DecodeJob(table, out, **options)), lambda progress: progress):
        last = progress
    if last.failed:
        say(f"{last.failed} rows have no tokens: their images could not be read")
    click.echo(f"{last.done - last.failed} pictures in {out}")
