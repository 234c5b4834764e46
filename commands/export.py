"""`alit export`: tokens in the formats of other programs."""

from pathlib import Path

import click

from alit_cli.grouped_help import COMPUTE, INPUT, OUTPUT, Command, example, option
from alit_cli.options import config_option, json_option, out_option, quiet_option


@click.command(
    "export",
    cls=Command,
    epilog=example("alit export tokens.parquet --selection selection.parquet --format webdataset --out tokens.tar"),
)
@click.argument("table", type=click.Path(path_type=Path), default="selection.parquet")
@option(
    OUTPUT,
    "--format",
    "form",
    type=click.Choice(["jsonl", "npz", "webdataset"]),
    help="What to write. [default: by the end of OUT: .jsonl, .npz or .tar]",
)
@option(COMPUTE, "--budget", type=click.IntRange(1), help="Tokens per image, if TABLE is a token table.")
@option(
    INPUT,
    "--selection",
    type=click.Path(path_type=Path),
    help="The selection that alit select made of TABLE; it gives the budgets.",
)
# There is no default: the format is read from the end of the name.
@out_option(None, "The file to write.")
@json_option
@quiet_option
@config_option
def command(
    table: Path, form: str | None, budget: int | None, selection: Path | None, out: Path, as_json: bool
) -> None:
    """Write the tokens of TABLE, a selection [default: selection.parquet] or a token table, for another program.

    jsonl is one JSON object per line, npz one array of all tokens with offsets, and webdataset a tar with
    KEY.tokens.npy and KEY.json. Beside the tokens go the columns of --keep of alit tokenize, the size, the L1 error,
    and the columns of the selection.
    """
    from alit_cli.console import print_json, run_with_progress
    from alit_cli.jobs.export import export

    # `export` yields every report that it has, so it does not need the function that shows one at once.
    run_with_progress(lambda _tell: export(table, out, form, budget, selection))
    if as_json:
        print_json({"out": out, "table": table, "bytes": out.stat().st_size})
    else:
        click.echo(out)
