"""`alit verify`: whether a table is sound."""

from pathlib import Path

import click

from alit_cli.errors import AlitError
from alit_cli.options import config_option, example, quiet_option


@click.command("verify", epilog=example("alit verify tokens.parquet"))
@click.argument("table", type=click.Path(path_type=Path), default="tokens.parquet")
@quiet_option
@config_option
def command(table: Path) -> None:
    """Check the token TABLE [default: tokens.parquet]: checksums, a row for every image, one model, whole tokens.

    Prints what is wrong, a line each, and exits with 1; a sound table exits with 0.
    """
    from alit_cli.data.table import count_rows
    from alit_cli.data.verify import problems

    found = list(problems(table))
    for problem in found:
        click.echo(problem)
    if found:
        raise AlitError(f"{table} is not sound: make it again with alit tokenize --overwrite")
    click.echo(f"{table} is sound: {count_rows(table)} rows")
