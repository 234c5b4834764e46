"""`alit tokenize`: images to a table of tokens and errors at every budget."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from alit_cli.grouped_help import COMPUTE, HARDWARE, INPUT, OUTPUT, Command, example, option
from alit_cli.option_types import Names, Numbers
from alit_cli.options import (
    as_record,
    checkpoint_option,
    config_option,
    device_option,
    json_option,
    limit_option,
    precision_option,
    protecting_inputs,
    quiet_option,
    stop_option,
)
from alit_cli.run_options import RunOptions, do_run, run_options

if TYPE_CHECKING:
    from alit_cli.data.tables.summary import Summary


@dataclass(frozen=True, kw_only=True)
class TokenizeOptions:
    """What `alit tokenize` is asked for; the fields are explained by jobs.tokenize.TokenizeJob and by the help."""

    paths: tuple[str, ...]
    # A str and no Path, which would lose the slash at its end.
    out: str
    checkpoint: str | None
    device: str
    precision: str
    fit: Literal["crop", "squash", "pad", "centre"]
    budgets: tuple[int, ...] | None
    stop: float | None
    no_losses: bool
    nul_separated: bool
    limit: int | None
    views: Literal["flip", "ten-crop"] | None
    no_measures: bool
    keep: tuple[str, ...]
    hash_files: bool
    remote_cache_gib: float


@click.command(
    "tokenize",
    cls=Command,
    epilog=example(
        "alit tokenize ./images --out tokens.parquet",
        "alit tokenize 'shards/*.tar' --devices all --keep label --out packs.parquet",
        "alit tokenize @list.txt -c alit_small.safetensors --stop 'l1<0.08' --out early.parquet",
    ),
)
@click.argument("paths", nargs=-1, required=True)
@option(
    OUTPUT,
    "--out",
    "-o",
    # The path stays a str here: a Path would lose the slash at its end, which asks for a folder of parts.
    type=click.Path(),
    default="tokens.parquet",
    show_default=True,
    help="The table to write. Unfinished work is in OUT.work/ beside it. If OUT ends in a slash or is an existing "
    "folder, the table is a folder of Parquet files.",
)
@checkpoint_option
@device_option
@precision_option
@option(
    COMPUTE,
    "--fit",
    type=click.Choice(["crop", "squash", "pad", "centre"]),
    default="crop",
    show_default=True,
    help="How an image is made square: resize the short side and crop the centre (crop), change the aspect (squash), "
    "pad, or cut out the centre without resizing (centre).",
)
@option(
    COMPUTE,
    "--budgets",
    metavar="N[,…]",
    type=Numbers(int),
    help="Compute only these token budgets, for instance 64,128. [default: all]",
)
@stop_option
@option(COMPUTE, "--no-losses", is_flag=True, help="Compute only tokens: decode no pixels, write no L1 columns.")
@option(
    INPUT, "-0", "nul_separated", is_flag=True, help="With the input -: names end in NUL, as find -print0 writes them."
)
@limit_option
@option(
    COMPUTE,
    "--views",
    type=click.Choice(["flip", "ten-crop"]),
    help="Add rows for further views of every image: the mirrored image a.jpg#flip (flip), or also four corners and "
    "their mirrored images (ten-crop).",
)
@option(COMPUTE, "--no-measures", is_flag=True, help="Leave out the complexity columns (JPEG bytes, edges, …).")
@option(
    OUTPUT,
    "--keep",
    metavar="COLUMN[,…]",
    type=Names(),
    default=(),
    help="Copy these columns of Parquet files, or these fields of the files beside the images of a tar, for instance "
    "label,caption.",
)
@option(OUTPUT, "--hash", "hash_files", is_flag=True, help="Add the sha256 of every file's bytes.")
@run_options
@option(
    HARDWARE,
    "--copies",
    "remote_cache_gib",
    type=click.FloatRange(0),
    default=32,
    show_default=True,
    metavar="GIB",
    help="Most GiB of remote tars and Parquet files that are copied to OUT.work/ while they are listed, and at most "
    "half of the free disk. Files that are not copied, and all files with --limit, are downloaded twice.",
)
@json_option
@quiet_option
@config_option
# `out_option` would do this for us, but --out is declared by hand above, because of its slash.
@protecting_inputs
@as_record(TokenizeOptions, RunOptions)
def command(options: TokenizeOptions, run: RunOptions) -> None:
    """Tokenize images, and write one row per image into a table.

    PATHS are folders (with their subfolders), files, quoted globs, plain tars, Parquet files with a column of encoded
    images, URLs of these (s3://…), patterns such as 'shard-{000..127}.tar', @list.txt, or - for names on standard
    input.

    A row holds the token ids and the L1 reconstruction error at every budget, the size, a status and measures of
    complexity. The status says if an image cannot be read. After an interruption, the same command resumes.
    """
    # These modules import torch and pyarrow; `alit tokenize --help` must not wait for them.
    from alit_cli.console import next_select, print_json, say_next
    from alit_cli.data.tables.summary import summarize
    from alit_cli.jobs.tokenize import TokenizeJob
    from alit_cli.runs.run import check_error_rate

    out, table = options.out, Path(options.out)
    job = TokenizeJob(
        paths=options.paths,
        out=table,
        checkpoint=options.checkpoint,
        device=options.device,
        precision=options.precision,
        batch_size=run.batch_size,
        workers=run.decode_workers,
        fit=options.fit,
        budgets=options.budgets,
        stop=options.stop,
        losses=not options.no_losses,
        limit=options.limit,
        nul_separated=options.nul_separated,
        measures=not options.no_measures,
        keep=options.keep,
        hash_files=options.hash_files,
        views=options.views,
        parts=out.endswith("/"),
        retry_errors=run.retry_errors,
        remote_cache_gib=options.remote_cache_gib,
        shard_size=run.shard_size,
        overwrite=run.overwrite,
    )
    if not do_run(job, run):
        return
    summary = summarize(table)
    if run.as_json:
        print_json({"out": out, "failed": summary.failed, "summary": summary})
    else:
        _show(table, summary)
    # This check raises an error, so it comes after the summary: the numbers are printed even if too many images failed.
    check_error_rate(table, run.max_error_rate)
    # The pictures of another model than the embedded one can be decoded by that model alone.
    model = ["-c", options.checkpoint] if options.checkpoint else []
    view, score = ["alit", "view", out, *model], ["alit", "score", out, "--task", "recon", *model]
    say_next(shlex.join(view), *next_select(table, not options.no_losses, options.stop), shlex.join(score))


def _show(out: Path, summary: "Summary") -> None:
    from alit_cli.console import say, show_table
    from alit_cli.progress import counted

    for image, sentence in summary.errors:
        say(f"{image}: {sentence}")
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(summary.statuses.items()))
    title = f"{out}: {counted(summary.images, 'image')} ({statuses})"
    # With --stop every column of L1 is about other images, so means per budget could not be compared.
    if summary.stopped:
        show_table(title, ["tokens", *map(str, summary.stopped)], [["images stopped here", *summary.stopped.values()]])
        say(f"Mean tokens spent: {summary.mean_tokens:.4g}; mean L1 there: {summary.l1_at_stop:.4g}.")
    elif summary.l1:
        show_table(title, ["tokens", *map(str, summary.l1)], [["mean L1", *summary.l1.values()]])
    else:
        # With --no-losses there is no L1, so nothing is left to print but the counts.
        say(title)
