"""`alit view`: a token table as one page to look at."""

from pathlib import Path
from typing import Any

import click

from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, OUTPUT, Command, example, option
from alit_cli.options import checkpoint_option, config_option, device_option, out_option, quiet_option


@click.command("view", cls=Command, epilog=example("alit view tokens.parquet --out report.html"))
@click.argument("table", type=click.Path(path_type=Path), default="tokens.parquet")
@out_option("report.html", "The HTML file to write.")
@option(
    INPUT,
    "--images",
    multiple=True,
    metavar="PATH",
    help="Where the originals are now, as tokenize takes it; repeatable.",
)
@option(
    OUTPUT, "--sample", type=click.IntRange(1, 2000), default=200, show_default=True, help="Images shown at the most."
)
@option(COMPUTE, "--thr", type=click.FloatRange(0, 1), help="The L1 to start with. [default: from the data]")
@option(
    INPUT,
    "--beside",
    type=click.Path(path_type=Path),
    help="The folder whose analyses (complexity, capacity, …) are shown too. [default: that of TABLE]",
)
@option(OUTPUT, "--no-pictures", is_flag=True, help="Only numbers: decode nothing, need no model.")
@checkpoint_option
@device_option
@option(HARDWARE, "--batch-size", type=click.IntRange(1), help="Pictures per batch. [default: the table's]")
@quiet_option
@config_option
def command(table: Path, out: Path, no_pictures: bool, sample: int, thr: float | None, **options: Any) -> None:
    """Write a page that shows TABLE: what its images need, and what of them is left at every budget.

    The page is one file, needs no network and opens in any browser: a histogram of the tokens needed with a threshold
    to move, L1 curves, and the images themselves with a slider over the budgets. All rows are counted; of a long table
    a sample is shown.
    """
    from alit_cli.console import follow, say
    from alit_cli.progress import Progress
    from alit_cli.report.view import ViewJob, make_view

    job = ViewJob(table, out, pictures=not no_pictures, most=sample, threshold=thr, **options)
    for record in follow(make_view(job), lambda record: record if isinstance(record, Progress) else None):
        last = record
    if not isinstance(last, Progress):
        if last.shown < last.of:
            say(f"{last.shown} of {last.of} images are shown, equally many of each need; all of them are counted.")
        if job.pictures and last.originals < last.shown:
            say(f"{last.shown - last.originals} originals were not found: their reconstructions are shown alone.")
        say(f"{last.size / 1e6:.1f} MB: open it in a browser.")
    click.echo(out)
