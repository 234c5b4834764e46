"""`alit status`: how far a table is."""

from pathlib import Path

import click

from alit_cli.grouped_help import Command, example
from alit_cli.options import config_option, json_option, quiet_option


@click.command("status", cls=Command, epilog=example("alit status tokens.parquet"))
@click.argument("out", type=click.Path(path_type=Path), default="tokens.parquet")
@json_option
@quiet_option
@config_option
def command(out: Path, as_json: bool) -> None:
    """Say how far the table OUT of alit tokenize or alit score is [default: tokens.parquet], while it runs or after."""
    from alit_cli.console import print_json, say, show_table
    from alit_cli.runs.status import status

    found = status(out)
    if as_json:
        print_json({"out": out, "images_per_second": found.images_per_second, **vars(found)})
        return
    state = "finished" if found.finished else "unfinished"
    speed = found.images_per_second or None
    rows = [[found.done, found.images, f"{found.shards_done}/{found.shards}", speed, *found.statuses.values()]]
    show_table(f"{out}: {found.kind}, {state}", ["done", "images", "shards", "images/s", *found.statuses], rows)
    if found.seconds:
        times = [round(value, 1) for value in found.seconds.values()]
        names = [name if name != "seconds" else "in all" for name in found.seconds]
        show_table("seconds, all workers together", [*names, "peak MiB"], [[*times, found.memory]])
    for error in found.errors:
        say(error)
