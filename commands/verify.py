"""`alit verify`: whether a table is sound."""

from pathlib import Path

import click

from alit_cli.errors import AlitError
from alit_cli.grouped_help import INPUT, Command, example, option
from alit_cli.options import config_option, json_option, quiet_option

# The command that makes a table of each kind, for the sentence that says how to make it again.
MAKERS = {"token table": "tokenize", "score table": "score", "selection": "select"}


@click.command("verify", cls=Command, epilog=example("alit verify tokens.parquet", "alit verify scores/recon.parquet"))
@click.argument("table", type=click.Path(path_type=Path), default="tokens.parquet")
@option(
    INPUT,
    "--token-table",
    "tokens",
    # In alit analyze attention --tokens are some of the tokens of an image.
    formerly=["--tokens"],
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The token table of a score table. [default: found beside it]",
)
@json_option
@quiet_option
@config_option
def command(table: Path, tokens: Path | None, as_json: bool) -> None:
    """Check that TABLE [default: tokens.parquet] is complete and undamaged.

    TABLE is a token table, a score table or a selection. The checks are: checksums, one row per image, one model,
    complete tokens; for a score table also that its rows are those of the token table. Prints one line per problem and
    exits with 1; exits with 0 if there is no problem.
    """
    from alit_cli.console import print_json, say, show
    from alit_cli.data.tables.parquet import open_columns
    from alit_cli.data.tables.score_table import kind_of
    from alit_cli.jobs.verify import problems, tokens_of

    kind = kind_of(table)
    # Scores alone can be checked too; only the comparison of their rows is then left out.
    if kind == "score table" and tokens is None and (tokens := tokens_of(table)) is None:
        say("The token table of these scores is not beside them: name it with --token-table to compare the rows.")
    sentences = list(problems(table, tokens))
    # A table with problems may be too damaged to count its rows.
    rows = None if sentences else open_columns(table, ["image"]).num_rows
    if as_json:
        print_json({"table": table, "kind": kind, "rows": rows, "tokens": tokens, "problems": sentences})
    else:
        for problem in sentences:
            show(problem)
    if sentences:
        # alit select replaces its file without being told; the other two would take the damaged table for finished
        # work.
        again = "" if kind == "selection" else " --overwrite"
        # AlitError exits with 1. An InputError would exit with 2 and say that the command was called in a wrong way.
        raise AlitError(f"{table} is not sound: make it again with alit {MAKERS[kind]}{again}.")
    same = f", those of {tokens}" if tokens and kind == "score table" else ""
    if not as_json:
        show(f"{table} is a sound {kind}: {rows} rows{same}.")
