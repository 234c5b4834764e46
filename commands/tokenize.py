"""`alit tokenize`: images to a table of tokens and errors at every budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alit_cli.options import (
    Numbers,
    checkpoint_option,
    config_option,
    device_option,
    devices_option,
    example,
    json_option,
    out_option,
    precision_option,
    quiet_option,
    stop_option,
    worker_option,
)

if TYPE_CHECKING:
    from alit_cli.jobs.engine import Engine
    from alit_cli.jobs.tokenize import Summary


@click.command("tokenize", epilog=example("alit tokenize ./images --out tokens.parquet"))
@click.argument("paths", nargs=-1, required=True)
@out_option("tokens.parquet", "The table to write; unfinished work lies in OUT.work/ beside it.")
@checkpoint_option
@device_option
@precision_option
@click.option("--batch-size", type=click.IntRange(1), help="Images a batch. [default: 16 on a CPU, 128 on a GPU]")
@click.option("--workers", type=click.IntRange(0), help="Threads that decode images. [default: up to 4]")
@click.option(
    "--fit",
    type=click.Choice(["crop", "squash", "pad"]),
    default="crop",
    show_default=True,
    help="How an image becomes square: resize the short side and crop the centre, squash, or pad.",
)
@click.option("--budgets", type=Numbers(int), help="Only these token budgets, for instance 16,64. [default: all]")
@stop_option
@click.option("--no-losses", is_flag=True, help="Only tokens: decode no pixels, write no L1 columns.")
@click.option("-0", "null", is_flag=True, help="With - as an input: names on standard input end in NUL.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many images.")
@click.option(
    "--views",
    type=click.Choice(["flip", "ten-crop"]),
    help="Rows for more views of every image, such as a.jpg#flip: mirrored, or four corners and all mirrored.",
)
@click.option("--no-measures", is_flag=True, help="Leave out the complexity columns (JPEG bytes, edges, …).")
@click.option("--shard-size", type=click.IntRange(1), help="Images between two commits of finished work.")
@worker_option
@devices_option
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: actors of a cluster.",
)
@click.option(
    "--max-error-rate",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Exit with 3 when a larger share of the images fails.",
)
@click.option("--overwrite", is_flag=True, help="Replace the table, or the unfinished work, of another run.")
@json_option
@quiet_option
@config_option
def command(
    paths: tuple[str, ...],
    out: Path,
    as_json: bool,
    no_measures: bool,
    no_losses: bool,
    worker: tuple[int, int] | None,
    devices: int | None,
    engine: "Engine",
    **options: Any,
) -> None:
    """Tokenize images: PATHS are folders (with their subfolders), files, quoted globs, plain tars, Parquet files with a
    column of encoded images, patterns such as 'shard-{000..127}.tar', @list.txt, or - for names on standard input.

    Writes one row per image: token ids and L1 reconstruction error at every budget, size, status and complexity
    measures. An image that cannot be read is a row with a status. The same command run again resumes.
    """
    from alit_cli.console import follow, print_json, say
    from alit_cli.jobs.engine import Worker, run, worker_here
    from alit_cli.jobs.tokenize import TokenizeJob, check_error_rate, headline, summarize

    job = TokenizeJob(paths, out, measures=not no_measures, losses=not no_losses, **options)
    one = worker_here() if worker is None else Worker(*worker, told="--worker")
    say(headline(job))
    if one.count > 1:
        say(f"Worker {one.index}/{one.count} (by {one.told}): it does every {one.count}th shard, from {one.index} on.")
    for _ in follow(run(job, one, engine, devices), lambda progress: progress):
        pass
    if not out.exists():
        say(f"This worker's shards are done; the worker that finishes the last of the others' writes {out}.")
        return
    summary = summarize(out)
    if as_json:
        print_json({"out": out, "failed": summary.failed, "summary": summary})
    else:
        _show(out, summary)
    check_error_rate(job, summary)


def _show(out: Path, summary: "Summary") -> None:
    from alit_cli.console import say, show_table

    for image, sentence in summary.errors:
        say(f"{image}: {sentence}")
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    title = f"{out}: {summary.images} images ({statuses})"
    rows: list[list[str | int | float | None]] = [["mean L1", *summary.l1.values()]] if summary.l1 else []
    if summary.stopped:
        rows.append(["stopped here", *summary.stopped.values()])
    if rows:
        show_table(title, ["tokens", *map(str, summary.l1)], rows)
    else:
        say(title)
