"""`alit view`: token tables as one page to look at."""

from pathlib import Path

import click

from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, OUTPUT, Command, example, option
from alit_cli.options import (
    config_option,
    device_option,
    json_option,
    originals_option,
    out_option,
    quiet_option,
    tables_options,
)


@click.command("view", cls=Command, epilog=example("alit view tokens.parquet --out report.html"))
@click.argument("tokens", metavar="[TOKENS]...", type=click.Path(path_type=Path), nargs=-1)
@out_option("report.html", "The HTML file to write.")
@originals_option
@option(
    OUTPUT,
    "--sample",
    # With 2,000 images each has only about 5 kB of the page for its pictures.
    type=click.IntRange(1, 2000),
    default=200,
    show_default=True,
    help="Images with pictures at the most.",
)
@option(COMPUTE, "--thr", type=click.FloatRange(0, 1), help="The L1 to start with. [default: from the data]")
@option(
    INPUT,
    "--beside",
    type=click.Path(path_type=Path),
    help="The folder whose analyses (complexity, capacity, …) are shown too; those of TOKENS are also found in other "
    "folders, up to two deep. [default: that of the first table]",
)
@tables_options
@option(OUTPUT, "--no-pictures", is_flag=True, help="Only numbers: decode nothing, need no model.")
@option(
    INPUT,
    "--checkpoint",
    "-c",
    "checkpoints",
    metavar="FILE",
    multiple=True,
    help="A model file or hf:OWNER/NAME; repeat it for tables of several models. [default: the model inside the "
    "package]",
)
@device_option
@option(HARDWARE, "--batch-size", type=click.IntRange(1), help="Pictures per batch. [default: the table's]")
@json_option
@quiet_option
@config_option
def command(
    tokens: tuple[Path, ...],
    out: Path,
    images: tuple[str, ...],
    sample: int,
    thr: float | None,
    beside: Path | None,
    scores: Path | None,
    tables: tuple[Path, ...],
    no_pictures: bool,
    checkpoints: tuple[str, ...],
    device: str,
    batch_size: int | None,
    as_json: bool,
) -> None:
    """Write a page that shows TOKENS, a token table [default: tokens.parquet], or switches between several.

    The page is one file, needs no network and opens in any browser. Every column of the tables, of the scores beside
    them and of tables of your own can set the threshold, filter, sort and colour; the images stand beside the charts,
    with a slider over the budgets. A link to the page keeps what was chosen. Of a long table, numbers and pictures
    are those of images drawn at random.
    """
    from alit_cli.console import follow, print_json, say
    from alit_cli.progress import Progress
    from alit_cli.report.view import ViewJob, make_view

    job = ViewJob(
        # An argument of any number of words is empty without one; click has no default for it.
        tables=tokens or (Path("tokens.parquet"),),
        out=out,
        images=images,
        most=sample,
        threshold=thr,
        beside=beside,
        scores=scores,
        own=tables,
        pictures=not no_pictures,
        checkpoints=checkpoints,
        device=device,
        batch_size=batch_size,
    )
    for record in follow(make_view(job), lambda record: record if isinstance(record, Progress) else None):
        last = record
    # The job ends with a record of what was written; the check says so to the type checker.
    if not isinstance(last, Progress):
        for remark in last.remarks:
            say(remark)
        if last.shown < last.of:
            say(f"{last.shown} of {last.of} images are shown, as many of each need as there are.")
        if job.pictures and last.originals < last.shown:
            say(f"{last.shown - last.originals} originals were not found: their reconstructions are shown alone.")
        say(f"{last.size / 1e6:.1f} MB; open it in a browser: {job.out.absolute().as_uri()}")
    if as_json and not isinstance(last, Progress):
        counts = {"images": last.of, "shown": last.shown, "originals": last.originals}
        print_json({"out": job.out, "tables": job.tables, "bytes": last.size, **counts})
    else:
        click.echo(job.out)
    _name_next(job.tables[0], thr)


def _name_next(table: Path, thr: float | None) -> None:
    """Name the selection that comes next, where the table can answer one."""
    from alit_cli.console import next_select, say_next
    from alit_cli.data.tables.token_table import read_info

    info = read_info(table)
    if select := next_select(table, info.losses, info.stop, thr):
        say_next(*select)
