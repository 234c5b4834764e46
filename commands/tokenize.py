"""`alit tokenize`: images to a table of tokens and errors at every budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, OUTPUT, Command, example, option
from alit_cli.option_types import Names, Numbers
from alit_cli.options import (
    checkpoint_option,
    config_option,
    device_option,
    devices_option,
    dry_run_option,
    engine_option,
    json_option,
    limit_option,
    precision_option,
    protecting_inputs,
    quiet_option,
    retry_errors_option,
    run_options,
    stop_option,
    worker_option,
)

if TYPE_CHECKING:
    from alit_cli.data.tables.summary import Summary
    from alit_cli.runs.workers import Engine


@click.command("tokenize", cls=Command, epilog=example("alit tokenize ./images --out tokens.parquet"))
@click.argument("paths", nargs=-1, required=True)
@option(
    OUTPUT,
    "--out",
    "-o",
    # The path stays a str here: a Path would lose the slash at its end, which asks for a folder of parts.
    type=click.Path(),
    default="tokens.parquet",
    show_default=True,
    help="The table to write; unfinished work lies in OUT.work/ beside it. With a slash at its end, or as a folder "
    "that exists, it stays a folder of parts.",
)
@checkpoint_option
@device_option
@precision_option
@option(
    HARDWARE,
    "--workers",
    type=click.IntRange(0),
    help="Processes that decode images, 0 for none. [default: up to 4; threads below 2,000 images]",
)
@option(
    COMPUTE,
    "--fit",
    type=click.Choice(["crop", "squash", "pad"]),
    default="crop",
    show_default=True,
    help="How an image becomes square: resize the short side and crop the centre, squash, or pad.",
)
@option(COMPUTE, "--budgets", type=Numbers(int), help="Only these token budgets, for instance 16,64. [default: all]")
@stop_option
@option(COMPUTE, "--no-losses", is_flag=True, help="Only tokens: decode no pixels, write no L1 columns.")
@option(INPUT, "-0", "nul_separated", is_flag=True, help="With - as an input: names on standard input end in NUL.")
@limit_option
@option(
    COMPUTE,
    "--views",
    type=click.Choice(["flip", "ten-crop"]),
    help="Rows for more views of every image, such as a.jpg#flip: mirrored, or four corners and all mirrored.",
)
@option(COMPUTE, "--no-measures", is_flag=True, help="Leave out the complexity columns (JPEG bytes, edges, …).")
@option(
    OUTPUT,
    "--keep",
    type=Names(),
    default=(),
    help="Carry along columns of Parquet files or sidecars of tars: label,caption.",
)
@option(OUTPUT, "--hash", "hash_files", is_flag=True, help="Add the sha256 of every file's bytes.")
@worker_option
@devices_option
@engine_option
@retry_errors_option
@option(
    HARDWARE,
    "--copies",
    "remote_cache_gib",
    type=click.FloatRange(0),
    default=32,
    show_default=True,
    metavar="GIB",
    help="Remote tars and Parquet files up to so many GiB, and half of the free disk, are copied to OUT.work/ while "
    "they are listed, so that each is fetched once; the rest, and all with --limit, is fetched again to be read.",
)
@dry_run_option
@run_options
@json_option
@quiet_option
@config_option
# `out_option` would do this for us, but --out is declared by hand above, because of its slash.
@protecting_inputs
def command(
    paths: tuple[str, ...],
    out: str,
    as_json: bool,
    no_measures: bool,
    no_losses: bool,
    dry_run: bool,
    worker: tuple[int, int] | None,
    devices: int | None,
    engine: "Engine",
    max_error_rate: float,
    **options: Any,
) -> None:
    """Tokenize images: PATHS are folders (with their subfolders), files, quoted globs, plain tars, Parquet files with a
    column of encoded images, URLs of these (s3://…), patterns such as 'shard-{000..127}.tar', @list.txt, or - for names
    on standard input.

    Writes one row per image: token ids and L1 reconstruction error at every budget, size, status and complexity
    measures. An image that cannot be read is a row with a status. The same command run again resumes.
    """
    # These modules import torch and pyarrow; `alit tokenize --help` must not wait for them.
    from alit_cli.console import print_json, progress_reporter, run_with_progress, say, say_next, show_table
    from alit_cli.data.tables.summary import summarize
    from alit_cli.jobs.tokenize import TokenizeJob
    from alit_cli.runs.estimate import estimate
    from alit_cli.runs.prepared import is_complete
    from alit_cli.runs.run import check_error_rate, run
    from alit_cli.runs.workers import workers_of_options

    table, parts = Path(out), out.endswith("/")
    job = TokenizeJob(paths, table, parts=parts, measures=not no_measures, losses=not no_losses, **options)
    say(job.headline())
    if dry_run:
        with progress_reporter() as report:
            expected = estimate(job, report)
        if as_json:
            print_json({"out": job.out, "seconds": expected.seconds, **vars(expected)})
        else:
            row = expected.as_row()
            show_table(f"{out}: speed from {expected.basis}", list(row), [list(row.values())])
        return
    workers = workers_of_options(worker, engine, devices)
    if workers.share.count > 1:
        say(workers.share.headline())
    run_with_progress(lambda report: run(job, workers, report))
    # With --worker other processes may still have shards to do, so there is no whole table to summarize yet.
    if not is_complete(table):
        say(f"This worker's shards are done; the worker that finishes the last of the others' writes {out}.")
        return
    summary = summarize(table)
    if as_json:
        print_json({"out": out, "failed": summary.failed, "summary": summary})
    else:
        _show(table, summary)
    # This check raises an error, so it comes after the summary: the numbers are printed even if too many images failed.
    check_error_rate(table, max_error_rate)
    say_next(f"alit view {out}", f"alit select {out} --thr 0.08", f"alit score {out} --task recon")


def _show(out: Path, summary: "Summary") -> None:
    from alit_cli.console import say, show_table

    for image, sentence in summary.errors:
        say(f"{image}: {sentence}")
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    title = f"{out}: {summary.images} images ({statuses})"
    # With --stop every column of L1 is about other images, so means per budget could not be compared.
    if summary.stopped:
        show_table(title, ["tokens", *map(str, summary.stopped)], [["images stopped here", *summary.stopped.values()]])
        say(f"Mean tokens spent: {summary.mean_tokens:.4g}; mean L1 there: {summary.l1_at_stop:.4g}.")
    elif summary.l1:
        show_table(title, ["tokens", *map(str, summary.l1)], [["mean L1", *summary.l1.values()]])
    else:
        # With --no-losses there is no L1, so nothing is left to print but the counts.
        say(title)
